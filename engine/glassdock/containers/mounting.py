"""A container's mount points made true: volumes made and filled, mounted while it runs, given back when it goes.

Interface:
- `Mounting(parts)`: `make(container, undo)` at create, `begin(container)` and `end(container)` around a run,
  `leave(container, remove)` when it goes.
- `attach(points, root, readonly)`: put them into a root that is looked at from outside (`docker cp`).
- `warnings(container)`: what of it the machine will not do.
- `fill(data, source)`: a new volume gets what the image has at that path.

Rules: every path in the container's root is resolved inside it, whatever the image has put there (CVE-2022-23648); of
a volume the same. A volume that is not empty is never filled. One fill at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import stat
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec

from glassdock import trace
from glassdock.containers.model import Container
from glassdock.containers.mountpoints import Point
from glassdock.containers.parts import Parts
from glassdock.errors import InvalidParameter, StartFailed
from glassdock.linux import mount as linux
from glassdock.linux.mount import AT_FDCWD, MountAttr, OpenTree
from glassdock.linux.openat2 import make_directories, open_in_root
from glassdock.unionfs import copy, trees
from glassdock.unionfs.rooted import in_roots

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Mounting:
    """The volumes and folders of every container."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._filling = asyncio.Lock()

    # ---- with the container's record

    async def make(self, container: Container, undo: contextlib.ExitStack) -> None:
        """Make the volumes that are not there, fill those that are empty; `undo` takes the anonymous ones back."""
        volumes = self._parts.volumes
        with trace.span("volumes.create"):
            undo.callback(self._take_back, container)
            points = []
            for point in container.mounts:
                if point.type == "volume":
                    made = volumes.create(
                        point.name,
                        driver=point.driver,
                        labels=point.labels,
                        options=point.options,
                        creator="" if point.named or volumes.holders(point.name) else container.id,
                    )
                    volumes.hold(made.name, container.id)
                    point = msgspec.structs.replace(point, source=str(volumes.data(made.name)), driver=made.driver)
                points.append(point)
            container.mounts = tuple(points)
        await self._fill(container)

    def _take_back(self, container: Container) -> None:
        for folder in self.leave(container, remove=True):
            self._parts.volumes.erase(folder)

    def leave(self, container: Container, *, remove: bool) -> list[Path]:
        """The container goes; returns the folders of its anonymous volumes to erase, if it is to `remove` them."""
        anonymous = {point.name for point in container.mounts if point.type == "volume" and not point.named}
        return self._parts.volumes.leave(container.id, anonymous, remove=remove)

    async def _fill(self, container: Container) -> None:
        volumes = self._parts.volumes
        async with self._filling:
            points = (point for point in container.mounts if point.type == "volume" and point.copy)
            wanted = [
                point for point in points if volumes.get(point.name).options or not os.listdir(volumes.data(point.name))
            ]
            if not wanted:
                return
            with trace.span("volumes.fill", volumes=len(wanted)):
                try:
                    for point in wanted:
                        await volumes.mount(point.name, container.id)
                    root = self._parts.snapshots.mount_of(container.id)
                    await in_roots([root], self._parts.paths.tmp, lambda roots: self._fill_all(wanted, roots[0]))
                finally:
                    volumes.unmount(container.id, quiet=True)

    def _fill_all(self, points: Iterable[Point], root: int) -> None:
        for point in points:
            source = _directory(root, point.destination)
            if source < 0:
                continue
            try:
                data = Path(point.source)
                if not os.listdir(data):
                    alone = len(self._parts.volumes.holders(point.name)) == 1
                    plain = not self._parts.volumes.get(point.name).options
                    fill(data, source, swap=alone and plain)
            finally:
                os.close(source)

    # ---- around a run

    async def begin(self, container: Container) -> None:
        """Mount what has to be, make the folders that `-v` promises. Raises NotFound, StartFailed, GlassdockError."""
        for point in container.mounts:
            if point.type == "volume":
                mode = "true" if point.writable else "false"
                told = {"destination": point.destination, "propagation": point.propagation, "read/write": mode}
                await self._parts.volumes.mount(point.name, container.id, told)
            elif point.type == "bind":
                _check_source(point)

    def end(self, container: Container) -> None:
        """It does not run any more."""
        self._parts.volumes.unmount(container.id)

    def resume(self, container: Container) -> None:
        """It was running when the last daemon ended, and is."""
        for point in container.mounts:
            if point.type == "volume":
                self._parts.volumes.resume(point.name, container.id)

    @contextlib.asynccontextmanager
    async def lent(self, container: Container) -> AsyncIterator[None]:
        """Its volumes, mounted while somebody looks at a container that does not run."""
        key = f"look-{secrets.token_hex(8)}"
        try:
            for point in container.mounts:
                if point.type == "volume":
                    await self._parts.volumes.mount(point.name, key)
            yield
        finally:
            self._parts.volumes.unmount(key, quiet=True)


