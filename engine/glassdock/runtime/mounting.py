"""What is put into the root: file systems, and files and folders of the machine's.

Interface (steps): `MountFilesystem`, `BindMount`, and once all is mounted `ReadonlyMounts`.

Rules: as in rootfs.py. A bind whose source is inside the root is found there, once what is mounted before it is there;
all others are opened outside, by who may do so. A tmpfs looks like the folder that it covers.

Sources: mount_setattr(2), open_tree(2), https://github.com/opencontainers/runtime-spec/blob/main/config.md#mounts
"""

from __future__ import annotations

import os
import posixpath
import stat

import msgspec

from glassdock.linux import mount as linux
from glassdock.linux.mount import MountAttr, MountFlag, OpenTree
from glassdock.linux.openat2 import open_in_root
from glassdock.runtime import copyup, filesystems
from glassdock.runtime.below import Below
from glassdock.runtime.rootfs import attach, ordinary_directory, place
from glassdock.runtime.stage import Stage, Step, attempt
from glassdock.runtime.userns import Ids


class MountFilesystem(Step, frozen=True, tag="mount"):
    """A new instance of a file system: proc, sysfs, tmpfs, devpts, mqueue."""

    destination: str
    type: str
    attributes: int = 0
    data: tuple[tuple[str, str], ...] = ()
    source: str = ""
    propagation: int = int(MountFlag.PRIVATE)
    given: bool = False
    copy_up: bool = False

    def places(self) -> tuple[str, ...]:
        return (self.destination,)

    def describe(self) -> str:
        options = ",".join(f"{key}={value}" if value else key for key, value in self.data)
        return f"mount {self.type} on {self.destination}" + (f" ({options})" if options else "")

    def apply(self, stage: Stage) -> None:
        with attempt(f"mounting {self.type} to rootfs at {self.destination}"):
            if self.given:  # made outside: see KernelView
                tree = stage.take(f"tree:{self.type}")
                linux.mount_setattr(tree, add=MountAttr(self.attributes))
            else:
                source, attributes = self.source or self.type, MountAttr(self.attributes)
                data = self.data if self.type != "tmpfs" else self._looks(stage)
                tree = filesystems.for_container(self.type, source, data, attributes, stage)
            try:
                kernel_view = self.type in ("proc", "sysfs")
                if kernel_view:
                    target = ordinary_directory(stage, self.destination)
                else:
                    target = place(stage, self.destination, directory=True)
                if self.copy_up:
                    copyup.copy(target, tree)
                attach(tree, target)
                if self.type == "proc":
                    stage.proc_device = os.fstat(tree).st_dev
                if self.propagation != MountFlag.PRIVATE:
                    linux.mount_setattr(tree, propagation=MountFlag(self.propagation))
            finally:
                os.close(tree)

    def _looks(self, stage: Stage) -> tuple[tuple[str, str], ...]:
        """The data, with the mode of the folder that it covers where none is said."""
        if any(key == "mode" for key, _ in self.data):
            return self.data
        try:
            covered = open_in_root(stage.root, self.destination, os.O_PATH | os.O_DIRECTORY)
        except OSError:  # not there, or no folder, which mounting says better
            return self.data
        mode = stat.S_IMODE(os.fstat(covered).st_mode)
        os.close(covered)
        return (*self.data, ("mode", f"{mode:o}"))


class Shifted(msgspec.Struct, frozen=True):
    """A source of a mount, and the ids with which it is to be seen."""

    source: str
    ids: Ids
    recursive: bool = False


class BindMount(Step, frozen=True, tag="bind"):
    """A file or folder of the machine's, seen from inside as well.

    `add` and `clear` change the mount itself, `add_below` and `clear_below` the mounts inside it too. `inside` is the
    source's path in the root, where it is there.
    """

    destination: str
    source: str
    add: int = 0
    clear: int = 0
    add_below: int = 0
    clear_below: int = 0
    recursive: bool = True
    propagation: int = int(MountFlag.PRIVATE)
    ids: Ids | None = None
    shift_below: bool = False
    inside: str = ""
    subpath: str = ""

    def describe(self) -> str:
        mode = "read-only" if (self.add | self.add_below) & MountAttr.RDONLY else "writable"
        owners = f", owners shifted: {self.ids.describe()}" if self.ids else ""
        source = posixpath.join(self.source, self.subpath) if self.subpath else self.source
        return f"bind {source} on {self.destination}, {mode}{owners}"

    def sources(self) -> tuple[str, ...]:
        if self.inside:
            return ("ids:" + msgspec.json.encode(self.ids).decode(),) if self.ids else ()
        source = f"{'rbind' if self.recursive else 'bind'}:{self.source}"
        if self.subpath:
            source = "below:" + msgspec.json.encode(Below(self.source, self.subpath, self.recursive)).decode()
        if self.ids:
            source = "idmap:" + msgspec.json.encode(Shifted(source, self.ids, self.shift_below)).decode()
        return (source,)

    def apply(self, stage: Stage) -> None:
        with attempt(f"mounting {self.source!r} to rootfs at {self.destination!r}"):
            tree = self._inner(stage) if self.inside else stage.take(self.sources()[0])
            try:
                directory = stat.S_ISDIR(os.fstat(tree).st_mode)
                target = place(stage, self.destination, directory=directory)
                linux.mount_setattr(
                    tree,
                    add=MountAttr(self.add_below),
                    clear=MountAttr(self.clear_below),
                    propagation=MountFlag(self.propagation),
                    recursive=self.recursive,
                )
                if self.add or self.clear:
                    linux.mount_setattr(tree, add=MountAttr(self.add), clear=MountAttr(self.clear))
                attach(tree, target)
            finally:
                os.close(tree)

    def _inner(self, stage: Stage) -> int:
        """A copy of what is at `inside` now."""
        found = open_in_root(stage.root, self.inside, os.O_PATH)
        deep = OpenTree.RECURSIVE if self.recursive else OpenTree(0)
        tree = linux.open_tree(found, "", OpenTree.CLONE | OpenTree.EMPTY_PATH | deep)
        os.close(found)
        if self.ids:
            ids = stage.take(self.sources()[0])
            try:
                linux.mount_setattr(tree, add=MountAttr.IDMAP, userns=ids, recursive=self.shift_below)
            finally:
                os.close(ids)
        return tree


class ReadonlyMounts(Step, frozen=True, tag="readonly_mounts"):
    """Mounts that others were put into become read-only once that is done."""

    paths: tuple[str, ...]

    def describe(self) -> str:
        return "make read-only: " + " ".join(self.paths)

    def apply(self, stage: Stage) -> None:
        for path in self.paths:
            with attempt(f"making {path} read-only"):
                found = open_in_root(stage.root, path, os.O_PATH)
                try:
                    linux.mount_setattr(found, add=MountAttr.RDONLY)
                finally:
                    os.close(found)
