"""What a layer leaves to the layers below it.

Interface:
- `settle(folder, implied, links, lowers)`: finish an unpacked layer once the layers below are there.
- `find(lowers, path)`: what a path shows through a stack of layers.

Rules: paths are components without symlinks; layers are folders in overlay's form, topmost first; nothing is followed.
Directories that the tar has no entry for take owner, mode, attributes and times of the one below, as they would if the
layer were unpacked on top of a mount. A hard link to a lower layer's file is made to a copy of it, as overlayfs does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from glassdock.errors import Corrupt
from glassdock.images.inside import Inside, Parts, Place
from glassdock.images.tar import show
from glassdock.unionfs import contents, marks


def settle(
    folder: Path, implied: Iterable[Parts], links: Iterable[tuple[Parts, Parts]], lowers: Sequence[Path]
) -> None:
    """Finish the layer in `folder`. Raises Corrupt where a hard link leads to nothing."""
    with Inside(folder) as inside:
        try:
            for name, target in links:
                _link(inside, name, target, lowers)
            for path in sorted({*implied, *inside.implied}, reverse=True):
                place, lower = inside.find(path), find(lowers, path)
                if place is None or lower is None or place.path != path or not stat.S_ISDIR(lower[1].st_mode):
                    continue
                status = place.status()
                if status is not None and stat.S_ISDIR(status.st_mode):
                    _copy_attributes(*lower, place)
        except OSError as error:
            raise Corrupt(f"the layer does not fit on the layers below it: {error.strerror}") from error


def find(lowers: Sequence[Path], path: Parts) -> tuple[bytes, os.stat_result] | None:
    """The file that shows at `path`, and its status; None where nothing does."""
    for lower in lowers:
        at, hidden = os.fsencode(lower), False
        for number, name in enumerate(path):
            at = at + b"/" + name
            try:
                status = os.lstat(at)
            except FileNotFoundError:
                break
            if marks.is_whiteout(status, at):
                return None
            if number == len(path) - 1:
                return at, status
            if not stat.S_ISDIR(status.st_mode):
                return None
            hidden = hidden or marks.is_opaque(at)
        if hidden:
            return None
    return None


def _link(inside: Inside, name: Parts, target: Parts, lowers: Sequence[Path]) -> None:
    there = inside.parent(target)
    if there.status() is None:
        lower = find(lowers, target)
        if lower is None or not stat.S_ISREG(lower[1].st_mode):
            raise Corrupt(
                f"the hard link {show(b'/'.join(name))} leads to nothing: there is no {show(b'/'.join(target))}"
            )
        _copy_up(*lower, there)
    there, here = inside.parent(target), inside.parent(name)
    os.link(there.name, here.name, src_dir_fd=there.fd, dst_dir_fd=here.fd, follow_symlinks=False)


def _copy_up(source: bytes, status: os.stat_result, place: Place) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(place.name, flags, 0o600, dir_fd=place.fd)
    try:
        with open(source, "rb") as file:
            contents.copy(file.fileno(), fd)
    finally:
        os.close(fd)
    _copy_attributes(source, status, place)


def _copy_attributes(source: bytes, status: os.stat_result, place: Place) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(place.name, flags, dir_fd=place.fd)
    try:
        lower = os.open(source, flags)
        try:
            contents.dress(lower, status, fd)
        finally:
            os.close(lower)
    finally:
        os.close(fd)
