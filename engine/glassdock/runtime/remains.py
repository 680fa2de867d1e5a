"""What a shim holds while it lives, and how what it could not clear away is cleared.

Interface:
- `hold(run_dir)`: by the shim, for its life. `settle(run_dir)`: wait until it is gone, and all of it with it.
- `bury(run_dir)`: after a shim that was killed: clear up, and say how the container ended.
- `holder(run_dir)`: the shim's process number. `short_path(folder)`: a name that fits into a socket's address.

Rules: a shim tells the end of its container first and clears up after that, so whoever uses a run folder or a cgroup
again, or removes them, settles before. The lock is the kernel's and goes with the process, however that ends.

Source: flock(2), proc_locks(5).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from glassdock.paths import atomic_write, forget_halves
from glassdock.runtime import cgroups
from glassdock.runtime.messages import ExitStatus

_PATIENCE = 10.0  # seconds for a shim that does not answer and has not ended; a start takes milliseconds
POOL_PREFIX = "ready-"  # the name of a group whose shim waits for an order


class ShimRecord(msgspec.Struct, frozen=True):
    """shim.json: enough to clear up after a shim that was killed."""

    shim: int
    cgroup: str
    started_at_ns: int


def hold(run_dir: Path) -> int:
    """Lock the folder until this process ends; the descriptor is not for closing."""
    descriptor = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def settle(run_dir: Path) -> None:
    """Wait until the shim of an ended container is gone; clear what it left if it was killed. May take a while."""
    try:
        descriptor = hold(run_dir)
    except FileNotFoundError:
        return
    try:
        _clear(run_dir)
    finally:
        os.close(descriptor)


def settled(run_dir: Path) -> bool:
    """True where there is nothing to wait for and nothing to clear."""
    return not (run_dir / "shim.json").exists()


def bury(run_dir: Path, *, record: bool = True) -> ExitStatus:
    """Clear up after a shim that was killed: its child died with it (PDEATHSIG), the rest is in the cgroup.

    `record`: write down how the container ended, if the shim could not.
    """
    exit_file = run_dir / "exit.json"
    with _left(run_dir):
        if exit_file.exists():
            status = msgspec.json.decode(exit_file.read_bytes(), type=ExitStatus)
        else:
            found = _record(run_dir)
            started = found.started_at_ns if found else 0
            status = ExitStatus(137, False, time.time_ns(), started, "the container's shim was killed")
            if record and found:  # else it took its start back itself
                atomic_write(exit_file, msgspec.json.encode(status), sync=False)
        _clear(run_dir)
    return status


@contextlib.contextmanager
def _left(run_dir: Path) -> Iterator[None]:
    """Hold a folder whose shim does not answer: it is dead, or still on its way to its end, or is ended here."""
    descriptor = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                deadline += _PATIENCE
                if pid := holder(run_dir):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(run_dir: Path) -> int:
    """The process that holds the folder, 0 for none; for the rare case that it has to be ended."""
    found = os.stat(run_dir)
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with open("/proc/locks", encoding="ascii") as file:
        rows = [line.split() for line in file]
    return next((int(row[4]) for row in rows if row[1] == "FLOCK" and row[5] == place), 0)


def _record(run_dir: Path) -> ShimRecord | None:
    try:
        return msgspec.json.decode((run_dir / "shim.json").read_bytes(), type=ShimRecord)
    except FileNotFoundError:
        return None


def _clear(run_dir: Path) -> None:
    found = _record(run_dir)
    if found and found.cgroup:
        cgroups.open_cgroup(found.cgroup).remove()
    for name in ("shim.sock", "shim.json"):
        (run_dir / name).unlink(missing_ok=True)
    forget_halves(run_dir)


@contextlib.contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """A name for the folder that fits into a socket address (108 bytes, unix(7)), whatever its length."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
