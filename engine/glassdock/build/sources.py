"""The sources of a COPY: what a pattern means in a root, every file below it, and their digest.

Interface:
- `select(root, work, ignored)`: the `Item`s that the sources of a COPY name; raises ValueError in Docker's words.
- `walk(root, item, hidden)`: the item and all below it, each an `Entry`, in the order of names.
- `digest(root, items, hidden)`: one digest of all that the copy depends on, and one a file, to tell what changed.

Rules: `root` is a descriptor of a directory; a source's links are followed inside it, those below a source are copied
as links. `..` cannot leave it. What .dockerignore excludes is not there. Times do not count in the digest: a fresh
clone must find the cache.
Source: https://docs.docker.com/reference/dockerfile/#copy
"""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from glassdock.build.ignore import Matcher, component
from glassdock.build.work import CopyWork
from glassdock.linux.openat2 import open_in_root
from glassdock.unionfs import ownership

_WILD = re.compile(r"(?<!\\)[*?\[]")
_NAMES = ("utf-8", "surrogateescape")  # a file's name is bytes
_NOT_COPIED = "security.selinux"


@dataclass(frozen=True, slots=True)
class Item:
    """One source: `path` in its root, `below` where it goes under the destination (--parents), if it is a directory."""

    path: str
    below: str
    directory: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to copy: `path` relative to its item ("" for the item itself). Good until the walk goes on."""

    path: str
    info: os.stat_result
    link: str
    attributes: tuple[tuple[str, bytes], ...]
    descriptor: int

    def file(self) -> io.FileIO:
        """Open the content of a regular file."""
        return io.FileIO(os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_CLOEXEC))


@dataclass(frozen=True, slots=True)
class Digest:
    """What a copy depends on: one digest for all of it, and each file's."""

    whole: str
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Hidden:
    """What a copy must not see: `ignored` by the place in the context, `excludes` by the place below the source."""

    ignored: Matcher
    excludes: Matcher

    def look(self, path: str, place: str) -> tuple[bool, bool]:
        """Whether it is hidden, and whether something below it may be seen all the same."""
        by_path, by_place = self.ignored.excludes(path), self.excludes.excludes(place)
        below = (not by_path or self.ignored.may_include_below(path)) and (
            not by_place or self.excludes.may_include_below(place)
        )
        return by_path or by_place, below


def select(root: int, work: CopyWork, ignored: Matcher) -> list[Item]:
    """The items that the sources name, in the order of the sources."""
    items: list[Item] = []
    for source in work.sources:
        pivot, dot, _ = source.partition("/./") if work.parents else ("", "", source)
        cleaned = posixpath.normpath("/" + source.replace("/./", "/")).strip("/")
        found = list(_expand(root, cleaned, ignored))
        if not found:
            raise ValueError(_missing(work, source))
        cut = posixpath.normpath("/" + pivot).strip("/") if dot else ""
        for path in found:
            info = _lookup(root, path)
            if info is not None:
                parent = posixpath.dirname(path if not stat.S_ISDIR(info.st_mode) else path + "/")
                below = posixpath.relpath("/" + parent, "/" + cut) if work.parents else ""
                items.append(Item(path, "" if below == "." else below, stat.S_ISDIR(info.st_mode)))
    return items


def _missing(work: CopyWork, source: str) -> str:
    if work.bind:
        path = re.sub(r"\\(.)", r"\1", source)
        return f'"{path}": not found'
    if _WILD.search(source):
        return f"COPY failed: no source files were specified: nothing matches {source}"
    shown = posixpath.normpath(source.lstrip("/") or ".")
    if work.origin is not None:
        return f"COPY failed: stat {shown}: file does not exist"
    failed = "COPY failed: file not found in build context or excluded by .dockerignore"
    return f"{failed}: stat {shown}: file does not exist"


def _expand(root: int, pattern: str, ignored: Matcher) -> Iterator[str]:
    """The paths that a pattern names; each component is matched on its own, as Go's filepath.Match does."""
    if not _WILD.search(pattern):
        path = re.sub(r"\\(.)", r"\1", pattern)
        if _lookup(root, path) is not None and _visible(root, path, ignored):
            yield path
        return
    paths = [""]
    for part in pattern.split("/"):
        if part == "**":
            paths = [below for path in paths for below in _directories(root, path)]
            continue
        expression = re.compile(component(part.replace("**", "*")), re.DOTALL)
        paths = [
            posixpath.join(path, name) for path in paths for name in _names(root, path) if expression.fullmatch(name)
        ]
    yield from (path for path in paths if _visible(root, path, ignored))


