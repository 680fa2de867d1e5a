"""What a layer did to the layers below it: added, changed, deleted.

Interface:
- `changes(snapshotter, name)`: of a layer (by chain id) or of a container's writable layer (by key).
- `Changes`: three sorted tuples of (path, bytes).

Rules: paths are absolute, as a container sees them, undecodable bytes replaced. A directory that is only on the way to
a change is none itself, unless its owner, mode or time differ from the one below. What a whiteout or an opaque
directory hides is deleted: a folder as one row with the size of all that was in it. Of several names for one file the
first has its size, so that the sum is the layer's.

Source: moby, `pkg/archive/changes.go` (the answer of `docker diff`)
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from glassdock import trace
from glassdock.errors import from_oserror
from glassdock.unionfs import marks, ownership
from glassdock.unionfs.overlay import Snapshotter

Row = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths and the size in bytes: the new one of what was added or changed, the old one of what was deleted."""

    added: tuple[Row, ...] = ()
    changed: tuple[Row, ...] = ()
    deleted: tuple[Row, ...] = ()


@dataclass(slots=True)
class _Found:
    added: list[Row]
    changed: list[Row]
    deleted: list[Row]
    seen: set[int]


def changes(snapshotter: Snapshotter, name: str) -> Changes:
    """Compare a layer with what is below it. Raises NotFound, GlassdockError."""
    is_chain = name.startswith("sha256:")
    parent = snapshotter.parent(name) if is_chain else snapshotter.base(name)
    below = [os.fsencode(snapshotter.layer_path(chain)) for chain in snapshotter.chain(parent)] if parent else []
    found = _Found([], [], [], set())
    with trace.span("images.changes", of=name):
        try:
            layer = contextlib.nullcontext(snapshotter.layer_path(name)) if is_chain else snapshotter.changed(name)
            with layer as own:
                _compare(os.fsencode(own), below, found)
        except OSError as error:
            raise from_oserror(error, "comparing layers") from error
    return Changes(*(tuple(sorted(rows)) for rows in (found.added, found.changed, found.deleted)))


def _compare(own: bytes, below: list[bytes], found: _Found) -> None:
    """Descend into the layer with, for each directory, the lower directories that show through it."""
    pending = [(own, below, b"")]
    while pending:
        directory, lowers, path = pending.pop()
        names = sorted(os.fsencode(entry.name) for entry in os.scandir(directory))
        if lowers and marks.is_opaque(directory):
            _deleted(lowers, path, set(names), found)
            lowers = []
        for name in names:
            here, at = directory + b"/" + name, path + b"/" + name
            status = _status(here)
            if marks.is_whiteout(status, here):
                _delete(lowers, at, name, found)
                continue
            lower, through = _shows(lowers, name)
            _row(status, lower, at, found)
            if stat.S_ISDIR(status.st_mode):
                pending.append((here, through, at))
                continue
            for hidden in through:
                _deleted([hidden], at, set(), found)


def _status(path: bytes) -> os.stat_result:
    """With the owner that is remembered, where it could not be given."""
    status = os.lstat(path)
    return status if stat.S_ISLNK(status.st_mode) else ownership.seen(path, status)


def _row(status: os.stat_result, lower: os.stat_result | None, at: bytes, found: _Found) -> None:
    size = status.st_size if stat.S_ISREG(status.st_mode) and status.st_ino not in found.seen else 0
    if status.st_nlink > 1:
        found.seen.add(status.st_ino)
    if lower is None:
        found.added.append((_text(at), size))
    elif not stat.S_ISDIR(status.st_mode) or _differ(status, lower):
        found.changed.append((_text(at), size))


def _differ(one: os.stat_result, two: os.stat_result) -> bool:
    return (one.st_mode, one.st_uid, one.st_gid, one.st_mtime_ns) != (
        two.st_mode,
        two.st_uid,
        two.st_gid,
        two.st_mtime_ns,
    )


def _shows(lowers: list[bytes], name: bytes) -> tuple[os.stat_result | None, list[bytes]]:
    """What shows at `name` through the lower directories: its status, and if it is a directory, where it is from."""
    first: os.stat_result | None = None
    through: list[bytes] = []
    for lower in lowers:
        at = lower + b"/" + name
        try:
            status = _status(at)
        except FileNotFoundError:
            continue
        if marks.is_whiteout(status, at):
            break
        if not stat.S_ISDIR(status.st_mode):
            first = first or (None if through else status)
            break
        first = first or status
        through.append(at)
        if marks.is_opaque(at):
            break
    return first, through


def _delete(lowers: list[bytes], at: bytes, name: bytes, found: _Found) -> None:
    """A whiteout: one row for what it hides, however much that is; none where it hides nothing."""
    status, through = _shows(lowers, name)
    if status is None:
        return
    size = _size(through) if stat.S_ISDIR(status.st_mode) else status.st_size
    found.deleted.append((_text(at), size))


def _deleted(lowers: list[bytes], path: bytes, but: set[bytes], found: _Found) -> None:
    """An opaque directory, or a file over a directory: what shows in it, without the names of the layer itself."""
    for name in _merged(lowers):
        if name not in but:
            _delete(lowers, path + b"/" + name, name, found)


def _merged(lowers: list[bytes]) -> Iterator[bytes]:
    seen: set[bytes] = set()
    for lower in lowers:
        seen.update(os.fsencode(entry.name) for entry in os.scandir(lower))
    yield from sorted(seen)


def _size(lowers: list[bytes]) -> int:
    """The bytes of all files that show in a merged directory."""
    total = 0
    pending = [lowers]
    while pending:
        following = pending.pop()
        for name in _merged(following):
            status, through = _shows(following, name)
            if status is not None and stat.S_ISREG(status.st_mode):
                total += status.st_size
            elif through:
                pending.append(through)
    return total


def _text(path: bytes) -> str:
    return path.decode("utf-8", "replace")
