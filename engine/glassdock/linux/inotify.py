"""Being told of changes to a file: inotify(7), one function a system call.

Interface: `inotify_init1()`, `inotify_add_watch(descriptor, path, mask)`, `IN_MODIFY`.

Source: inotify(7).
"""

from __future__ import annotations

import os

from glassdock.linux import libc

IN_MODIFY = 0x2

_init1 = libc.function("inotify_init1")
_add_watch = libc.function("inotify_add_watch")


def inotify_init1(flags: int = os.O_CLOEXEC | os.O_NONBLOCK) -> int:
    """A descriptor that can be read when something happened. Raises OSError (EMFILE: the user has too many)."""
    return libc.invoke("inotify_init1", _init1, flags, shown=(flags,))


def inotify_add_watch(descriptor: int, path: str, mask: int) -> int:
    """Watch the file at `path`; returns the watch's number. Raises OSError."""
    shown = (descriptor, path, mask)
    return libc.invoke("inotify_add_watch", _add_watch, descriptor, libc.string(path), mask, shown=shown, where=path)
