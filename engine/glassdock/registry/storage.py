"""What a registry keeps on disk: blobs by digest, and for each repository what it holds of them.

    blobs/sha256/9f86…                                 content, once for all repositories
    repositories/library/busybox/_blobs/sha256/9f86…   empty: this repository holds that blob
    repositories/library/busybox/_manifests/sha256/2c…  its media type: this repository holds that manifest
    repositories/library/busybox/_tags/latest          the digest that the tag points to
    repositories/library/busybox/_referrers/…          by subject: descriptors of the manifests that refer to it
    repositories/library/busybox/_uploads/5b0c…        an upload that has not ended; its length is what was received

Interface:
- `Storage.blob`, `.manifest`, `.tags`, `.referrers`, `.repositories`: what is there; NotFound where it is not.
- `Storage.start_upload()`, then `with storage.upload(repository, id) as upload:` `upload.write()`, and at last
  `storage.finish_upload()`: content on its way in (uploads.py).
- `Storage.mount`, `.put_manifest`, `.delete_blob`, `.delete_manifest`, `.delete_tag`: what changes a repository.

Rules: a file appears under its final name whole or not at all (temporary name, fsync, rename), so a reader needs no
lock and a killed writer leaves at most an upload to resume. Manifests of one repository change under one flock, and
an upload is written by one holder of its flock; both end with the process. Path components of a repository never begin
with `_`, so our folders never meet a repository's name. Deleting takes away links; the content stays for others.
Everything here blocks; the server calls it from worker threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from glassdock.errors import Corrupt, InvalidParameter, NotFound, from_oserror
from glassdock.oci import digest as digests
from glassdock.oci import image, reference
from glassdock.paths import atomic_write
from glassdock.registry.manifest import Reading, read
from glassdock.registry.uploads import LIFETIME, Upload, Uploads


@dataclass(frozen=True, slots=True)
class Blob:
    """Content that a repository holds: where it lies, and its size in bytes."""

    digest: str
    path: Path
    size: int


@dataclass(slots=True)
class Storage:
    """A registry's folder. Several threads, and several processes, may use it at once."""

    root: Path
    _uploads: Uploads = field(default_factory=Uploads)

    def __post_init__(self) -> None:
        try:
            for folder in (self.root / "blobs", self.root / "repositories"):
                folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            raise from_oserror(error, "opening the registry's storage") from error

    # What is there

    def blob(self, repository: str, digest: str) -> Blob:
        """A blob that the repository holds; raises NotFound."""
        try:
            # Whoever hears that a blob is there does not send it: that counts as using it (garbage.py).
            os.utime(self._folder(repository) / "_blobs" / _split(digest))
        except FileNotFoundError:
            raise NotFound(f"blob {digest} is not in {repository}") from None
        return self._content(digest)

    def manifest(self, repository: str, target: str) -> tuple[image.Descriptor, bytes]:
        """The manifest with that tag or digest, as the bytes that were pushed; raises NotFound."""
        digest = target if ":" in target else self.resolve(repository, target)
        try:
            media_type = (self._folder(repository) / "_manifests" / _split(digest)).read_text()
        except FileNotFoundError:
            raise NotFound(f"manifest {target} is not in {repository}") from None
        data = self._content(digest).path.read_bytes()
        return image.Descriptor(media_type, digest, len(data)), data

    def resolve(self, repository: str, tag: str) -> str:
        """The digest that a tag points to; raises NotFound."""
        if not reference.is_tag(tag):
            raise NotFound(f"{tag!r} cannot be a tag")
        try:
            return (self._folder(repository) / "_tags" / tag).read_text()
        except FileNotFoundError:
            raise NotFound(f"tag {tag} is not in {repository}") from None

    def tags(self, repository: str) -> list[str]:
        """The repository's tags, sorted as bytes are; raises NotFound for a repository that never held anything."""
        folder = self._folder(repository)
        if not any((folder / kind).is_dir() for kind in ("_blobs", "_manifests")):
            raise NotFound(f"repository {repository} is not known")
        return sorted(name for name in _names(folder / "_tags") if not name.startswith("."))

    def referrers(self, repository: str, subject: str) -> list[image.Descriptor]:
        """The manifests of the repository that have `subject` as their subject; none is not an error."""
        folder = self._folder(repository) / "_referrers" / _split(subject)
        found = []
        for name in sorted(name for name in _names(folder) if not name.startswith(".")):
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                found.append(image.decode(image.Descriptor, (folder / name).read_bytes()))
        return found

    def repositories(self, *, all_of_them: bool = False) -> list[str]:
        """The names of the repositories that hold a manifest, sorted; or of all that there are."""
        base = self.root / "repositories"
        found = []
        for folder, children, _ in os.walk(base):
            if "_manifests" in children or (all_of_them and "_blobs" in children):
                found.append(Path(folder).relative_to(base).as_posix())
            children[:] = [child for child in children if not child.startswith("_")]
        return sorted(found)

    # Uploads

    def start_upload(self, repository: str, algorithm: str = "sha256") -> str:
        """Begin an upload; the id is its name from now on. Raises InvalidParameter for an unknown digest algorithm."""
        return self._uploads.start(self._folder(repository) / "_uploads", algorithm)

    def upload(self, repository: str, name: str) -> AbstractContextManager[Upload]:
        """Take an upload's turn (uploads.py); raises NotFound, or Conflict where somebody else has it."""
        return self._uploads.turn(self._folder(repository) / "_uploads", name)

    def finish_upload(self, repository: str, upload: Upload, digest: str) -> Blob:
        """End an upload whose turn one has: it becomes a blob of the repository.

        Raises Corrupt, and forgets the upload, if the content has another digest.
        """
        source, target = upload.verified(digest), self.root / "blobs" / _split(digest)
        with self._locked("_lock", fcntl.LOCK_SH):
            target.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            # Two pushes of one blob end here: the last rename wins, over the same content.
            os.rename(source, target)
            self._link(repository, digest)
        return Blob(digest, target, upload.offset)

    def upload_offset(self, repository: str, name: str) -> int:
        """How many bytes of an upload have arrived; raises NotFound."""
        return self._uploads.offset(self._folder(repository) / "_uploads", name)

    def cancel_upload(self, repository: str, name: str) -> None:
        """Forget an upload; raises NotFound."""
        self._uploads.cancel(self._folder(repository) / "_uploads", name)

    def expire_uploads(self, older_than: float = LIFETIME) -> int:
        """Forget the uploads that nothing was added to for that many seconds; gives their number."""
        folders = list((self.root / "repositories").rglob("_uploads"))
        return sum(self._uploads.expire(folder, older_than) for folder in folders)

    # What changes a repository

    def mount(self, repository: str, digest: str, source: str = "") -> Blob:
        """Let the repository hold a blob of `source` ("" = of any repository); raises NotFound."""
        with self._locked("_lock", fcntl.LOCK_SH):
            blob = self.blob(source, digest) if source else self._content(digest)
            self._link(repository, digest)
        return blob

    def put_manifest(
        self, repository: str, data: bytes, reading: Reading, *, digest: str = "", tags: Sequence[str] = ()
    ) -> str:
        """Keep a manifest whose needs are met and let the tags point to it; gives its digest.

        Raises Corrupt where `digest` is given and is another one, NotFound where a blob or a manifest is missing.
        """
        algorithm = digests.parse(digest).partition(":")[0] if digest else "sha256"
        actual = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if digest and actual != digest:
            raise Corrupt(f"the manifest that was received has the digest {actual}, not {digest}")
        folder = self._folder(repository)
        with self._changing(repository):
            self._needs_met(folder, reading)
            _write(self.root / "blobs" / _split(actual), data)
            _write(folder / "_manifests" / _split(actual), reading.media_type.encode())
            if reading.subject is not None:
                descriptor = image.Descriptor(
                    reading.media_type,
                    actual,
                    len(data),
                    annotations=reading.annotations or {},
                    artifact_type=reading.artifact_type,
                )
                place = folder / "_referrers" / _split(reading.subject.digest) / actual.replace(":", "-")
                _write(place, image.encode(descriptor))
            for tag in tags:
                if not reference.is_tag(tag):
                    raise InvalidParameter(f"invalid tag {tag!r}")
                _write(folder / "_tags" / tag, actual.encode())
        return actual

    def delete_blob(self, repository: str, digest: str) -> None:
        """Take a blob out of the repository; raises NotFound."""
        try:
            (self._folder(repository) / "_blobs" / _split(digest)).unlink()
        except FileNotFoundError:
            raise NotFound(f"blob {digest} is not in {repository}") from None

    def delete_tag(self, repository: str, tag: str) -> None:
        """Take a tag away; the manifest stays. Raises NotFound."""
        with self._changing(repository):
            self.resolve(repository, tag)
            (self._folder(repository) / "_tags" / tag).unlink()

    def delete_manifest(self, repository: str, digest: str) -> None:
        """Take a manifest out of the repository, and the tags that point to it; raises NotFound."""
        folder = self._folder(repository)
        with self._changing(repository):
            descriptor, data = self.manifest(repository, digest)
            for tag in self.tags(repository):
                if self.resolve(repository, tag) == digest:
                    (folder / "_tags" / tag).unlink()
            subject = read(data, descriptor.media_type).subject
            if subject is not None:
                place = folder / "_referrers" / _split(subject.digest) / digest.replace(":", "-")
                place.unlink(missing_ok=True)
            (folder / "_manifests" / _split(digest)).unlink()

    def alone(self) -> AbstractContextManager[None]:
        """While this is held nothing is added to the registry or taken from it, in all processes."""
        return self._locked("_lock", fcntl.LOCK_EX)

    # Below

    def _folder(self, repository: str) -> Path:
        if not reference.is_path(repository):
            raise InvalidParameter(f"invalid repository name {repository!r}")
        return self.root / "repositories" / repository

    def _content(self, digest: str) -> Blob:
        path = self.root / "blobs" / _split(digest)
        try:
            return Blob(digest, path, path.stat().st_size)
        except FileNotFoundError:
            raise NotFound(f"blob {digest} is not known") from None

    def _link(self, repository: str, digest: str) -> None:
        link = self._folder(repository) / "_blobs" / _split(digest)
        link.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        link.touch(mode=0o600)

    def _needs_met(self, folder: Path, reading: Reading) -> None:
        missing = [blob.digest for blob in reading.blobs if not (folder / "_blobs" / _split(blob.digest)).exists()]
        manifests = folder / "_manifests"
        missing += [one.digest for one in reading.manifests if not (manifests / _split(one.digest)).exists()]
        if missing:
            raise NotFound(f"the manifest refers to what is not in the repository: {', '.join(missing)}")

    @contextlib.contextmanager
    def _changing(self, repository: str) -> Iterator[None]:
        """One at a time changes the manifests of a repository, in all processes, and nobody collects garbage."""
        folder = self._folder(repository)
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        with self._locked("_lock", fcntl.LOCK_SH), self._locked(str(folder / "_lock"), fcntl.LOCK_EX):
            yield

    @contextlib.contextmanager
    def _locked(self, name: str, how: int) -> Iterator[None]:
        with (self.root / name).open("ab") as lock:
            fcntl.flock(lock, how)
            yield


def _split(digest: str) -> str:
    """The digest as a path below blobs/ or a link folder; InvalidParameter keeps everything else out."""
    algorithm, _, encoded = digests.parse(digest).partition(":")
    return f"{algorithm}/{encoded}"


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    atomic_write(path, data)
