"""What a container's mounts leave in its writable layer, and a layer must not have.

A mount needs something to be mounted on. Where the image has no /etc/hosts, the runtime makes an empty one, and the
command's layer would bring it along: a learner would see files that no instruction made.

Interface:
- `remove_stubs(upper, lowers)`: remove them; `upper` is a writable layer that is mounted nowhere any more.

Rules: only what is empty, is a mount's place, and is not in the layers below. A directory that was only passed through
goes too, if it is the same as below.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from glassdock.images.below import find, is_opaque

_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
_DIRECTORIES = ("proc", "sys", "dev")


def remove_stubs(upper: Path, lowers: Sequence[Path]) -> None:
    """Remove empty places of mounts that no layer below has. Raises OSError."""
    for name in (*_FILES, *_DIRECTORIES):
        path = upper / name
        if _is_empty(path) and find(lowers, tuple(os.fsencode(name).split(b"/"))) is None:
            _remove(path)
            if path.parent != upper and _was_passed_through(path.parent, upper, lowers):
                path.parent.rmdir()


def _is_empty(path: Path) -> bool:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISDIR(status.st_mode):
        return not os.listdir(path)
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _remove(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()


def _was_passed_through(directory: Path, upper: Path, lowers: Sequence[Path]) -> bool:
    if os.listdir(directory):
        return False
    below = find(lowers, tuple(os.fsencode(directory.relative_to(upper)).split(b"/")))
    if below is None:
        return True
    ours, theirs = directory.lstat(), below[1]
    same = (ours.st_mode, ours.st_uid, ours.st_gid) == (theirs.st_mode, theirs.st_uid, theirs.st_gid)
    return same and not is_opaque(os.fsencode(directory))
