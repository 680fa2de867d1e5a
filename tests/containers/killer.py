"""SIGKILL at a point of one's own choice: the interpreter's profiler tells of the points, the engine knows nothing.

Interface:
- `Killer(left)`: for a daemon; once `armed`, its process dies at the point of that number.
- `Trap`: shared by all processes that are forked from a launcher: `set(kind, point)`, `sprung`, `clear()`.
- `python -m tests.containers.killer FD ...`: the engine's launcher, with the trap that lies in FD.

Rules: a step begins and ends (both are points), and every change of a folder by the engine's own lines is a point; in
a launcher and in what is forked from it, a message that is sent, too, and each function of the launcher's own.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any

from glassdock import trace
from glassdock.runtime import launcher, messages

ENGINE = os.path.dirname(trace.__file__)
STEP = trace.span.__wrapped__.__code__  # type: ignore[attr-defined]
CHANGES = {os.rename, os.replace, os.unlink, os.rmdir, os.mkdir, os.symlink, os.link}
KINDS = ("launcher", "shim", "child", "exec")
_LAYOUT = struct.Struct("<iii")
_GET_NAME = 16


def is_point(frame: FrameType, event: str, argument: Any) -> bool:
    """A step, or a change of a folder."""
    if event == "c_call":
        return argument in CHANGES and frame.f_code.co_filename.startswith(ENGINE)
    return event == "call" and frame.f_code is STEP


@dataclass(slots=True)
class Killer:
    """SIGKILL to this process at the point of that number, once armed."""

    left: int
    armed: bool = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if self.armed and is_point(frame, event, argument):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Trap:
    """Kind of process (-1: none), number of points until it springs; in memory that forks share."""

    def __init__(self, descriptor: int = -1) -> None:
        self.descriptor = descriptor if descriptor >= 0 else os.memfd_create("trap")
        os.ftruncate(self.descriptor, mmap.PAGESIZE)
        self._memory = mmap.mmap(self.descriptor, mmap.PAGESIZE)
        if descriptor < 0:
            self.clear()

    def set(self, kind: str, point: int) -> None:
        _LAYOUT.pack_into(self._memory, 0, KINDS.index(kind), point, 0)

    def clear(self) -> None:
        _LAYOUT.pack_into(self._memory, 0, -1, 0, 0)

    @property
    def sprung(self) -> bool:
        return bool(_LAYOUT.unpack_from(self._memory)[2])

    def pass_by(self, kind: str) -> None:
        """A process of the kind is at a point."""
        wanted, left, sprung = _LAYOUT.unpack_from(self._memory)
        if wanted != KINDS.index(kind):
            return
        _LAYOUT.pack_into(self._memory, 0, wanted if left > 1 else -1, left - 1, left == 1)
        if left == 1 and not sprung:
            os.kill(os.getpid(), signal.SIGKILL)


class Hook:
    """The profiler's function in a launcher and in all that is forked from it."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap
        self._launcher = os.getpid()
        self._libc = ctypes.CDLL(None)
        self._name = ctypes.create_string_buffer(16)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        told = event in ("call", "return") and frame.f_code is messages.send.__code__
        own = event == "call" and frame.f_code.co_filename == launcher.__file__
        if told or own or is_point(frame, event, argument):
            kind = self._kind()
            if kind != "launcher" or own:
                self._trap.pass_by(kind)

    def _kind(self) -> str:
        pid = os.getpid()
        self._libc.prctl(_GET_NAME, self._name, 0, 0, 0)
        if self._name.value == b"glassdock-exec":
            return "exec"
        if pid == 1 or self._name.value == b"glassdock-init":
            return "child"
        return "launcher" if pid == self._launcher else "shim"


def main() -> None:
    """The engine's launcher."""
    trap = Trap(int(sys.argv.pop(1)))
    os.set_inheritable(trap.descriptor, False)
    sys.setprofile(Hook(trap))
    launcher.main()


if __name__ == "__main__":
    main()
