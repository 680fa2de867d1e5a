"""COPY and ADD carried out: sources of one root become files in another.

Interface:
- `Copier(source, target, work, hidden, scratch, names).run()`: `source` and `target` are descriptors of roots.
- `merge(source, top)`: all that is below one directory into another, as `docker cp` needs it.
- `make_directories(target, path, mode, owner)`: as WORKDIR and the way to a destination need it.

Rules: the destination is resolved inside the target, links included, whatever the image put there. A file replaces what
is in its way, a directory is merged into a directory and never replaces a file. Owners are 0:0 unless --chown says
otherwise, or the files come from a stage or an image and bring their own (decision 0051). Modes and times are kept.
What cannot be done is a ValueError in Docker's words, or the kernel's OSError.
Source: https://docs.docker.com/reference/dockerfile/#copy
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from glassdock.build import archive, users
from glassdock.build.ignore import Matcher
from glassdock.build.sources import Entry, Hidden, Item, select, walk
from glassdock.build.work import CopyWork
from glassdock.images import layer
from glassdock.linux.openat2 import Resolve, open_in_root, openat2
from glassdock.unionfs import contents, ownership

_LINKS = 40
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOTHING = Hidden(Matcher(()), Matcher(()))


@dataclass(slots=True)
class Copier:
    """One COPY or ADD. `scratch` is for an archive's content on its way; users are named in the root `names`."""

    source: int
    target: int
    work: CopyWork
    hidden: Hidden
    scratch: Path
    names: int
    owner: tuple[int, int] | None = field(init=False)

    def __post_init__(self) -> None:
        fixed = (0, 0) if self.work.origin is None else None
        self.owner = users.owner(self.names, self.work.chown) if self.work.chown else fixed

    def run(self) -> None:
        """Copy everything that is named."""
        items = select(self.source, self.work, self.hidden.ignored)
        into = self.work.destination
        if len(items) + len(self.work.documents) > 1 and not into.endswith("/") and not self.work.parents:
            keyword = "ADD" if self.work.unpack else "COPY"
            rule = "the destination must be a directory and end with a /"
            raise ValueError(f"When using {keyword} with more than one source file, {rule}")
        for item in items:
            self._item(item, posixpath.join(into, item.below, "") if self.work.parents else into)
        for name, content in self.work.documents:
            self._document(name, content)

    def _item(self, item: Item, into: str) -> None:
        if item.directory:
            with self._made(into) as top:
                self.merge(self.source, top, item, self.hidden)
        elif not (self.work.unpack and self._unpacked(item, into)):
            for entry in walk(self.source, item, self.hidden):
                with self._place(into, posixpath.basename(item.path)) as (directory, name):
                    self._put(directory, name, entry)

    def _unpacked(self, item: Item, into: str) -> bool:
        """Unpack an archive; False where it is none. It is unpacked beside, then copied like any directory."""
        with os.fdopen(open_in_root(self.source, item.path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or (chunks := archive.content(file)) is None:
                return False
            with tempfile.TemporaryDirectory(dir=self.scratch, prefix="add-") as folder:
                layer.unpack(chunks, Path(folder))
                with _opened(os.open(folder, os.O_RDONLY | os.O_DIRECTORY)) as unpacked, self._made(into) as top:
                    owner, self.owner = self.owner, self.owner if self.work.chown else None
                    self.merge(unpacked, top, Item("", "", True), _NOTHING)
                    self.owner = owner
        return True

    def _document(self, name: str, content: bytes) -> None:
        place = self._place(self.work.destination, name)
        with place as (directory, last), os.fdopen(_new_file(directory, last), "wb") as file:
            file.write(content)
            ownership.give(file.fileno(), *(self.owner or (0, 0)))
            os.fchmod(file.fileno(), self._mode(stat.S_IFREG | 0o644))

    def _mode(self, old: int) -> int:
        return users.mode(self.work.chmod)(old) if self.work.chmod else stat.S_IMODE(old)

    # Where things go

    @contextlib.contextmanager
    def _made(self, path: str) -> Iterator[int]:
        """A descriptor of the directory `path`, made where it is missing."""
        mode = self._mode(stat.S_IFDIR | 0o755)
        with _opened(make_directories(self.target, path, mode, self.owner or (0, 0))) as directory:
            yield directory

    @contextlib.contextmanager
    def _place(self, path: str, base: str) -> Iterator[tuple[int, str]]:
        """The directory and the name that a file copied to `path` gets: inside, where `path` is a directory."""
        for _ in range(_LINKS):
            above, name = posixpath.split(path)
            if not name or _is_directory(self.target, path):
                with self._made(path) as directory:
                    yield directory, base
                return
            with self._made(above) as directory:
                link = _link(directory, name)
                if not link:
                    yield directory, name
                    return
            path = posixpath.join(above, link)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    # Making things

    def merge(self, source: int, top: int, item: Item, hidden: Hidden) -> None:
        """Copy what is below a directory into the directory `top`; no link below it is followed."""
        directories: list[Entry] = []
        with _Inside(top) as inside:
            for entry in walk(source, item, hidden):
                if entry.path:
                    parent, name = posixpath.split(entry.path)
                    self._put(inside.directory(parent), name, entry)
                    if stat.S_ISDIR(entry.info.st_mode):
                        directories.append(entry)
            for entry in reversed(directories):  # last, because every name made in one changes its time
                parent, name = posixpath.split(entry.path)
                os.utime(name, ns=_times(entry), dir_fd=inside.directory(parent), follow_symlinks=False)

    def _put(self, directory: int, name: str, entry: Entry) -> None:
        """Make what `entry` is as `name` in an open directory."""
        info = entry.info
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFREG:
            with entry.file() as source, _opened(_new_file(directory, name)) as made:
                contents.copy(source.fileno(), made)
                self._dress(made, entry)
                os.utime(made, ns=_times(entry))
        elif kind == stat.S_IFDIR:
            with _opened(_new_directory(directory, name)) as made:
                self._dress(made, entry)
        elif kind != stat.S_IFSOCK:  # a socket is nothing without the process that listens on it
            _make_node(directory, name, entry)
            os.utime(name, ns=_times(entry), dir_fd=directory, follow_symlinks=False)
            ownership.give_node(name, directory, *self._owner_of(info))
            if kind != stat.S_IFLNK:
                os.chmod(name, self._mode(info.st_mode), dir_fd=directory)

    def _dress(self, made: int, entry: Entry) -> None:
        """Owner first: it takes the set-id bits and capabilities away that come after it."""
        ownership.give(made, *self._owner_of(entry.info))
        for key, value in entry.attributes:
            ownership.set_attribute(made, key, value)
        os.chmod(made, self._mode(entry.info.st_mode))

    def _owner_of(self, info: os.stat_result) -> tuple[int, int]:
        return self.owner or (info.st_uid, info.st_gid)


def merge(source: int, top: int) -> None:
    """Copy what is below the directory `source` into the directory `top`, owners kept; raises ValueError, OSError."""
    work = CopyWork("", (), (), "/")
    Copier(source, top, work, _NOTHING, Path(), top).merge(source, top, Item("", "", True), _NOTHING)


@dataclass(slots=True)
class _Inside:
    """The directories below `top`, reached without links; the last one stays open, because files come by directory."""

    top: int
    path: str = ""
    last: int = -1

    def __enter__(self) -> Self:
        self.last = os.dup(self.top)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.last)

    def directory(self, path: str) -> int:
        """A descriptor of `path`; what is missing (the hidden parent of something visible) is made."""
        if path != self.path:
            resolve = Resolve.BENEATH | Resolve.NO_SYMLINKS
            try:
                found = openat2(self.top, path or ".", _DIRECTORY, 0, resolve)
            except FileNotFoundError:
                os.close(make_directories(self.top, path, 0o755, (0, 0)))
                found = openat2(self.top, path, _DIRECTORY, 0, resolve)
            os.close(self.last)
            self.path, self.last = path, found
        return self.last


def make_directories(target: int, path: str, mode: int, owner: tuple[int, int], *, links: int = _LINKS) -> int:
    """A descriptor of the directory `path` inside the root; what is missing is made with that mode and owner.

    A link that leads to nothing is made true, inside the root. Raises ValueError where something is no directory.
    """
    directory = open_in_root(target, ".", _DIRECTORY)
    walked = ""
    try:
        for name in filter(None, path.split("/")):
            walked = f"{walked}/{name}"
            try:
                following = open_in_root(target, walked, _DIRECTORY)
            except FileNotFoundError:
                if link := _link(directory, name):
                    if not links:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), walked) from None
                    there = posixpath.join(posixpath.dirname(walked), link)
                    following = make_directories(target, there, mode, owner, links=links - 1)
                else:
                    os.mkdir(name, 0o700, dir_fd=directory)
                    following = open_in_root(target, walked, _DIRECTORY)
                    with _opened(os.open(f"/proc/self/fd/{following}", os.O_RDONLY | os.O_DIRECTORY)) as made:
                        ownership.give(made, *owner)
                        os.chmod(made, mode)
            except NotADirectoryError:
                raise ValueError(f"cannot copy to non-directory: {walked}") from None
            os.close(directory)
            directory = following
    except BaseException:
        os.close(directory)
        raise
    return directory


