"""The one funnel to the C library: calls a function, turns -1 into OSError, and tells the tracer.

Interface:
- `function(name)`: a function of the C library whose errno is kept.
- `invoke(name, function, *arguments, shown=...)`: call it; raises OSError with the call's name in its text.
- `syscall(name, number, *arguments, shown=...)`: the same for a call that the C library has no function for.
- `Struct`, `string(text)`: what the wrappers need to pass values by address.

Rules: only `linux/` imports this. `shown` holds the arguments as a person reads them; it is put together only while
somebody traces, so it is cheap to pass. Numbers from 424 on are the same on all architectures.

Source: https://man7.org/linux/man-pages/man2/syscalls.2.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Callable
from typing import Any

from glassdock import trace

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

Struct = ctypes.Structure
Function = Callable[..., int]


def function(name: str) -> Function:
    """The C library's function of that name, returning a C long."""
    found = getattr(_libc, name)
    found.restype = ctypes.c_int
    return found  # type: ignore[no-any-return]


def string(text: str | os.PathLike[str] | None) -> ctypes.c_char_p:
    """A C string; None is the null pointer. Raises ValueError for a zero byte inside."""
    if text is None:
        return ctypes.c_char_p(None)
    encoded = os.fsencode(text)
    if b"\0" in encoded:
        raise ValueError(f"a zero byte in {text!r}")
    return ctypes.c_char_p(encoded)


def long(number: int) -> ctypes.c_long:
    """A C long: what a variadic call needs for every number."""
    return ctypes.c_long(number)


def ulong(number: int) -> ctypes.c_ulong:
    """A C unsigned long."""
    return ctypes.c_ulong(number)


def address(value: Any) -> Any:
    """The address of a structure or an array."""
    return ctypes.byref(value)


def size(value: Any) -> int:
    """The size in bytes of a structure."""
    return ctypes.sizeof(value)


def invoke(name: str, called: Function, *arguments: Any, shown: tuple[Any, ...] = (), where: str = "") -> int:
    """Call and return the result; -1 raises OSError "name: text", with `where` as its file name."""
    tracing = trace.tracing()
    start = time.monotonic_ns() if tracing else 0
    result = called(*arguments)
    number = ctypes.get_errno() if result == -1 else 0
    if tracing:
        outcome = errno.errorcode.get(number, str(number)) if result == -1 else str(result)
        trace.syscall(name, ", ".join(map(show, shown)), outcome, start, time.monotonic_ns() - start)
    if result == -1:
        text = f"{name}: {os.strerror(number)}"
        raise OSError(number, text, where) if where else OSError(number, text)
    return result


def syscall(name: str, number: int, *arguments: Any, shown: tuple[Any, ...] = (), where: str = "") -> int:
    """Call by number. Plain integers are widened to C longs, as a variadic function needs them."""
    widened = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return invoke(name, _syscall, ctypes.c_long(number), *widened, shown=shown, where=where)


def show(value: Any) -> str:
    """An argument as a person reads it: AT_FDCWD, flags by name, text in quotes."""
    if isinstance(value, str):
        return repr(value)
    if value == AT_FDCWD and type(value) is int:
        return "AT_FDCWD"
    name = getattr(value, "name", None)
    return str(name) if name else str(value)
