"""A container's files as the container sees them, for the engine to read and write: running or not.

Interface:
- `in_container(engine, container, work)`: call `work` in a thread with a descriptor of the container's root.
- `look(root, path)`: where a path of a client leads inside the root; `Found`.
- `write(root, found, out)`: what is there as a tar. `whole(root, out)`: the whole root.

Rules: a running container's root is that of its first process, with all that is mounted in it; another one's is mounted
where only the thread sees it. Nobody enters the root, and every path is resolved by the kernel below the descriptor
(openat2, RESOLVE_IN_ROOT), each time anew: a container that swaps a directory for a link while we look leads us only to
files of its own (CVE-2018-15664), and no code or name service is ever loaded from there (CVE-2019-14271).

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container/operation/ContainerArchive
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from glassdock.containers import mounting
from glassdock.containers.model import Container
from glassdock.engine import Engine
from glassdock.errors import InvalidParameter, NotFound
from glassdock.images import pack
from glassdock.images.compression import Sink
from glassdock.images.pack import Hashing
from glassdock.images.tar import BLOCK
from glassdock.linux.mount import MountAttr, mount_setattr
from glassdock.linux.openat2 import make_directories, open_in_root
from glassdock.unionfs import trees
from glassdock.unionfs.rooted import in_roots
from glassdock.unionfs.trees import Node

T = TypeVar("T")
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


@dataclass(frozen=True, slots=True)
class Found:
    """`name` in the directory `above` (a path inside the root); `shown` is what the archive's members begin with."""

    above: str
    name: str
    shown: str
    status: os.stat_result
    link: str = ""


async def in_container(engine: Engine, container: Container, work: Callable[[int], T]) -> T:
    """Call `work` with a descriptor of the root; raises what it raises."""
    root = _running_root(container)
    if root is not None:
        try:
            return await asyncio.to_thread(work, root)
        finally:
            os.close(root)
    mount = engine.snapshots.mount_of(container.id)
    async with engine.containers.lent(container):
        return await in_roots([mount], engine.paths.tmp, lambda roots: _with_volumes(container, roots[0], work))


def _with_volumes(container: Container, root: int, work: Callable[[int], T]) -> T:
    """What a start would mount in the root is there, too; an image that has a file in the way is looked at without."""
    if container.host.readonly_rootfs:
        for point in container.mounts:
            with contextlib.suppress(OSError):
                os.close(make_directories(root, point.destination))
        mount_setattr(root, add=MountAttr.RDONLY)
    mounting.attach(container.mounts, root)
    return work(root)


def _running_root(container: Container) -> int | None:
    """The root of its first process; None where it does not run (any more)."""
    if not container.state.running:
        return None
    try:
        root = os.open(f"/proc/{container.state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError), open(f"/proc/{container.state.pid}/cgroup") as file:
        if container.id in file.read():  # not another process that got the number meanwhile
            return root
    os.close(root)
    return None


def look(root: int, path: str) -> Found:
    """What a path names: its last component is not followed, unless it ends with a slash. Raises NotFound."""
    absolute = posixpath.normpath("/" + path.lstrip("/"))
    base = posixpath.basename(absolute)
    inside = path.endswith(("/", "/.")) or absolute == "/"
    above, name = (absolute, ".") if inside else (posixpath.dirname(absolute), base)
    try:
        with _directory(root, above) as directory:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            link = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(status.st_mode) else ""
    except OSError as error:
        if error.errno in _MISSING:
            raise NotFound(f"Could not find the file {path} in the container") from None
        raise
    shown = "/" if absolute == "/" else "." if path.endswith("/.") else base
    target = posixpath.normpath(posixpath.join(above, link)) if link else ""
    return Found(above, name, shown, status, target)


@contextlib.contextmanager
def _directory(root: int, path: str) -> Iterator[int]:
    directory = open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield directory
    finally:
        os.close(directory)


def write(root: int, found: Found, out: Sink) -> None:
    """Write it and all below it as a tar; raises OSError where it goes meanwhile."""
    target = Hashing(out)
    shown = os.fsencode(found.shown)
    first: dict[int, bytes] = {}
    with _directory(root, found.above) as above:
        name = os.fsencode(found.name)
        status = os.stat(name, dir_fd=above, follow_symlinks=False)
        pack.member(Node(shown, name, above, status), first, target)
        if stat.S_ISDIR(status.st_mode):
            with _directory(above, found.name) as directory:
                _below(directory, shown.rstrip(b"/") + b"/", first, target)
    target.write(bytes(2 * BLOCK))


def whole(root: int, out: Sink) -> None:
    """Write the whole root, without its own entry: `docker export`."""
    target = Hashing(out)
    with _directory(root, "/") as directory:
        _below(directory, b"", {}, target)
    target.write(bytes(2 * BLOCK))


def _below(directory: int, prefix: bytes, first: dict[int, bytes], out: Hashing) -> None:
    for node in trees.walk(b"/proc/self/fd/%d/." % directory):
        try:
            pack.member(replace(node, path=prefix + node.path), first, out)
        except FileNotFoundError:
            continue  # a running container removed it


def destination(root: int, path: str) -> int:
    """A descriptor of the directory that an archive is unpacked in. Raises NotFound, InvalidParameter."""
    try:
        return open_in_root(root, "/" + path.lstrip("/"), os.O_RDONLY | os.O_DIRECTORY)
    except NotADirectoryError:
        raise InvalidParameter("extraction point is not a directory") from None
    except OSError as error:
        if error.errno in _MISSING:
            raise NotFound(f"Could not find the file {path} in the container") from None
        raise
