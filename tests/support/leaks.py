"""What a test may leave behind on the machine, and how it is found out.

Interface:
- `Snapshot.take(session)`: what of this test session is on the machine now.
- `leaks(before, session, patience)`: one line for each thing that came since and did not go.

Rules: several engines run on one machine at the same time, other people's too. Only what carries this session's
folder (in a mount, a command line, an environment) or the tag of a root under it (interfaces, cgroups) is ours.
An engine that outlives a test is left out (`engine_roots`): its fixture checks it when it stops.
Source: proc(5), cgroups(7).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_HELPERS = ("resource_tracker", "multiprocessing.forkserver", "playwright/driver")


@dataclass(slots=True)
class Session:
    """The folder that everything of this test run lives in, and the roots of engines that outlive a test."""

    folder: Path
    engine_roots: list[str] = field(default_factory=list)

    @property
    def tmp(self) -> Path:
        """What TMPDIR points to."""
        return self.folder / "t"

    def tags(self) -> set[str]:
        """The tags (see glassdock.paths) of every root that a test can have made, without the session's engine."""
        found = {str(self.folder)}
        for folder, names, _ in os.walk(self.folder):
            found.update(f"{folder}/{name}" for name in names)
            if folder.count("/") - str(self.folder).count("/") >= 4:
                names.clear()
        found.difference_update(self.engine_roots)
        return {hashlib.sha256(os.fsencode(path)).hexdigest()[:8] for path in found}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was on the machine: each a set of short texts that name the thing."""

    mounts: frozenset[str]
    interfaces: frozenset[str]
    cgroups: frozenset[str]
    processes: frozenset[str]
    namespaces: frozenset[str]
    files: frozenset[str]

    @classmethod
    def take(cls, session: Session) -> Snapshot:
        """Look at the machine; cheap enough (half a millisecond) for before and after every test."""
        return cls(
            mounts=frozenset(_mounts("/proc/self/mountinfo", session)),
            interfaces=frozenset(os.listdir("/sys/class/net")),
            cgroups=frozenset(_cgroups()),
            processes=frozenset(name for name in os.listdir("/proc") if name.isdigit()),
            namespaces=frozenset(_namespaces()),
            files=frozenset(os.listdir(session.tmp)),
        )


def leaks(before: Snapshot, session: Session, patience: float = 3.0) -> list[str]:
    """What came since `before` and is still there after `patience` seconds, one line each."""
    deadline = time.monotonic() + patience
    while True:
        found = sorted(_differences(before, Snapshot.take(session), session))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _differences(before: Snapshot, after: Snapshot, session: Session) -> Iterator[str]:
    yield from (f"mount {mount}" for mount in after.mounts - before.mounts)
    yield from (f"temporary file {name}" for name in after.files - before.files)
    yield from (f"namespace held open: {name}" for name in after.namespaces - before.namespaces)
    interfaces, cgroups = after.interfaces - before.interfaces, after.cgroups - before.cgroups
    if interfaces or cgroups:
        tags = session.tags()
        yield from (f"interface {name}" for name in interfaces if _tagged(name, tags))
        yield from (f"cgroup {name}" for name in cgroups if _tagged(name, tags))
    for pid in after.processes - before.processes:
        if what := process_of(pid, session):
            yield f"process {pid}: {what}"


def _tagged(name: str, tags: set[str]) -> bool:
    return any(tag in name for tag in tags)


def process_of(pid: str, session: Session) -> str:
    """The command line of process `pid` if it is this session's (and not its engine's), else ""."""
    mark, engines = os.fsencode(session.folder), list(map(os.fsencode, session.engine_roots))
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if status[0] in "ZX" or int(pid) == os.getpid():
            return ""
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        seen = command + Path(f"/proc/{pid}/environ").read_bytes()
        if os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            seen += Path(f"/proc/{pid}/mountinfo").read_bytes()
    except OSError:
        return ""  # it ended meanwhile, or is not ours to look at
    text = command.replace(b"\0", b" ").decode(errors="replace").strip()
    if mark not in seen or any(engine in seen for engine in engines) or any(helper in text for helper in _HELPERS):
        return ""
    return text or "(no command line)"


def of_engine(root: Path, tag: str) -> list[str]:
    """What a stopped engine with this root left on the machine, one line each."""
    found = [f"mount {line}" for line in _mounts("/proc/self/mountinfo", Session(root))]
    found += [f"interface {name}" for name in os.listdir("/sys/class/net") if tag in name]
    found += [f"cgroup {name}" for name in _cgroups() if tag in name]
    session = Session(root)
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    return found + [f"process {pid}: {what}" for pid in pids if (what := process_of(pid, session))]


def _mounts(table: str, session: Session) -> Iterator[str]:
    mark = str(session.folder)
    for line in Path(table).read_text().splitlines():
        if mark in line:
            yield line.split()[4]


def _cgroups() -> Iterator[str]:
    """Our cgroups and those in them, by path; on version 1 in every hierarchy."""
    for pattern in ("glassdock*", "*/glassdock*"):
        for parent in CGROUPS.glob(pattern):
            yield str(parent)
            with contextlib.suppress(FileNotFoundError):  # another engine's, gone since the glob
                yield from (entry.path for entry in os.scandir(parent) if entry.is_dir())


def _namespaces() -> Iterator[str]:
    """Namespaces that this process keeps alive: open descriptors, and threads that moved to another one."""
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue  # the descriptor of this listing itself
        if target.startswith(("net:[", "mnt:[", "pid:[", "user:[", "ipc:[", "uts:[", "cgroup:[")):
            yield f"descriptor {entry} of {target}"
    own = os.readlink("/proc/self/ns/net")
    for thread in os.listdir("/proc/self/task"):
        try:
            other = os.readlink(f"/proc/self/task/{thread}/ns/net")
        except OSError:
            continue  # the thread ended meanwhile
        if other != own:
            yield f"thread {thread} in {other}"
