"""Looking into layers from the engine itself: mounts that only one thread sees, for as long as it looks.

Interface:
- `in_roots(mounts, folder, work)`: mount each, call `work` with a descriptor of each root, unmount.

Rules: the thread gets a mount namespace of its own, so that no other process sees the mounts, and a daemon that is
killed leaves none. Paths are resolved inside the descriptors (openat2); nobody enters the root.
Source: mount_namespaces(7)
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from glassdock.linux.clone import CloneFlag, unshare
from glassdock.linux.mount import MountFlag, UmountFlag, mount, umount2
from glassdock.unionfs.mounts import Mount

T = TypeVar("T")


async def in_roots(mounts: Sequence[Mount], folder: Path, work: Callable[[list[int]], T]) -> T:
    """Call `work` in a thread, with a descriptor of each mount's root; `folder` holds the mount points meanwhile."""
    context = contextvars.copy_context()
    # A fresh thread: once it has left the common mount namespace, it can do nothing else.
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rooted")
    future = asyncio.get_running_loop().run_in_executor(pool, context.run, _look, mounts, folder, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])  # what it has mounted must be gone before the layer is
        raise
    finally:
        pool.shutdown(wait=False)


def _look(mounts: Sequence[Mount], folder: Path, work: Callable[[list[int]], T]) -> T:
    unshare(CloneFlag.NEWNS)
    mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
    with contextlib.ExitStack() as undo:
        roots: list[int] = []
        for one in mounts:
            point = tempfile.mkdtemp(prefix="root-", dir=folder)
            undo.callback(os.rmdir, point)
            one.apply(point)
            undo.callback(umount2, point, UmountFlag.DETACH)
            roots.append(os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            undo.callback(os.close, roots[-1])
        return work(roots)
