"""Making a process in new namespaces, and entering namespaces that exist.

Interface:
- `clone3(flags, cgroup=...)`: fork with namespaces; returns (pid, pidfd) in the parent and (0, -1) in the child.
- `unshare(flags)`, `setns(fd, flags)`.
- `KINDS`: the specification's words for namespaces and their flags.

Rules: the caller is single-threaded. Python's own before- and after-fork work is done around the call, with the
interpreter's lock held throughout (PyDLL), so the child is as sound as one of os.fork().

Sources: clone3(2), unshare(2), setns(2), https://docs.python.org/3/c-api/sys.html#c.PyOS_BeforeFork
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from enum import IntFlag

from glassdock import trace
from glassdock.linux import libc

_CLONE3 = 435
_setns = libc.function("setns")
_unshare = libc.function("unshare")
_held = ctypes.PyDLL(None, use_errno=True)
_held.syscall.restype = ctypes.c_long


class CloneFlag(IntFlag):
    """The flags of clone3(2) that are used here."""

    PIDFD = 0x00001000
    PARENT = 0x00008000
    NEWTIME = 0x00000080
    NEWNS = 0x00020000
    NEWCGROUP = 0x02000000
    NEWUTS = 0x04000000
    NEWIPC = 0x08000000
    NEWUSER = 0x10000000
    NEWPID = 0x20000000
    NEWNET = 0x40000000
    INTO_CGROUP = 0x200000000


KINDS = {
    "mount": CloneFlag.NEWNS,
    "pid": CloneFlag.NEWPID,
    "uts": CloneFlag.NEWUTS,
    "ipc": CloneFlag.NEWIPC,
    "network": CloneFlag.NEWNET,
    "cgroup": CloneFlag.NEWCGROUP,
    "user": CloneFlag.NEWUSER,
    "time": CloneFlag.NEWTIME,
}


class _Arguments(libc.Struct):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size cgroup".split()
        )
    ]


def clone3(flags: CloneFlag, *, cgroup: int = -1) -> tuple[int, int]:
    """clone3(2) without shared memory: (pid, pidfd), or (0, -1) in the child.

    `cgroup` is a descriptor of a cgroup v2 folder in which the child is to begin (CLONE_INTO_CGROUP).
    """
    flags |= CloneFlag.PIDFD
    if cgroup >= 0:
        flags |= CloneFlag.INTO_CGROUP
    pidfd = ctypes.c_int(-1)
    arguments = _Arguments(
        flags=int(flags),
        pidfd=ctypes.addressof(pidfd),
        exit_signal=0 if flags & CloneFlag.PARENT else int(signal.SIGCHLD),
        cgroup=max(cgroup, 0),
    )
    start = time.monotonic_ns()
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _held.syscall(ctypes.c_long(_CLONE3), ctypes.byref(arguments), ctypes.c_long(ctypes.sizeof(arguments)))
    number = ctypes.get_errno()
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, -1
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if trace.tracing():
        result = errno.errorcode.get(number, str(number)) if pid == -1 else str(pid)
        trace.syscall("clone3", str(flags), result, start, time.monotonic_ns() - start)
    if pid == -1:
        raise OSError(number, f"clone3: {os.strerror(number)}")
    return pid, pidfd.value


def unshare(flags: CloneFlag) -> None:
    """unshare(2)."""
    libc.invoke("unshare", _unshare, int(flags), shown=(flags,))


def setns(descriptor: int, flags: CloneFlag = CloneFlag(0)) -> None:
    """setns(2): join the namespace of the descriptor; 0 takes any kind."""
    libc.invoke("setns", _setns, descriptor, int(flags), shown=(descriptor, flags))
