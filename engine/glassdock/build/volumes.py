"""What a RUN does to a path that a VOLUME before it has named: it happens, and it is not in the image.

Interface: `set_aside(scratch, view, paths, host)`: the step's host configuration, with a copy of each path bound there.

Rules: as Docker's classic builder, whose steps are containers with volumes: a command sees what the layers have at the
path, and what it changes there goes with it. COPY and ADD are no containers: what they put there stays.

Source: https://docs.docker.com/reference/dockerfile/#notes-about-specifying-volumes
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec

from glassdock.containers.config import HostConfig, MountPoint
from glassdock.containers.mounting import fill
from glassdock.containers.mountpoints import absolute
from glassdock.linux.openat2 import open_in_root
from glassdock.unionfs import trees
from glassdock.unionfs.mounts import Mount
from glassdock.unionfs.rooted import in_roots


@contextlib.asynccontextmanager
async def set_aside(
    scratch: Path, view: Mount | None, paths: Iterable[str], host: HostConfig
) -> AsyncIterator[HostConfig]:
    """`host` with a folder of its own for each path that nothing else is mounted on; the folders go afterwards."""
    taken = {absolute(mount.target) for mount in host.mounts or ()} | set(host.tmpfs or {})
    wanted = sorted({absolute(f"/{path}") for path in paths} - taken)
    if not wanted:
        yield host
        return
    top = Path(tempfile.mkdtemp(prefix="volumes-", dir=scratch))
    try:
        folders = {path: top / str(number) for number, path in enumerate(wanted)}
        for folder in folders.values():
            folder.mkdir()
            folder.chmod(0o755)
        if view is not None:
            await in_roots([view], scratch, lambda roots: _fill(folders, roots[0]))
        points = tuple(MountPoint("bind", path, str(folder)) for path, folder in folders.items())
        yield msgspec.structs.replace(host, mounts=(*(host.mounts or ()), *points))
    finally:
        await asyncio.to_thread(trees.remove, top)


def _fill(folders: dict[str, Path], root: int) -> None:
    for path, folder in folders.items():
        try:
            source = open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            continue  # a volume of the command's own, empty
        try:
            fill(folder, source, swap=False)
        finally:
            os.close(source)
