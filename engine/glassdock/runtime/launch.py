"""The daemon's side of a launch: ask the launcher for a container, and hold what comes back.

Interface:
- `Launcher.start(paths)`, `.launch(request, netns=..., attach=...)`, `.close()`.
- `Process`: `.pid`, `.spans`, `wait()`, `signal()`, `attach()`, `resize()`.
- `reconnect(run_dir)`: after a daemon's restart, the `Process`, or the `ExitStatus` if it has ended.

Rules: nothing here forks. A launch that fails has left nothing behind when it raises.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from glassdock.oci.runtime import Spec
from glassdock.paths import Paths
from glassdock.trace import Span
from glassdock.unionfs.mounts import Mount


class LaunchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a launch needs, as values; descriptors are passed beside it.

    `user` is Docker's `name|uid[:group|gid]`, looked up in the container's own /etc/passwd and /etc/group; empty
    means the numbers in `spec.process.user`. `groups` are added ones, by name or number. HOME is set from the entry
    where the environment has none. `log_path` is the json-file, "" for none. A terminal is `spec.process.terminal`.
    """

    id: str
    run_dir: str
    spec: Spec
    root: Mount
    user: str = ""
    groups: tuple[str, ...] = ()
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    syscalls: bool = False


@dataclass(frozen=True, slots=True)
class Attach:
    """A client that is there before the process starts: the shim's end of a stream socketpair, given away here."""

    fd: int
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


class ExitStatus(msgspec.Struct, frozen=True):
    """How it ended: 128+n by signal n; times are wall-clock nanoseconds."""

    code: int
    oom_killed: bool
    finished_at_ns: int
    started_at_ns: int = 0
    error: str = ""


@dataclass(slots=True)
class Process:
    """A container's first process, seen from the daemon."""

    id: str
    run_dir: Path
    pid: int
    started_at_ns: int
    spans: list[Span] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    async def wait(self) -> ExitStatus:
        """Until it has ended and its output is written."""
        raise NotImplementedError

    async def signal(self, number: int) -> None:
        """Send a signal to the first process."""
        raise NotImplementedError

    async def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> socket.socket:
        """A non-blocking stream socket: out comes what the process writes from now on (framed unless a terminal)."""
        raise NotImplementedError

    async def resize(self, height: int, width: int) -> None:
        """Set the terminal's size in characters."""
        raise NotImplementedError


class Launcher:
    """The connection to the launcher process."""

    @classmethod
    async def start(cls, paths: Paths) -> Launcher:
        """Start the launcher process; also clears what a killed one left."""
        raise NotImplementedError

    async def close(self) -> None:
        """End the launcher process; containers and their shims live on."""
        raise NotImplementedError

    async def launch(self, request: LaunchRequest, *, netns: int | None, attach: Sequence[Attach] = ()) -> Process:
        """Start a container. Raises InvalidParameter, StartFailed, CommandNotFound, CommandNotExecutable."""
        raise NotImplementedError


async def reconnect(run_dir: Path) -> Process | ExitStatus:
    """The process whose shim lives in `run_dir`, or how it ended; clears what a killed shim left."""
    raise NotImplementedError
