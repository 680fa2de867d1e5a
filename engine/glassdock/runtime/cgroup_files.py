"""What both versions of control groups have in common: the layout, and control files.

Interface:
- `Layout`: which hierarchies this machine has.
- `write`, `set_limit`, `most_processes`, `read`, `read_number`, `read_table`: one control file.
- `hold`, `leave`, `leave_above`: the group above all containers of an engine.
- `remove_tree`, `members`, `groups`: one group's folder with all that is in it.

Rules: a limit that this kernel has no file for is a warning; a limit that the kernel refuses raises StartFailed.

Source: cgroups(7).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from glassdock.errors import StartFailed
from glassdock.runtime.stage import reason

_ENGINES = re.compile(r"glassdock(-[0-9a-f]{8})?")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the hierarchies are. `v1` maps a folder's name (`memory`, `cpu,cpuacct`) to (folder, controllers)."""

    v1: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    unified: str = ""

    @property
    def version(self) -> str:
        """`v1`, `v2`, `hybrid` (v1, and a v2 beside it without controllers of interest) or `none`."""
        if self.v1:
            return "hybrid" if self.unified else "v1"
        return "v2" if self.unified else "none"

    @property
    def names(self) -> tuple[str, ...]:
        """The hierarchies as a container sees them in /sys/fs/cgroup; one without a name is that folder itself."""
        return tuple(name for name, _, _ in self.v1) or (("",) if self.unified else ())


def write(folder: str, name: str, value: str | int) -> None:
    """Write one value into a control file; raises OSError."""
    file = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, str(value).encode())
    finally:
        os.close(file)


def set_limit(folder: str, name: str, value: str | int, warnings: list[str]) -> None:
    """Write a limit; a file that this kernel lacks becomes a warning, a refusal raises StartFailed."""
    try:
        write(folder, name, value)
    except FileNotFoundError:
        warnings.append(f"this kernel has no {name}; the limit was discarded")
    except OSError as error:
        raise StartFailed(f"failed to write {value!r} to {name}: {reason(error)}", errno=error.errno or 0) from error


def most_processes(limit: int) -> int | str:
    """What pids.max takes: 0 would let nobody in, so it is the one that is there, as with runc; less is no limit."""
    return "max" if limit < 0 else limit or 1


def read(folder: str, name: str) -> str:
    """The text of a control file, "" where this kernel lacks it."""
    try:
        with open(f"{folder}/{name}", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:  # not there, or the group has just been removed (ENODEV)
        return ""


def read_number(folder: str, name: str, default: int = 0) -> int:
    """The number in a control file; `max` and what is absent are the default."""
    text = read(folder, name)
    return int(text) if text.lstrip("-").isdigit() else default


def read_table(folder: str, name: str) -> dict[str, int]:
    """A file of `key value` lines."""
    rows = (line.split() for line in read(folder, name).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def remove_tree(folder: str, deadline: float) -> None:
    """rmdir the group's folder and those inside, deepest first; waits for the kernel to let go of dead members."""
    try:
        inner = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for path in inner:
        remove_tree(path, deadline)
    while True:
        try:
            os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.002)


def hold(folder: str) -> int:
    """Lock an engine's group for as long as the descriptor is open. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def leave(folders: Sequence[str]) -> None:
    """Remove an engine's group, given as its folder in each hierarchy, unless it is held or somebody is in it."""
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folders[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
        for folder in folders:
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:
                return  # somebody is in it, and so in all hierarchies


def leave_above(path: str, tops: Sequence[str]) -> None:
    """After the removal of a container's group: the same for the group above, where that is an engine's."""
    above = os.path.dirname(path)
    if _ENGINES.fullmatch(os.path.basename(above)):
        leave([top + above for top in tops])


def groups(folder: str) -> Iterator[str]:
    """The group's folder and those inside it, which a container may have made."""
    for path, _, _ in os.walk(folder):
        yield path


def members(folder: str) -> list[int]:
    """The processes in the group and in those inside it."""
    found: list[int] = []
    for path in groups(folder):
        found += [int(line) for line in read(path, "cgroup.procs").split()]
    return found
