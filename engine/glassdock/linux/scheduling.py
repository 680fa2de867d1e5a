"""When a process runs, where its memory comes from, and how urgent its input and output are.

Interface: `sched_setattr`, `ioprio_set`, `set_mempolicy`, and the words for their numbers.

Sources: sched_setattr(2), ioprio_set(2), set_mempolicy(2).
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterable
from enum import IntEnum, IntFlag

from glassdock.linux import libc

_GENERIC = {"sched_setattr": 274, "ioprio_set": 30, "set_mempolicy": 237}
_NUMBERS = {
    "x86_64": {"sched_setattr": 314, "ioprio_set": 251, "set_mempolicy": 238},
    "s390x": {"sched_setattr": 345, "ioprio_set": 282, "set_mempolicy": 270},
    "ppc64le": {"sched_setattr": 355, "ioprio_set": 273, "set_mempolicy": 261},
    "armv7l": {"sched_setattr": 380, "ioprio_set": 314, "set_mempolicy": 321},
    "i686": {"sched_setattr": 351, "ioprio_set": 289, "set_mempolicy": 276},
}
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13


class Policy(IntEnum):
    """The scheduling policies of sched_setattr(2)."""

    SCHED_OTHER = 0
    SCHED_FIFO = 1
    SCHED_RR = 2
    SCHED_BATCH = 3
    SCHED_ISO = 4
    SCHED_IDLE = 5
    SCHED_DEADLINE = 6


class SchedFlag(IntFlag):
    """The flags of sched_setattr(2)."""

    SCHED_FLAG_RESET_ON_FORK = 0x01
    SCHED_FLAG_RECLAIM = 0x02
    SCHED_FLAG_DL_OVERRUN = 0x04
    SCHED_FLAG_KEEP_POLICY = 0x08
    SCHED_FLAG_KEEP_PARAMS = 0x10
    SCHED_FLAG_UTIL_CLAMP_MIN = 0x20
    SCHED_FLAG_UTIL_CLAMP_MAX = 0x40


class IOClass(IntEnum):
    """The classes of ioprio_set(2)."""

    IOPRIO_CLASS_RT = 1
    IOPRIO_CLASS_BE = 2
    IOPRIO_CLASS_IDLE = 3


class MemoryMode(IntEnum):
    """The modes of set_mempolicy(2)."""

    MPOL_DEFAULT = 0
    MPOL_PREFERRED = 1
    MPOL_BIND = 2
    MPOL_INTERLEAVE = 3
    MPOL_LOCAL = 4
    MPOL_PREFERRED_MANY = 5
    MPOL_WEIGHTED_INTERLEAVE = 6


class MemoryFlag(IntFlag):
    """The mode flags of set_mempolicy(2)."""

    MPOL_F_NUMA_BALANCING = 1 << 13
    MPOL_F_RELATIVE_NODES = 1 << 14
    MPOL_F_STATIC_NODES = 1 << 15


class _Attributes(libc.Struct):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    ]


def sched_setattr(
    policy: Policy,
    *,
    flags: int = 0,
    nice: int = 0,
    priority: int = 0,
    runtime: int = 0,
    deadline: int = 0,
    period: int = 0,
) -> None:
    """sched_setattr(2) for this thread; `flags` as in SchedFlag, times in nanoseconds."""
    wanted = _Attributes(0, policy, flags, nice, priority, runtime, deadline, period)
    wanted.size = libc.size(wanted)
    shown = (0, policy, SchedFlag(flags), f"nice={nice} priority={priority}")
    libc.syscall("sched_setattr", _number("sched_setattr"), 0, libc.address(wanted), 0, shown=shown)


def ioprio_set(kind: IOClass, level: int) -> None:
    """ioprio_set(2) for this thread; level 0 is the most urgent, 7 the least."""
    value = kind << _IOPRIO_CLASS_SHIFT | level
    shown = ("IOPRIO_WHO_PROCESS", 0, kind, level)
    libc.syscall("ioprio_set", _number("ioprio_set"), _IOPRIO_WHO_PROCESS, 0, value, shown=shown)


def set_mempolicy(mode: MemoryMode, nodes: Iterable[int] = (), flags: int = 0) -> None:
    """set_mempolicy(2) for this thread and its children; `flags` as in MemoryFlag."""
    there = sorted(set(nodes))
    words = (ctypes.c_ulong * ((max(there, default=0) >> 6) + 1))()
    for node in there:
        words[node >> 6] |= 1 << (node & 63)
    # The kernel takes one bit less than it is told.
    count = len(words) * 64 + 1 if there else 0
    mask = libc.address(words) if there else None
    shown = (mode, MemoryFlag(flags), there)
    libc.syscall("set_mempolicy", _number("set_mempolicy"), mode | flags, mask, count, shown=shown)


def _number(name: str) -> int:
    return _NUMBERS.get(platform.machine(), _GENERIC)[name]
