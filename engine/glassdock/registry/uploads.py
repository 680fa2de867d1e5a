"""Uploads: blobs on their way in, which survive a broken connection and a killed registry.

An upload is a file that only grows. How much has arrived is its length, so a client that lost the connection, or a
registry that was killed, asks for the length and goes on from there.

Interface:
- `Uploads.start(folder)`: begin one; the id is its name from now on.
- `with uploads.turn(folder, id) as upload:` `upload.write(chunk)`, `upload.verified(digest)`.
- `Uploads.offset`, `.cancel`, `.expire`.

Rules: one holder of the file's flock writes at a time, and the lock ends with its process. The hash is computed while
the bytes pass; its state between two requests is kept in memory, and is computed from the file where it is not.
Source: distribution-spec 1.1, "Pushing a blob in chunks".
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from glassdock.errors import Conflict, Corrupt, InvalidParameter, NotFound
from glassdock.oci import digest as digests

LIFETIME = 7 * 24 * 3600.0


@dataclass(slots=True)
class Upload:
    """One holder's turn at an upload; `offset` is how many bytes have arrived."""

    path: Path
    offset: int
    file: FileIO
    algorithm: str
    state: Any

    def write(self, chunk: bytes) -> None:
        """Append a chunk; it is with the kernel when this returns."""
        view = memoryview(chunk)
        while view:
            view = view[self.file.write(view) :]
        self.state.update(chunk)
        self.offset += len(chunk)

    def verified(self, digest: str) -> Path:
        """The whole file, on disk and checked. Raises Corrupt, and forgets the upload, if it has another digest."""
        algorithm = digests.parse(digest).partition(":")[0]
        if algorithm != self.algorithm:
            self.algorithm, self.state = algorithm, _hash_of(self.path, algorithm)
        actual = f"{algorithm}:{self.state.hexdigest()}"
        if actual != digest:
            self.path.unlink(missing_ok=True)
            raise Corrupt(f"the content that was received has the digest {actual}, not {digest}")
        os.fsync(self.file.fileno())
        return self.path


@dataclass(slots=True)
class Uploads:
    """The uploads of a registry; `folder` is always the `_uploads` of a repository."""

    _states: dict[str, tuple[int, str, Any]] = field(default_factory=dict)

    def start(self, folder: Path, algorithm: str = "sha256") -> str:
        """Begin an upload. Raises InvalidParameter for an unknown digest algorithm."""
        state = _new_hash(algorithm)
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        name = str(uuid.uuid4())
        (folder / name).touch(mode=0o600, exist_ok=False)
        self._states[name] = (0, algorithm, state)
        return name

    @contextlib.contextmanager
    def turn(self, folder: Path, name: str) -> Iterator[Upload]:
        """Take an upload's turn; what was written stays when it ends.

        Raises NotFound, or Conflict where somebody else has the turn.
        """
        path = _path(folder, name)
        with _locked(path, name) as file:
            offset = os.fstat(file.fileno()).st_size
            known, algorithm, state = self._states.pop(name, (-1, "sha256", None))
            if known != offset:
                state = _hash_of(path, algorithm)
            upload = Upload(path, offset, file, algorithm, state)
            try:
                yield upload
            finally:
                if path.exists():
                    self._states[name] = (upload.offset, upload.algorithm, upload.state)

    def offset(self, folder: Path, name: str) -> int:
        """How many bytes have arrived; raises NotFound."""
        try:
            return _path(folder, name).stat().st_size
        except FileNotFoundError:
            raise _unknown(name) from None

    def cancel(self, folder: Path, name: str) -> None:
        """Forget an upload; raises NotFound."""
        try:
            _path(folder, name).unlink()
        except FileNotFoundError:
            raise _unknown(name) from None
        self._states.pop(name, None)

    def expire(self, folder: Path, older_than: float = LIFETIME) -> int:
        """Forget the uploads that nothing was added to for that many seconds; gives their number."""
        limit, gone = time.time() - older_than, 0
        for path in folder.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < limit:
                    path.unlink()
                    self._states.pop(path.name, None)
                    gone += 1
        return gone


@contextlib.contextmanager
def _locked(path: Path, name: str) -> Iterator[FileIO]:
    """The upload's file, open to append, for one holder."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)  # not created: open() would
    except FileNotFoundError:
        raise _unknown(name) from None
    # Unbuffered: what is acknowledged is with the kernel, and a killed registry loses nothing.
    with open(descriptor, "ab", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"somebody else is writing the upload {name}") from None
        # Between open and lock the file may have become a blob, which nobody may append to.
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
            raise _unknown(name)
        yield file


def _path(folder: Path, name: str) -> Path:
    try:
        return folder / str(uuid.UUID(name))  # it becomes a file's name
    except ValueError:
        raise _unknown(name) from None


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no upload {name[:64]}")


def _new_hash(algorithm: str) -> Any:
    if algorithm not in ("sha256", "sha512"):
        raise InvalidParameter(f"unsupported digest algorithm {algorithm!r}", "Known ones are sha256 and sha512.")
    return hashlib.new(algorithm)


def _hash_of(path: Path, algorithm: str) -> Any:
    state = _new_hash(algorithm)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return state
