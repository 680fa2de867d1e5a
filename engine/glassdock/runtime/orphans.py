"""What a container leaves running where neither a PID namespace nor a cgroup holds it together: the shim's descendants.

Interface: `end(reap)`: kill every child of this process and all that come to it by that, until there is none.

Rules: for a process that is a subreaper, so that whoever loses his parent below it becomes its child.

Source: PR_SET_CHILD_SUBREAPER(2const), proc_pid_stat(5)
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

_PATIENCE = 5.0


def end(reap: Callable[[], None]) -> None:
    """Kill all below; `reap` collects the dead. Raises TimeoutError where one does not die."""
    deadline = time.monotonic() + _PATIENCE
    while children := _children():
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap()
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {children} do not end")
        time.sleep(0.002)


def _children() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(name) == os.getpid()]


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it ended meanwhile
