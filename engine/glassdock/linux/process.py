"""Small calls about this process that Python's os module lacks.

Interface: `close_range`, `pidfd_getfd`, `setdomainname`, `personality`, `rt_sigaction`.

Sources: close_range(2), pidfd_getfd(2), setdomainname(2), personality(2), rt_sigaction(2).
"""

from __future__ import annotations

import os
from enum import IntFlag

from glassdock.linux import libc

_setdomainname = libc.function("setdomainname")
_personality = libc.function("personality")
_LAST = 0x7FFFFFFF
_RT_SIGACTION = {"x86_64": 13, "i686": 174, "aarch64": 134, "riscv64": 134, "armv7l": 174}
_SIGSET_SIZE = 8


class CloseRange(IntFlag):
    """The flags of close_range(2)."""

    UNSHARE = 2
    CLOEXEC = 4


def close_range(first: int, last: int = _LAST, flags: CloseRange = CloseRange(0)) -> None:
    """close_range(2): close the descriptors from first to last, or mark them close-on-exec."""
    libc.syscall("close_range", 436, first, last, int(flags), shown=(first, last, flags))


def pidfd_getfd(pidfd: int, number: int) -> int:
    """pidfd_getfd(2): a copy of a descriptor of another process, close-on-exec."""
    return libc.syscall("pidfd_getfd", 438, pidfd, number, 0, shown=(pidfd, number))


def setdomainname(name: str) -> None:
    """setdomainname(2): the NIS domain name of this UTS namespace."""
    encoded = name.encode()
    libc.invoke("setdomainname", _setdomainname, encoded, len(encoded), shown=(name,))


def personality(persona: int) -> int:
    """personality(2): returns the one before."""
    return libc.invoke("personality", _personality, libc.ulong(persona), shown=(hex(persona),))


def rt_sigaction(number: int) -> None:
    """rt_sigaction(2): the default action for a signal, also for 32 and 33, which the C library keeps to itself."""
    default = bytes(64)  # struct sigaction on every architecture: SIG_DFL is a null pointer, no flags, an empty mask
    call = _RT_SIGACTION[os.uname().machine]
    libc.syscall("rt_sigaction", call, number, default, None, _SIGSET_SIZE, shown=(number, "SIG_DFL"))
