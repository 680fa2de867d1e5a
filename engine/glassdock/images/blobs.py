"""Bytes under their digest: written once, checked, never changed.

Interface:
- `Blobs(folder)`: `has`, `path`, `size`, `read`, `digests`, `remove`.
- `Blobs.ingest(digest, size)`: a writer; on leaving, the content is checked and then there, whole.

Rules: a file under `blobs/` is complete and fits its name, because it was renamed there after the check. Several may
write the same blob at once; the last rename wins, and they are equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from glassdock.errors import Corrupt, NotFound, from_oserror
from glassdock.oci import digest as digests

DOCUMENT_LIMIT = 16 << 20


class BlobWriter:
    """A blob while it is written; `digest` and `size` say what was written so far."""

    def __init__(self, file: IO[bytes], expected: str | None, size: int) -> None:
        self._file = file
        self._expected = expected
        self._size = size
        self._hash = hashlib.new(expected.partition(":")[0] if expected else "sha256")
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return f"{self._hash.name}:{self._hash.hexdigest()}"

    def write(self, chunk: bytes | memoryview) -> int:
        """Add a chunk; raises Corrupt as soon as there is more than was announced, StorageFull."""
        self.size += len(chunk)
        if 0 <= self._size < self.size:
            raise Corrupt(f"{self._expected} is longer than the {self._size} bytes that its description says")
        self._hash.update(chunk)
        try:
            return self._file.write(chunk)
        except OSError as error:
            raise from_oserror(error, "writing a blob") from error

    def check(self) -> str:
        """The digest; raises Corrupt unless size and digest are as announced."""
        if self._size >= 0 and self.size != self._size:
            raise Corrupt(f"{self._expected} has {self.size} bytes, its description says {self._size}")
        if self._expected and self.digest != self._expected:
            raise Corrupt(f"content has digest {self.digest}, its description says {self._expected}")
        return self.digest


class Blobs:
    """The content store of one engine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "blobs"
        self._ingest = folder / "ingest"
        for made in (self._folder, self._ingest):
            made.mkdir(mode=0o711, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the blob is or would be; raises InvalidParameter for what is no digest."""
        algorithm, _, encoded = digests.parse(digest).partition(":")
        return self._folder / algorithm / encoded

    def has(self, digest: str) -> bool:
        """True if the blob is here."""
        return self.path(digest).exists()

    def size(self, digest: str) -> int:
        """Its size in bytes; raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound(f"no blob {digest}") from None

    def read(self, digest: str) -> bytes:
        """A document's bytes; raises NotFound, or Corrupt for what cannot be a document (16 MiB and more)."""
        if self.size(digest) > DOCUMENT_LIMIT:
            raise Corrupt(f"{digest} is too long for a document")
        return self.path(digest).read_bytes()

    @contextlib.contextmanager
    def ingest(self, digest: str | None = None, size: int = -1) -> Iterator[BlobWriter]:
        """Write a blob. Raises Corrupt on leaving where it is not as announced; left by an error, nothing stays."""
        try:
            handle, name = tempfile.mkstemp(dir=self._ingest)
        except OSError as error:
            raise from_oserror(error, "writing a blob") from error
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                writer = BlobWriter(file, digests.parse(digest) if digest else None, size)
                yield writer
                final = self.path(writer.check())
                try:
                    os.fchmod(handle, 0o644)
                    os.fsync(handle)
                    final.parent.mkdir(mode=0o711, exist_ok=True)
                    os.rename(name, final)
                except OSError as error:
                    raise from_oserror(error, "writing a blob") from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)

    def write(self, data: bytes) -> str:
        """Write a document; returns its digest."""
        digest = digests.of(data)
        if not self.has(digest):
            with self.ingest(digest, len(data)) as writer:
                writer.write(data)
        return digest

    def digests(self) -> list[str]:
        """The digests of all blobs."""
        return [f"{folder.name}:{entry.name}" for folder in os.scandir(self._folder) for entry in os.scandir(folder)]

    def remove(self, digest: str) -> None:
        """Remove a blob that nothing refers to; a missing one is no error."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(digest))

    def clear_ingest(self) -> None:
        """At start: remove what a killed daemon was writing."""
        for entry in list(os.scandir(self._ingest)):
            os.unlink(entry.path)