def attach(points: Iterable[Point], root: int) -> None:
    """Mount them in a root that only this thread sees; places that are missing are made, as a start would.

    What no start could mount (a folder of the machine's that has gone, a file of the image in the way) is left out.
    """
    for point in sorted(points, key=lambda point: point.destination.count("/")):
        if point.type == "tmpfs":
            continue  # it begins with a run and ends with it
        try:
            _attach(point, root)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise


def _attach(point: Point, root: int) -> None:
    source = _source(point)
    try:
        if stat.S_ISDIR(os.fstat(source).st_mode):
            target = make_directories(root, point.destination)
        else:
            target = open_in_root(root, point.destination, os.O_PATH)
        try:
            readonly = MountAttr(0) if point.writable else MountAttr.RDONLY
            linux.mount_setattr(source, add=MountAttr.NODEV | readonly, recursive=point.recursive)
            linux.move_mount(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _source(point: Point) -> int:
    """A detached copy of the mount point's source."""
    flags = OpenTree.CLONE | (OpenTree.RECURSIVE if point.recursive else OpenTree(0))
    if not point.subpath:
        return linux.open_tree(AT_FDCWD, point.source, flags)
    top = os.open(point.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = open_in_root(top, point.subpath, os.O_PATH)
    finally:
        os.close(top)
    try:
        return linux.open_tree(found, "", flags | OpenTree.EMPTY_PATH)
    finally:
        os.close(found)


def fill(data: Path, source: int, *, swap: bool) -> None:
    """Copy what is in the open directory `source`, and its owner and mode, into the empty folder `data`.

    With `swap` beside it and then into its place at once, so that whoever is killed leaves all or nothing of it.
    """
    target = data.with_name(f".fill-{secrets.token_hex(8)}") if swap else data
    if swap:
        target.mkdir(mode=0o700)
    try:
        copy.duplicate(source, target)
        if swap:
            os.rename(target, data)
    except BaseException:
        if swap:
            trees.remove(target)
        raise


def _directory(root: int, path: str) -> int:
    """A descriptor of the directory in the container's root; -1 where there is none. Raises InvalidParameter."""
    try:
        return open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except NotADirectoryError:
        with contextlib.suppress(OSError):
            os.close(open_in_root(root, path, os.O_PATH))
            message = f"cannot mount volume over existing file, file exists {path}"
            raise InvalidParameter(message, "Choose another place, or an image without it.") from None
        return -1
    except OSError as error:
        if error.errno in _NOT_THERE:
            return -1
        raise


def _check_source(point: Point) -> None:
    """The folder of the machine's is there, or is made."""
    if point.make and not os.path.lexists(point.source):
        try:
            os.makedirs(point.source, exist_ok=True)
        except OSError as error:
            words = f"error while creating mount source path '{point.source}': mkdir {point.source}"
            raise StartFailed(f"{words}: {(error.strerror or '').lower()}") from error
    if not os.path.exists(point.source):
        message = f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
        raise InvalidParameter(message, "Make the folder, or use -v, which does.")


def warnings(container: Container) -> list[str]:
    """Where mounts will not spread although that was asked for, because the machine keeps them to itself."""
    told = []
    for point in container.mounts:
        wanted = point.propagation.removeprefix("r")
        if point.type == "bind" and wanted in ("shared", "slave"):
            place, tags = _mount_of(point.source)
            if "shared" not in tags and (wanted == "shared" or "master" not in tags):
                words = "shared mount" if wanted == "shared" else "shared or slave mount"
                told.append(
                    f"path {point.source} is mounted on {place} but it is not a {words}: nothing will spread, "
                    f"until `mount --make-shared {place}`."
                )
    return told


def _mount_of(path: str) -> tuple[str, set[str]]:
    """The mount that a path is on: where it is, and how it spreads (shared, master)."""
    inside = os.path.realpath(path)
    best, tags = "", set()
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields = line.split(" ")
            place = fields[4].encode().decode("unicode_escape")
            if (inside == place or inside.startswith(place.rstrip("/") + "/")) and len(place) >= len(best):
                best, tags = place, {word.partition(":")[0] for word in fields[6 : fields.index("-")]}
    return best, tags