@contextlib.contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _link(directory: int, name: str) -> str:
    """Where the link `name` leads, "" where there is no link."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return ""
        raise


def _is_directory(root: int, path: str) -> bool:
    try:
        os.close(open_in_root(root, path, _DIRECTORY))
    except OSError:
        return False
    return True


def _clear(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise ValueError(f"cannot copy a file over the directory {name}") from None


def _new_file(directory: int, name: str) -> int:
    try:
        return os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
    except FileExistsError:
        _clear(directory, name)
        return os.open(name, _NEW_FILE, 0o600, dir_fd=directory)


def _new_directory(directory: int, name: str) -> int:
    """A descriptor of the directory, which may be there already."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=directory)
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except NotADirectoryError:
        raise ValueError(f"cannot copy to non-directory: {name}") from None


def _make_node(directory: int, name: str, entry: Entry) -> None:
    """A link, device or fifo."""
    info = entry.info
    _clear(directory, name)
    if stat.S_ISLNK(info.st_mode):
        os.symlink(entry.link, name, dir_fd=directory)
    elif stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
        raise ValueError(f"{name} is a device 0:0, which overlayfs takes for a whiteout")
    else:
        ownership.make_device(name, stat.S_IFMT(info.st_mode) | 0o600, info.st_rdev, directory)


def _times(entry: Entry) -> tuple[int, int]:
    return entry.info.st_atime_ns, entry.info.st_mtime_ns
