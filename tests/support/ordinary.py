"""An ordinary user, for tests that root runs: uid 21000, with a home, and with a range of ids or without.

Interface:
- `words(home, kind, *command)`: the command line that runs a command as that user.
- `UserDaemon(folder, kind)`: a `Daemon` that this user starts; `kind` is range or single, or root for the usual one.

Rules: nothing of the machine changes. The user is in files that are mounted over /etc/passwd, /etc/subuid and
/etc/subgid in a mount namespace of the command's own, where the machine's newuidmap finds them. Where the interpreter
or the clone is below a folder that the user may not enter, such as /root, it is mounted there again.

Sources: newuidmap(1), subuid(5), mount_namespaces(7).
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from glassdock.linux import clone, mount, prctl
from glassdock.linux.mount import AT_FDCWD, MountFlag, OpenTree
from tests.support.daemon import Daemon
from tests.support.tree import ROOT

USER = 21000
FIRST, COUNT = 300000, 65536


def words(home: Path, kind: str, *command: str) -> list[str]:
    """The command line that runs `command` as the user; `kind` is range or single."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.support.ordinary import main; main()"
    return [sys.executable, "-c", code, str(home), kind, *command]


class UserDaemon(Daemon):
    """A daemon of the user's, with its own root; the folder is the user's home."""

    def __init__(self, folder: Path, kind: str, *arguments: str) -> None:
        super().__init__(folder, *arguments)
        self.kind = kind
        if kind != "root":
            os.chown(folder, USER, USER)

    def command(self) -> list[str]:
        """The command line that starts it."""
        usual = super().command()
        return usual if self.kind == "root" else words(self.folder, self.kind, *usual)


def main() -> NoReturn:
    """What `words` runs."""
    become(Path(sys.argv[1]), sys.argv[2])
    os.execvp(sys.argv[3], sys.argv[3:])


def become(home: Path, kind: str) -> None:
    """This process is the user from here on; of kind `refused` it is in a user namespace that allows no other."""
    clone.unshare(clone.CloneFlag.NEWNS)
    mount.mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
    entry = f"learner:x:{USER}:{USER}::{home}:/bin/sh\n"
    _cover("/etc/passwd", Path("/etc/passwd").read_text() + entry)
    ranges = f"learner:{FIRST}:{COUNT}\n" if kind == "range" else ""
    for name in ("/etc/subuid", "/etc/subgid"):
        if Path(name).exists():
            _cover(name, ranges)
    for needed in (sys.base_prefix, sys.prefix, str(ROOT)):
        _reveal(needed)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    if kind == "refused":
        prctl.set_dumpable(True)  # which a change of user takes back, and the files in /proc/self with it
        clone.unshare(clone.CloneFlag.NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{USER} {USER} 1"), ("gid_map", f"{USER} {USER} 1")):
            Path("/proc/self", name).write_text(text)
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.environ.update(HOME=str(home), USER="learner", LOGNAME="learner")


def _cover(path: str, text: str) -> None:
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        os.chmod(file.name, 0o644)
        mount.mount(file.name, path, None, MountFlag.BIND)


def _reveal(folder: str) -> None:
    """Put an empty folder that everybody may enter over the highest one that not everybody may, `folder` in it."""
    for above in [*reversed(Path(folder).parents), Path(folder)]:
        if not above.stat().st_mode & 0o001:
            break
    else:
        return
    tree = mount.open_tree(AT_FDCWD, folder, OpenTree.CLONE | OpenTree.RECURSIVE)
    mount.mount("none", str(above), "tmpfs", MountFlag.NOSUID | MountFlag.NODEV, "mode=755")
    os.makedirs(folder, exist_ok=True)
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    mount.move_mount(tree, place)
    os.close(place)
    os.close(tree)
