"""SIGKILL at a point of one's own choice: the interpreter's profiler tells of the points, the engine knows nothing.

Interface: `Killer(left)`: once `armed`, its process dies at the point of that number.

Rules: a step begins and ends (both are points), and every change of a folder by the engine's own lines is a point.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from types import FrameType
from typing import Any

from glassdock import trace

ENGINE = os.path.dirname(trace.__file__)
STEP = trace.span.__wrapped__.__code__  # type: ignore[attr-defined]
CHANGES = {os.rename, os.replace, os.unlink, os.rmdir, os.mkdir, os.symlink, os.link}


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
