"""Garbage collection: content that no repository needs any more goes, while others push.

Deleting a manifest, or moving a tag and deleting what it pointed to, takes away links only. What then is left is found
by marking from the manifests.

Interface: `collect(storage, grace)`: what was freed.

Rules: it stops all changes of the registry for the time it takes (`Storage.alone`); reading goes on. A push brings
blobs first and their manifest last, so a blob without a manifest goes only when nobody has sent, mounted or asked for
it during `grace` seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glassdock.registry.manifest import read
from glassdock.registry.storage import Storage

GRACE = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Collected:
    """What was freed: blobs, and their bytes."""

    blobs: int
    size: int


def collect(storage: Storage, grace: float = GRACE) -> Collected:
    """Remove what no manifest needs, and nobody has touched for `grace` seconds."""
    limit = time.time() - grace
    with storage.alone():
        used: set[str] = set()
        for repository in storage.repositories(all_of_them=True):
            used |= _links(storage, repository, limit)
        count = size = 0
        for digest, path in _content(storage.root / "blobs"):
            status = path.stat()
            if digest not in used and status.st_mtime <= limit:
                path.unlink()
                count, size = count + 1, size + status.st_size
        # What writers that were killed left under a temporary name.
        for path in storage.root.rglob(".*"):
            if path.is_file() and path.stat().st_mtime <= limit:
                path.unlink()
    return Collected(count, size)


def _links(storage: Storage, repository: str, limit: float) -> set[str]:
    """What the repository goes on holding; its links to blobs that it does not need go."""
    folder = storage.root / "repositories" / repository
    manifests = {digest for digest, _ in _content(folder / "_manifests")}
    needed: set[str] = set()
    for digest in manifests:
        descriptor, data = storage.manifest(repository, digest)
        needed |= {blob.digest for blob in read(data, descriptor.media_type).blobs}
    kept = set(manifests)
    for digest, link in _content(folder / "_blobs"):
        if digest in needed or link.stat().st_mtime > limit:
            kept.add(digest)
        else:
            link.unlink()
    return kept


def _content(folder: Path) -> Iterator[tuple[str, Path]]:
    """The digests that a folder has files for."""
    for path in sorted(folder.glob("*/[!.]*")):
        yield f"{path.parent.name}:{path.name}", path
