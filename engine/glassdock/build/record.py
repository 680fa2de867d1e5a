"""The record of a build: which line of the Dockerfile made which layer, how, and why not from the cache.

Interface:
- `Records(paths)`: `keep(record)`, `of(image_id)`, `forget(image_id)`.
- `BuildRecord`, `StepRecord`: what is kept.

Rules: one file an image, named by its id; the last build that gave this image counts. A record that cannot be read is
as good as none: it explains an image, the image does not need it.
"""

from __future__ import annotations

import contextlib

import msgspec

from glassdock.oci import digest as digests
from glassdock.paths import Paths, atomic_write


class StepRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One instruction of the build. `layer` is the diff id, "" where none was made; `duration` in seconds.

    `cached` steps were not run; `reason` says why one was. `start` and `end` are lines of the Dockerfile.
    """

    stage: str
    start: int
    end: int
    text: str
    created_by: str
    cached: bool
    reason: str = ""
    duration: float = 0.0
    layer: str = ""
    chain_id: str = ""
    size: int = 0


class BuildRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One build: the Dockerfile as it was, its steps in order, the stages that were skipped."""

    image: str
    dockerfile: str
    text: str
    created: str
    duration: float
    steps: tuple[StepRecord, ...]
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Records:
    """The records of one engine."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.build / "records"
        self._folder.mkdir(mode=0o711, parents=True, exist_ok=True)

    def keep(self, record: BuildRecord) -> None:
        """Write the record of an image."""
        path = self._folder / digests.hexdigits(digests.parse(record.image))
        atomic_write(path, msgspec.json.encode(record), sync=False)

    def of(self, image_id: str) -> BuildRecord | None:
        """The record of an image, None if it was not built here."""
        path = self._folder / digests.hexdigits(digests.parse(image_id))
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            return msgspec.json.decode(path.read_bytes(), type=BuildRecord)
        return None

    def forget(self, image_id: str) -> None:
        """Remove the record of an image that is gone."""
        with contextlib.suppress(FileNotFoundError):
            (self._folder / digests.hexdigits(digests.parse(image_id))).unlink()
