"""Installing a compiled filter of system calls: seccomp(2).

Interface: `set_mode_filter(program, flags)`: `program` is BPF as the kernel takes it, eight bytes an instruction.

Rules: needs CAP_SYS_ADMIN or no-new-privileges. There is no way back.

Source: seccomp(2).
"""

from __future__ import annotations

import ctypes
import platform
from enum import IntFlag

from glassdock.linux import libc

_NUMBERS = {"x86_64": 317, "aarch64": 277, "riscv64": 277, "armv7l": 383, "i686": 354, "ppc64le": 358, "s390x": 348}
_SET_MODE_FILTER = 1


class FilterFlag(IntFlag):
    """The flags of SECCOMP_SET_MODE_FILTER."""

    TSYNC = 1
    LOG = 2
    SPEC_ALLOW = 4
    NEW_LISTENER = 8
    WAIT_KILLABLE_RECV = 32


class _Program(libc.Struct):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def set_mode_filter(program: bytes, flags: FilterFlag = FilterFlag(0)) -> int:
    """Install the filter for this thread; returns the listener's descriptor with NEW_LISTENER, else 0."""
    packed = _Program(len(program) // 8, program)
    arguments = (_SET_MODE_FILTER, int(flags), libc.address(packed))
    shown = ("SECCOMP_SET_MODE_FILTER", flags, f"{packed.length} instructions")
    return libc.syscall("seccomp", _NUMBERS[platform.machine()], *arguments, shown=shown)