def _visible(root: int, path: str, ignored: Matcher) -> bool:
    if not path or not ignored.excludes(path):
        return True
    info = _lookup(root, path)
    return info is not None and stat.S_ISDIR(info.st_mode) and ignored.may_include_below(path)


def _names(root: int, path: str) -> list[str]:
    try:
        directory = open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []  # not a directory: a pattern's next component cannot match in it
    try:
        return sorted(os.listdir(directory))
    finally:
        os.close(directory)


def _directories(root: int, path: str) -> Iterator[str]:
    """The directory itself and all below it, links not followed."""
    yield path
    for name in _names(root, path):
        below = posixpath.join(path, name)
        info = _lookup(root, below, follow=False)
        if info is not None and stat.S_ISDIR(info.st_mode):
            yield from _directories(root, below)


def _lookup(root: int, path: str, *, follow: bool = True) -> os.stat_result | None:
    """What is at `path`, None if nothing is."""
    try:
        found = open_in_root(root, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.fstat(found)
    finally:
        os.close(found)


def walk(root: int, item: Item, hidden: Hidden) -> Iterator[Entry]:
    """The item and everything below it that the copy may see."""
    if item.directory:
        directory = open_in_root(root, item.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield from _entry("", os.dup(directory), ownership.seen(directory, os.fstat(directory)))
            yield from _walk(directory, item.path, "", hidden)
        finally:
            os.close(directory)
    elif not hidden.excludes.excludes(posixpath.basename(item.path)):
        found = open_in_root(root, item.path, os.O_PATH)
        yield from _entry("", found, ownership.seen(found, os.fstat(found)))


def _walk(directory: int, whole: str, below: str, hidden: Hidden) -> Iterator[Entry]:
    for name in sorted(os.listdir(directory)):
        path, place = posixpath.join(whole, name), posixpath.join(below, name)
        is_hidden, may_hold = hidden.look(path, place)
        if is_hidden and not may_hold:
            continue
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        info = os.fstat(found)
        is_directory = stat.S_ISDIR(info.st_mode)
        if is_hidden:
            os.close(found)
        else:
            yield from _entry(place, found, ownership.seen_node(name, directory, info))
        if is_directory:
            inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                yield from _walk(inside, path, place, hidden)
            finally:
                os.close(inside)


def _entry(path: str, found: int, info: os.stat_result) -> Iterator[Entry]:
    """The entry of an O_PATH descriptor, which is closed behind it."""
    try:
        kind = stat.S_IFMT(info.st_mode)
        link = os.readlink("", dir_fd=found) if kind == stat.S_IFLNK else ""
        attributes = _attributes(found) if kind in (stat.S_IFREG, stat.S_IFDIR) else ()
        yield Entry(path, info, link, attributes, found)
    finally:
        os.close(found)


def _attributes(found: int) -> tuple[tuple[str, bytes], ...]:
    return tuple(pair for pair in ownership.attributes(found).items() if pair[0] != _NOT_COPIED)


def digest(root: int, items: list[Item], hidden: Hidden, *, owners: bool) -> Digest:
    """The digest of what `items` bring: names, kinds, modes, contents, and owners where they are kept."""
    whole = hashlib.sha256()
    files: dict[str, str] = {}
    for item in items:
        whole.update(f"{posixpath.basename(item.path)}\0{item.below}\0{item.directory}\n".encode(*_NAMES))
        for entry in walk(root, item, hidden):
            line = _line(entry, owners=owners)
            whole.update(line)
            shown = posixpath.join(item.path, entry.path).rstrip("/").encode(*_NAMES).decode(errors="replace")
            files[shown or "."] = hashlib.sha256(line).hexdigest()[:16]
    return Digest(f"sha256:{whole.hexdigest()}", files)


def _line(entry: Entry, *, owners: bool) -> bytes:
    info = entry.info
    content = entry.link
    if stat.S_ISREG(info.st_mode):
        with entry.file() as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        content = str(info.st_rdev)
    owner = f"{info.st_uid}:{info.st_gid}" if owners else ""
    attributes = "".join(f"{name}={value.hex()}," for name, value in entry.attributes)
    fields = (entry.path, f"{info.st_mode:o}", owner, content, attributes)
    return ("\0".join(fields) + "\n").encode(*_NAMES)
