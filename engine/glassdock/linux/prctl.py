"""What a process says about itself: prctl(2), one function an operation.

Source: prctl(2).
"""

from __future__ import annotations

import ctypes

from glassdock.linux import libc

_prctl = libc.function("prctl")

_SET_PDEATHSIG = 1
_SET_DUMPABLE = 4
_SET_KEEPCAPS = 8
_SET_NAME = 15
_CAPBSET_READ = 23
_CAPBSET_DROP = 24
_SET_CHILD_SUBREAPER = 36
_SET_NO_NEW_PRIVS = 38
_CAP_AMBIENT = 47
_CAP_AMBIENT_RAISE = 2
_CAP_AMBIENT_CLEAR_ALL = 4


def set_parent_death_signal(signal: int) -> None:
    """PR_SET_PDEATHSIG: be signalled when the parent dies. A change of credentials takes it back."""
    _call("PR_SET_PDEATHSIG", _SET_PDEATHSIG, signal)


def set_dumpable(dumpable: bool) -> None:
    """PR_SET_DUMPABLE: false forbids ptrace and /proc/PID/{exe,fd,...} to all but the privileged."""
    _call("PR_SET_DUMPABLE", _SET_DUMPABLE, int(dumpable))


def set_keep_capabilities(keep: bool) -> None:
    """PR_SET_KEEPCAPS: keep the permitted set when leaving user 0; exec takes it back."""
    _call("PR_SET_KEEPCAPS", _SET_KEEPCAPS, int(keep))


def set_name(name: str) -> None:
    """PR_SET_NAME: what /proc/PID/comm shows; cut at 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    libc.invoke("prctl", _prctl, _SET_NAME, buffer, 0, 0, 0, shown=("PR_SET_NAME", name))


def in_bounding_set(capability: int) -> bool:
    """PR_CAPBSET_READ. Raises OSError (EINVAL) for a number that the kernel does not know."""
    return _call("PR_CAPBSET_READ", _CAPBSET_READ, capability) == 1


def drop_from_bounding_set(capability: int) -> None:
    """PR_CAPBSET_DROP."""
    _call("PR_CAPBSET_DROP", _CAPBSET_DROP, capability)


def set_child_subreaper(on: bool) -> None:
    """PR_SET_CHILD_SUBREAPER: become the parent of orphaned descendants."""
    _call("PR_SET_CHILD_SUBREAPER", _SET_CHILD_SUBREAPER, int(on))


def set_no_new_privileges() -> None:
    """PR_SET_NO_NEW_PRIVS: exec grants nothing from now on, for ever."""
    _call("PR_SET_NO_NEW_PRIVS", _SET_NO_NEW_PRIVS, 1)


def raise_ambient(capability: int) -> None:
    """PR_CAP_AMBIENT_RAISE: needs it permitted and inheritable."""
    _call("PR_CAP_AMBIENT_RAISE", _CAP_AMBIENT, _CAP_AMBIENT_RAISE, capability)


def clear_ambient() -> None:
    """PR_CAP_AMBIENT_CLEAR_ALL."""
    _call("PR_CAP_AMBIENT_CLEAR_ALL", _CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)


def _call(name: str, operation: int, *arguments: int) -> int:
    padded = [libc.ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return libc.invoke("prctl", _prctl, operation, *padded, shown=(name, *arguments))
