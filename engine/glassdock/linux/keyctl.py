"""The kernel's key rings: a session of its own for a process, so that it does not have its caller's keys.

Interface: `join_session_keyring(name)`.

Source: keyctl(2), session-keyring(7)
"""

from __future__ import annotations

import os

from glassdock.linux import libc

_KEYCTL = {"x86_64": 250, "i686": 288, "aarch64": 219, "armv7l": 311, "riscv64": 219, "s390x": 280, "ppc64le": 271}
_JOIN_SESSION_KEYRING = 1


def join_session_keyring(name: str) -> int:
    """keyctl(KEYCTL_JOIN_SESSION_KEYRING): a new one of that name, or the one that has it; returns its number."""
    call = _KEYCTL[os.uname().machine]
    return libc.syscall("keyctl", call, _JOIN_SESSION_KEYRING, libc.string(name), shown=("JOIN_SESSION_KEYRING", name))
