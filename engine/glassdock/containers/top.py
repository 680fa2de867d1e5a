"""The processes of a container as `ps` lists them, read from the machine's /proc.

Interface: `table(pids, arguments)` → (titles, rows). `processes(container, tag)`: the container's, in the machine's
numbers.

Rules: no `ps` is needed, on the machine or in the container: the columns of `ps -ef`, and with `o`/`-o` those named.

Source: proc_pid_stat(5), ps(1)
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import time
from collections.abc import Callable
from dataclasses import dataclass

from glassdock.containers import spec
from glassdock.containers.model import Container
from glassdock.errors import InvalidParameter
from glassdock.runtime import cgroups

_FULL = ("uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Process:
    """What /proc says of one process; times in clock ticks."""

    pid: int
    uid: int
    name: str
    arguments: str
    fields: tuple[str, ...]

    @property
    def used(self) -> int:
        return (int(self.fields[11]) + int(self.fields[12])) // _TICKS

    @property
    def started(self) -> float:
        return _booted() + int(self.fields[19]) / _TICKS


def processes(container: Container, tag: str) -> list[int]:
    """The numbers of its processes, ascending."""
    if cgroups.unavailable():
        return _in_namespace(container.state.pid)
    return sorted(set(cgroups.open_cgroup(spec.cgroup_of(container.id, tag)).pids()))


def _in_namespace(first: int) -> list[int]:
    """Those in the PID namespace of a container's first process: all of them, unless the namespace is the machine's."""
    own = os.stat(f"/proc/{first}/ns/pid").st_ino
    if own == os.stat("/proc/self/ns/pid").st_ino:
        return [first]
    found = []
    for name in os.listdir("/proc"):
        # A process of another user's, or one that ended meanwhile, is none of ours.
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}/ns/pid").st_ino == own:
                found.append(int(name))
    return sorted(found)


def table(pids: list[int], arguments: str) -> tuple[list[str], list[list[str]]]:
    """Titles and rows. Raises InvalidParameter for arguments other than -ef and -o COLUMN,COLUMN."""
    columns = _columns(arguments.split())
    found = [process for process in map(_read, pids) if process]
    return [_COLUMNS[name][0] for name in columns], [[_COLUMNS[name][1](one) for name in columns] for one in found]


def _columns(words: list[str]) -> tuple[str, ...]:
    if not words or words in (["-ef"], ["-e", "-f"], ["ef"]):
        return _FULL
    names = [name for word in words[1:] for name in word.split(",") if name]
    if words[0] in ("o", "-o", "-eo", "-axo", "axo") and names and all(name in _COLUMNS for name in names):
        return tuple(names)
    raise InvalidParameter(f"ps arguments {' '.join(words)!r} are not supported", f"-ef, or -o {','.join(_COLUMNS)}.")


def _read(pid: int) -> _Process | None:
    """None for one that has ended meanwhile."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            head, _, rest = file.read().rpartition(")")
        with open(f"/proc/{pid}/cmdline", "rb") as raw:
            words = raw.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        uid = os.stat(f"/proc/{pid}").st_uid
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _Process(pid, uid, head.partition("(")[2], words, tuple(rest.split()))


@functools.cache
def _booted() -> float:
    with open("/proc/stat", encoding="utf-8") as file:
        return next(float(line.split()[1]) for line in file if line.startswith("btime "))


def _user(process: _Process) -> str:
    try:
        return pwd.getpwuid(process.uid).pw_name
    except KeyError:
        return str(process.uid)


def _terminal(process: _Process) -> str:
    device = int(process.fields[4])
    major, minor = os.major(device), os.minor(device)
    return f"pts/{(major - 136) * 256 + minor}" if 136 <= major <= 143 else "?"


def _since(process: _Process) -> str:
    form = "%H:%M" if time.time() - process.started < 86400 else "%b%d"
    return time.strftime(form, time.localtime(process.started))


def _duration(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _share(process: _Process) -> str:
    return str(min(99, int(100 * process.used / max(1.0, time.time() - process.started))))


_COLUMNS: dict[str, tuple[str, Callable[[_Process], str]]] = {
    "uid": ("UID", _user),
    "user": ("USER", _user),
    "pid": ("PID", lambda process: str(process.pid)),
    "ppid": ("PPID", lambda process: process.fields[1]),
    "c": ("C", _share),
    "stime": ("STIME", _since),
    "tty": ("TTY", _terminal),
    "time": ("TIME", lambda process: _duration(process.used)),
    "cmd": ("CMD", lambda process: process.arguments or f"[{process.name}]"),
    "args": ("COMMAND", lambda process: process.arguments or f"[{process.name}]"),
    "comm": ("COMMAND", lambda process: process.name),
    "stat": ("STAT", lambda process: process.fields[0]),
}
