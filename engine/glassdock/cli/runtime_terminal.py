"""The terminal of a foreground container: what one side writes the other reads, until the program has ended.

Interface: `relay(pid, outer)`: returns how the process ended (waitpid's status). `leave_newlines(outer)`: before the
program begins.

Rules: the caller's terminal is raw meanwhile and what it was afterwards, whatever happens. Its size is the container's,
also when it changes. What the program wrote last is shown before the relay ends.

Source: termios(3), ioctl_tty(2), pidfd_open(2)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import termios
import tty

from glassdock.runtime import terminal

_CHUNK = 65536
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGQUIT)


def relay(pid: int, outer: int) -> int:
    """Carry bytes both ways until the process has ended."""
    mine = next((number for number in (0, 1, 2) if os.isatty(number)), -1)
    ended = os.pidfd_open(pid)

    def resize(*_: object) -> None:
        if mine >= 0:
            size = fcntl.ioctl(mine, termios.TIOCGWINSZ, bytes(8))
            rows, columns = int.from_bytes(size[:2], "little"), int.from_bytes(size[2:4], "little")
            if rows and columns:
                terminal.resize(outer, rows, columns)

    for number in _PASSED_ON:
        signal.signal(number, lambda received, _: signal.pidfd_send_signal(ended, received))
    signal.signal(signal.SIGWINCH, resize)
    resize()
    before = termios.tcgetattr(mine) if mine >= 0 else None
    try:
        if mine >= 0:
            _make_raw(mine)
        return _carry(pid, outer, ended)
    finally:
        if before is not None:
            termios.tcsetattr(mine, termios.TCSADRAIN, before)
        os.close(ended)
        os.close(outer)


def _make_raw(mine: int) -> None:
    """Raw, but for the newlines of what is shown."""
    tty.setraw(mine)
    settings = termios.tcgetattr(mine)
    settings[1] |= termios.OPOST
    termios.tcsetattr(mine, termios.TCSANOW, settings)


def leave_newlines(outer: int) -> None:
    r"""The caller's terminal turns \n into \r\n itself, and a file wants what the program wrote."""
    settings = termios.tcgetattr(outer)
    settings[1] &= ~termios.ONLCR
    termios.tcsetattr(outer, termios.TCSANOW, settings)


def _carry(pid: int, outer: int, ended: int) -> int:
    poll = select.poll()
    for number in (0, outer, ended):
        poll.register(number, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            if number == 0:
                data = _read(0)
                if data:
                    _write(outer, data)
                else:
                    _write(outer, b"\x04")  # the end of input, as a terminal says it
                    poll.unregister(0)
            elif number == outer:
                data = _read(outer)
                if data:
                    _write(1, data)
                else:
                    poll.unregister(outer)  # nobody holds the inner end any more
            else:
                _drain(outer)
                return os.waitpid(pid, 0)[1]


def _drain(outer: int) -> None:
    """What is left in the terminal."""
    os.set_blocking(outer, False)
    while data := _read(outer):
        _write(1, data)


def _read(number: int) -> bytes:
    """Some bytes; none at the end, which a terminal tells as EIO."""
    try:
        return os.read(number, _CHUNK)
    except OSError:
        return b""


def _write(number: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the other side is gone, which the poll tells
        while data:
            data = data[os.write(number, data) :]
