"""The keeper of the way out: starts the program that is the way, and ends it when nobody needs it any more.

Interface: `python -m glassdock.network.keeper LOCK NAMESPACE DEVICE CABLES LOG PROGRAM...` prints "open" once a default
route leads through DEVICE, or what the program said when it ended; then it stays, in the background.

Rules: daemons die and containers go on, so no daemon is its parent. A daemon holds LOCK shared as long as it lives; the
keeper waits for it, and goes when it has it and no interface is left whose name begins with CABLES. The program dies
with its keeper. One thread, few imports: it lives long.
Source: flock(2), PR_SET_PDEATHSIG in prctl(2).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from typing import NoReturn

from glassdock.linux.clone import CloneFlag, setns
from glassdock.linux.prctl import set_parent_death_signal

_PATIENCE = 5.0
_BETWEEN = 1.0  # seconds between two looks at the cables once no daemon lives
_ROUTES = "/proc/thread-self/net/route"


class Ended(Exception):
    """The program has ended."""


def is_open(device: str) -> bool:
    """Whether a default route leads through `device`, in the calling thread's namespace."""
    with open(_ROUTES, encoding="ascii") as table:
        return any(line.startswith(f"{device}\t00000000\t") for line in table)


def main() -> None:
    """Print one line when it is decided whether the way is open; the keeper stays behind."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.close(reading)
        _keep(writing, *sys.argv[1:6], program=sys.argv[6:])
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as told:
        sys.stdout.write(told.read())


def _keep(told: int, lock: str, namespace: str, device: str, cables: str, log: str, *, program: list[str]) -> None:
    signal.signal(signal.SIGCHLD, _raise_ended)
    child = 0
    said = "it did not open within 5 s"
    try:
        held = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        child = _start(program, log)
        target = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        setns(target, CloneFlag.NEWNET)
        os.close(target)
        deadline = time.monotonic() + _PATIENCE
        while not (opened := is_open(device)) and time.monotonic() < deadline:
            time.sleep(0.02)
        if opened:
            said = ""
            os.write(told, b"open\n")
            os.close(told)
            _until_nobody_needs_it(held, cables)
    except Ended:
        child = 0
        with open(log, encoding="utf-8", errors="replace") as lines:
            said = said and (lines.read()[-500:].strip() or "nothing, and ended")
    except OSError as error:
        said = str(error)
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if child:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
        if said:
            os.write(told, said.encode())


def _start(program: list[str], log: str) -> int:
    child = os.fork()
    if child == 0:
        _become(program, log)
    return child


def _become(program: list[str], log: str) -> NoReturn:
    # Python ignores SIGPIPE; pasta does not start where it is ignored.
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    set_parent_death_signal(signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    with contextlib.suppress(OSError):
        os.execv(program[0], program)
    os._exit(127)


def _until_nobody_needs_it(lock: int, cables: str) -> None:
    """Wait until no daemon lives and no container is plugged in; then the lock is held."""
    while True:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not any(name.startswith(cables) for _, name in socket.if_nameindex()):
            return
        # The next daemon must get it while containers run on.
        fcntl.flock(lock, fcntl.LOCK_UN)
        time.sleep(_BETWEEN)


def _raise_ended(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    raise Ended


if __name__ == "__main__":
    main()
