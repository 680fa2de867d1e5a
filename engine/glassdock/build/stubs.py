"""What a container's mounts leave in its writable layer, and a layer must not have.

A mount needs something to be mounted on. Where the image has no /etc/hosts, the runtime makes an empty one, and the
command's layer would bring it along: a learner would see files that no instruction made.

Interface:
- `remove_stubs(upper, lowers, places)`: remove them; `upper` is a writable layer that is mounted nowhere any more,
  `places` are the absolute targets of mounts that not every container has.

Rules: only what is empty, is a mount's place, and is not in the layers below. A directory that was only passed through
goes too, if it is the same as below.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from glassdock.images.below import find
from glassdock.unionfs import marks

_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
_DIRECTORIES = ("proc", "sys", "dev")


def remove_stubs(upper: Path, lowers: Sequence[Path], places: Iterable[str] = ()) -> None:
    """Remove empty places of mounts that no layer below has. Raises OSError."""
    # The longest first: a mount inside a mount's place was never in the layer, one beside it was.
    more = sorted((place.strip("/") for place in places), key=len, reverse=True)
    for name in (*_FILES, *_DIRECTORIES, *more):
        path = upper / name
        if _leaves(upper, path):
            continue  # the image has a link on the way: what is there is not the mount's place
        if _is_empty(path) and find(lowers, tuple(os.fsencode(name).split(b"/"))) is None:
            _remove(path)
            while (path := path.parent) != upper and _was_passed_through(path, upper, lowers):
                path.rmdir()


def _leaves(upper: Path, path: Path) -> bool:
    """Whether a folder on the way is a link, which could lead out of the layer."""
    return any(parent.is_symlink() for parent in path.parents if parent != upper and upper in parent.parents)


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
    return same and not marks.is_opaque(os.fsencode(directory))
