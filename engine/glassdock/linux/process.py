"""Small calls about this process that Python's os module lacks.

Interface: `close_range`, `setdomainname`, `personality`.

Sources: close_range(2), setdomainname(2), personality(2).
"""

from __future__ import annotations

from enum import IntFlag

from glassdock.linux import libc

_setdomainname = libc.function("setdomainname")
_personality = libc.function("personality")
_LAST = 0x7FFFFFFF


class CloseRange(IntFlag):
    """The flags of close_range(2)."""

    UNSHARE = 2
    CLOEXEC = 4


def close_range(first: int, last: int = _LAST, flags: CloseRange = CloseRange(0)) -> None:
    """close_range(2): close the descriptors from first to last, or mark them close-on-exec."""
    libc.syscall("close_range", 436, first, last, int(flags), shown=(first, last, flags))


def setdomainname(name: str) -> None:
    """setdomainname(2): the NIS domain name of this UTS namespace."""
    encoded = name.encode()
    libc.invoke("setdomainname", _setdomainname, encoded, len(encoded), shown=(name,))


def personality(persona: int) -> int:
    """personality(2): returns the one before."""
    return libc.invoke("personality", _personality, libc.ulong(persona), shown=(hex(persona),))
