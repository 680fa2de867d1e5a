"""The same tests in every mode: as root, in a user namespace with a range of ids or a single one, with copied roots.

Interface:
- `python -m tests.support.modes range|single COMMAND...` is COMMAND in a user namespace; `words(...)` is that line.
- `driver(paths)`: the driver of roots under test; `DRIVER` names the variable that chooses it.
- `status(path)`: a file's status with the owner that a layer made of it would have.

Rules: the namespace's root is the user who runs the tests, so that it may read the clone wherever that is; the other
ids are none of the machine's users.

Source: user_namespaces(7)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from glassdock.linux.clone import CloneFlag, unshare
from glassdock.paths import Paths
from glassdock.unionfs import ownership
from glassdock.unionfs.copy import Copy
from glassdock.unionfs.drivers import Driver, Overlay

DRIVER = "TESTED_DRIVER"
_RANGE = "0 0 1\n1 300000 65535"
_SINGLE = "0 0 1"


def words(kind: str, *command: str) -> list[str]:
    """The command line that runs `command` in a user namespace; `kind` is range, single or root for none."""
    return [*command] if kind == "root" else [sys.executable, "-m", "tests.support.modes", kind, *command]


def driver(paths: Paths) -> Driver:
    """Overlay, unless the environment asks for copies."""
    tmp = paths.layers / "tmp"
    return Copy(tmp) if os.environ.get(DRIVER) == "copy" else Overlay()


def status(path: Path | str) -> os.stat_result:
    """Of the file itself, no link followed."""
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        return ownership.seen_node(os.path.basename(path), directory, os.lstat(path))
    finally:
        os.close(directory)


def enter(kind: str) -> None:
    """This process is root of a new user and mount namespace; a child writes the map from outside."""
    ready, go = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(ready, 1)
        if kind == "single":
            Path(f"/proc/{parent}/setgroups").write_text("deny")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{parent}/{name}").write_text(_RANGE if kind == "range" else _SINGLE)
        os._exit(0)
    os.close(ready)
    unshare(CloneFlag.NEWUSER | CloneFlag.NEWNS)
    os.close(go)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit("the id map cannot be written")


if __name__ == "__main__":
    enter(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
