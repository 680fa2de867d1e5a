"""Roots without the kernel's help: layers are laid over each other by hand, and every container gets a copy.

Interface:
- `Copy(tmp)`: the driver for where overlayfs is refused (see `drivers.py`).
- `duplicate(source, target)`: the same folder again.
- `pour(layer, target, place)`: lay one layer over a folder: whiteouts remove, the rest is added by `place`.
- `compare(root, flat, born)`: what was changed in a copy since.

Rules: what is read only is shared by hard links (`flat`, beside each layer), what can be written is copied, with
copy_file_range(2), which shares the blocks on btrfs and XFS. A change is found by comparing: a node with other facts
than the one it was copied from, or one touched since the copy was complete, by its change time, and of other content.
No clock that is set back hides a change: the facts are compared for every node.

Source: containerd's native snapshotter does the first half
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from glassdock import trace
from glassdock.linux import ids
from glassdock.unionfs import contents, marks, trees
from glassdock.unionfs.contents import dress
from glassdock.unionfs.mounts import Mount
from glassdock.unionfs.trees import Follower, Node

Place = Callable[[Node, int], None]
_NO_LINK = (errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP)


@dataclass(frozen=True, slots=True)
class Changed:
    """Paths in a copied root: `new` has other facts or content than what it was copied from, `deleted` is gone."""

    new: dict[bytes, os.stat_result] = field(default_factory=dict)
    deleted: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Copy:
    """A writable layer is `fs`, a whole root; `born`, made after it; and once it is finished `changed`."""

    tmp: Path
    name: str = "copy"

    def fill(self, folder: Path, lowers: tuple[str, ...]) -> None:
        """Copy the layers into the empty writable layer. Raises OSError."""
        with trace.span("unionfs.copy", layers=len(lowers)):
            pour(self._flat(lowers), folder / "fs", _Copier(folder / "fs"))
            (folder / "born").touch()

    def mount(self, folder: Path, lowers: tuple[str, ...]) -> Mount:
        """The root itself, to be written."""
        return Mount((), str(folder / "fs"), userxattr=not ids.initial())

    def view(self, lowers: tuple[str, ...]) -> Mount:
        """The layers as one folder, to be read."""
        return Mount((str(self._flat(lowers)),), readonly=True, userxattr=not ids.initial())

    def frozen(self, folder: Path, lowers: tuple[str, ...]) -> Mount:
        """The root itself, to be read."""
        return Mount((str(folder / "fs"),), readonly=True, userxattr=not ids.initial())

    @contextlib.contextmanager
    def changed(self, folder: Path, lowers: tuple[str, ...]) -> Iterator[Path]:
        """What was changed so far, as a layer that goes when it has been read."""
        if (folder / "changed").exists():
            yield folder / "changed"
            return
        made = Path(tempfile.mkdtemp(prefix="changed-", dir=self.tmp))
        try:
            self._write(folder, lowers, made)
            yield made
        finally:
            trees.remove(made)

    def finish(self, folder: Path, lowers: tuple[str, ...]) -> Path:
        """What was changed, as a layer; nobody writes any more."""
        target = folder / "changed"
        if not target.exists():
            made = Path(tempfile.mkdtemp(prefix="changed-", dir=self.tmp))
            self._write(folder, lowers, made)
            os.rename(made, target)
        return target

    def beside(self, folder: Path) -> Path:
        """An empty folder that is the layer when it is finished, whatever is in the root."""
        target = folder / "changed"
        target.mkdir()
        _dress_top(folder / "fs", target)
        return target

    def settle(self, folder: Path, lowers: tuple[str, ...]) -> None:
        """Before it becomes a layer: only what was changed stays."""
        changed = self.finish(folder, lowers)
        os.rename(folder / "fs", folder / "root")
        os.rename(changed, folder / "fs")
        trees.remove(folder / "root")
        trees.remove(folder / "born")

    def usage(self, folder: Path, lowers: tuple[str, ...]) -> int:
        """The bytes of the files that were changed, hard links once."""
        new = compare(folder / "fs", self._flat(lowers), _born(folder)).new.values()
        return sum({one.st_ino: one.st_size for one in new if stat.S_ISREG(one.st_mode)}.values())

    def _flat(self, lowers: tuple[str, ...]) -> Path:
        """The layers as one folder of hard links, made once and kept beside the topmost."""
        if len(lowers) == 1:
            return Path(lowers[0])
        flat = Path(lowers[0]).parent / "flat"
        if flat.exists():
            return flat
        made = Path(tempfile.mkdtemp(prefix="flat-", dir=self.tmp))
        try:
            with trace.span("unionfs.flatten", layers=len(lowers)):
                for lower in reversed(lowers):
                    pour(Path(lower), made, _link)
            with contextlib.suppress(FileExistsError):
                os.rename(made, flat)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # another thread was first
                raise
        finally:
            trees.remove(made)
        return flat

    def _write(self, folder: Path, lowers: tuple[str, ...], target: Path) -> None:
        found = compare(folder / "fs", self._flat(lowers), _born(folder))
        kept = set(found.new)
        for path in [*found.new, *found.deleted]:
            while b"/" in path and (path := path.rpartition(b"/")[0]) not in kept:
                kept.add(path)
        pour(folder / "fs", target, _link, only=kept, deleted=found.deleted)


def pour(
    layer: Path | bytes,
    target: Path,
    place: Place,
    *,
    only: set[bytes] | None = None,
    deleted: set[bytes] | None = None,
) -> None:
    """Lay `layer` over what is in `target`; of its paths `only` these, and with whiteouts for those `deleted`."""
    times: list[tuple[bytes, os.stat_result]] = []
    with Follower(target) as there:
        for node in trees.walk(layer):
            if only is not None and node.path not in only:
                continue
            above = node.path.rpartition(b"/")[0]
            directory = there.directory(above)
            with contextlib.suppress(FileNotFoundError):  # a running container removed it
                if marks.is_whiteout(node.status, node.name, node.parent):
                    trees.remove(node.name, dir_fd=directory)
                elif stat.S_ISDIR(node.status.st_mode):
                    _directory(node, directory)
                    times.append((node.path, node.status))
                else:
                    trees.remove(node.name, dir_fd=directory)
                    place(node, directory)
        for path in deleted or ():
            above, _, name = path.rpartition(b"/")
            marks.make_whiteout(name, there.directory(above))
        for path, status in reversed(times):  # last: every name made in a directory changes its time
            above, _, name = path.rpartition(b"/")
            ns = (status.st_atime_ns, status.st_mtime_ns)
            os.utime(name, ns=ns, dir_fd=there.directory(above), follow_symlinks=False)
    _dress_top(layer, target)


def duplicate(source: int, target: Path) -> None:
    """Make the empty folder `target` like the open directory: all that is below, owners, modes and hard links."""
    pour(b"/proc/self/fd/%d/." % source, target, _Copier(target))


def _directory(node: Node, directory: int) -> None:
    """Merge a directory into what is there, or replace that."""
    source = node.open()
    try:
        status = None
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(node.name, dir_fd=directory, follow_symlinks=False)
        if status is not None and (not stat.S_ISDIR(status.st_mode) or marks.is_opaque(source)):
            trees.remove(node.name, dir_fd=directory)
            status = None
        if status is None:
            os.mkdir(node.name, 0o700, dir_fd=directory)
        made = os.open(node.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            dress(source, node.status, made)
        finally:
            os.close(made)
    finally:
        os.close(source)


def _dress_top(layer: Path | bytes, target: Path) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    source = os.open(layer, flags)
    try:
        made = os.open(target, flags)
        try:
            dress(source, os.fstat(source), made)
        finally:
            os.close(made)
    finally:
        os.close(source)


def _link(node: Node, directory: int) -> None:
    """The same file under one name more; nobody writes to it by either."""
    try:
        os.link(node.name, node.name, src_dir_fd=node.parent, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        contents.copy_node(node, directory)


@dataclass(slots=True)
class _Copier:
    """Copies nodes; names of one file stay names of one file."""

    target: Path
    first: dict[int, bytes] = field(default_factory=dict)

    def __call__(self, node: Node, directory: int) -> None:
        known = self.first.setdefault(node.status.st_ino, node.path)
        if known != node.path:
            os.link(os.fsencode(self.target) + b"/" + known, node.name, dst_dir_fd=directory, follow_symlinks=False)
        else:
            contents.copy_node(node, directory)


def compare(root: Path, flat: Path, born: int) -> Changed:
    """What differs in `root` from `flat`, of which it was a copy at the time `born` (nanoseconds)."""
    found = Changed()
    with Follower(flat, make=False) as there:
        _gone(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), there.directory(b""), b"", found)
        for node in trees.walk(root):
            directory = there.directory(node.path.rpartition(b"/")[0])
            below = _below(node.name, directory)
            if below is None or stat.S_IFMT(below.st_mode) != stat.S_IFMT(node.status.st_mode):
                found.new[node.path] = node.status
                continue
            same, touched = _facts(below) == _facts(node.status), node.status.st_ctime_ns >= born
            with contextlib.suppress(FileNotFoundError):  # a running container removed it
                if not same or (touched and not contents.equal(node, directory)):
                    found.new[node.path] = node.status
                if stat.S_ISDIR(below.st_mode) and (touched or not same):
                    _gone(node.open(os.O_RDONLY | os.O_DIRECTORY), there.directory(node.path), node.path, found)
    return found


def _below(name: bytes, directory: int) -> os.stat_result | None:
    """What the copy was made of; a whiteout is nothing, where there is only one layer."""
    if directory < 0:
        return None
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return None if marks.is_whiteout(status, name, directory) else status


def _facts(status: os.stat_result) -> tuple[int, ...]:
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return status.st_mode, status.st_uid, status.st_gid, size, status.st_mtime_ns, status.st_rdev


def _gone(own: int, other: int, path: bytes, found: Changed) -> None:
    """The names of a directory that are not there any more; `own` is closed."""
    try:
        here = set(map(os.fsencode, os.listdir(own)))
    finally:
        os.close(own)
    for name in map(os.fsencode, os.listdir(other)):
        if name not in here and _below(name, other) is not None:
            found.deleted.add(path + b"/" + name if path else name)


def _born(folder: Path) -> int:
    return (folder / "born").stat().st_ctime_ns
