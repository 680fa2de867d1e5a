"""The capability sets of this process: capget(2), capset(2), and the capabilities' numbers.

Interface:
- `NUMBERS`: CAP_CHOWN → 0 and so on, in the kernel's order.
- `capget()`: (effective, permitted, inheritable) as sets of bits; `capset(...)` sets them.

Sources: capset(2), capabilities(7), linux/capability.h.
"""

from __future__ import annotations

import ctypes

from glassdock.linux import libc

_capget = libc.function("capget")
_capset = libc.function("capset")
_VERSION_3 = 0x20080522

NUMBERS = {
    f"CAP_{name}": number
    for number, name in enumerate(
        """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
        NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
        SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
        MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE""".split()
    )
}


class _Header(libc.Struct):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Half(libc.Struct):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def capget() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of this thread, a bit a capability."""
    header, halves = _Header(_VERSION_3, 0), (_Half * 2)()
    libc.invoke("capget", _capget, libc.address(header), halves, shown=(0,))
    low, high = halves
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set all three; raises OSError (EPERM) for a permitted one that is not held."""
    header, halves = _Header(_VERSION_3, 0), (_Half * 2)()
    for shift, half in zip((0, 32), halves, strict=True):
        half.effective = effective >> shift & 0xFFFFFFFF
        half.permitted = permitted >> shift & 0xFFFFFFFF
        half.inheritable = inheritable >> shift & 0xFFFFFFFF
    shown = (f"effective={effective:#x}", f"permitted={permitted:#x}", f"inheritable={inheritable:#x}")
    libc.invoke("capset", _capset, libc.address(header), halves, shown=shown)
