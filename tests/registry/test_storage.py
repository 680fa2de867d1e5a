"""Storage and uploads without HTTP: threads and processes at once, a writer that is killed, names that climb."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glassdock.errors import Conflict, Corrupt, InvalidParameter, NotFound
from glassdock.oci import digest as digests
from glassdock.registry.manifest import read
from glassdock.registry.storage import Storage
from tests.registry.support import Image, artifact, random_image

DATA = bytes(range(256)) * 8
DIGEST = digests.of(DATA)


def store(storage: Storage, repository: str, data: bytes) -> str:
    """Upload a blob; gives its digest."""
    with storage.upload(repository, storage.start_upload(repository)) as upload:
        upload.write(data)
        return storage.finish_upload(repository, upload, digests.of(data)).digest


def store_image(storage: Storage, repository: str, image: Image, *tags: str) -> str:
    """Store all of an image; gives its digest."""
    for data in image.blobs.values():
        store(storage, repository, data)
    return storage.put_manifest(repository, image.manifest, read(image.manifest), tags=tags)


def files(folder: Path) -> list[str]:
    """The files below a folder, without locks."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != "_lock"
    )


def test_a_blob_is_kept_once_for_all_repositories(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for repository in ("a", "a/b", "library/c"):
        store(storage, repository, DATA)
        assert storage.blob(repository, DIGEST).path.read_bytes() == DATA
    assert len(list((tmp_path / "blobs/sha256").iterdir())) == 1
    storage.delete_blob("a", DIGEST)
    with pytest.raises(NotFound):
        storage.blob("a", DIGEST)
    assert storage.blob("a/b", DIGEST).size == len(DATA)


def test_chunks_of_one_upload_may_come_through_another_process(tmp_path: Path) -> None:
    first, second = Storage(tmp_path), Storage(tmp_path)
    name = first.start_upload("a")
    with first.upload("a", name) as upload:
        upload.write(DATA[:100])
    with second.upload("a", name) as upload:
        assert upload.offset == 100
        upload.write(DATA[100:200])
    with first.upload("a", name) as upload:
        assert upload.offset == 200
        upload.write(DATA[200:])
        assert first.finish_upload("a", upload, DIGEST).size == len(DATA)
    assert files(tmp_path / "repositories/a/_uploads") == []


def test_another_algorithm_than_the_upload_was_begun_with(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    digest = "sha512:" + hashlib.sha512(DATA).hexdigest()
    with storage.upload("a", storage.start_upload("a")) as upload:
        upload.write(DATA)
        storage.finish_upload("a", upload, digest)
    assert storage.blob("a", digest).path.read_bytes() == DATA


def test_a_wrong_digest_leaves_nothing(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    name = storage.start_upload("a")
    with storage.upload("a", name) as upload:
        upload.write(DATA + b"x")
        with pytest.raises(Corrupt):
            storage.finish_upload("a", upload, DIGEST)
    assert files(tmp_path) == []
    with pytest.raises(NotFound):
        storage.upload_offset("a", name)


def test_one_upload_has_one_writer(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    name = storage.start_upload("a")
    with storage.upload("a", name), pytest.raises(Conflict), Storage(tmp_path).upload("a", name):
        pass
    with storage.upload("a", name) as upload:
        upload.write(b"free again")


def test_a_finished_upload_cannot_be_written_to(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    name = storage.start_upload("a")
    with storage.upload("a", name) as upload:
        upload.write(DATA)
        storage.finish_upload("a", upload, DIGEST)
    with pytest.raises(NotFound), storage.upload("a", name):
        pass
    assert storage.blob("a", DIGEST).size == len(DATA)


def test_old_uploads_are_forgotten(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    old, new = storage.start_upload("a/b"), storage.start_upload("a/b")
    path = tmp_path / "repositories/a/b/_uploads" / old
    os.utime(path, (0, time.time() - 3600))
    assert storage.expire_uploads(older_than=1800) == 1
    assert storage.upload_offset("a/b", new) == 0
    with pytest.raises(NotFound):
        storage.upload_offset("a/b", old)


@pytest.mark.parametrize(
    "repository", ["", "..", "../a", "a/../b", "/a", "a//b", "A", "_uploads", "a/_tags", "a" * 256]
)
def test_a_repository_cannot_climb_or_meet_our_folders(tmp_path: Path, repository: str) -> None:
    with pytest.raises(InvalidParameter):
        Storage(tmp_path).start_upload(repository)
    assert files(tmp_path) == []


@pytest.mark.parametrize("tag", ["..", "../latest", ".hidden", "a/b", "", "a" * 129])
def test_a_tag_cannot_climb(tmp_path: Path, tag: str) -> None:
    storage = Storage(tmp_path)
    image = random_image(1)
    digest = store_image(storage, "a", image, "1")
    with pytest.raises(InvalidParameter):
        storage.put_manifest("a", image.manifest, read(image.manifest), tags=[tag])
    with pytest.raises(NotFound):
        storage.resolve("a", tag)
    with pytest.raises(NotFound):
        storage.delete_tag("a", tag)
    assert storage.tags("a") == ["1"]
    assert storage.resolve("a", "1") == digest


def test_a_manifest_waits_for_what_it_needs(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    image = random_image(1)
    first, *rest = image.blobs
    store(storage, "a", image.blobs[first])
    with pytest.raises(NotFound) as caught:
        storage.put_manifest("a", image.manifest, read(image.manifest), tags=["1"])
    assert first not in caught.value.message
    assert all(digest in caught.value.message for digest in rest)
    assert storage.tags("a") == []
    # In another repository is not here: who may read there need not be who may read here.
    for digest in rest:
        store(storage, "b", image.blobs[digest])
    with pytest.raises(NotFound):
        storage.put_manifest("a", image.manifest, read(image.manifest), tags=["1"])
    for digest in rest:
        storage.mount("a", digest, "b")
    storage.put_manifest("a", image.manifest, read(image.manifest), tags=["1"])
    assert storage.manifest("a", "1")[1] == image.manifest


def test_referrers_go_with_their_manifest(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    image = random_image(1)
    refers = artifact(image.descriptor, "application/sbom", by="me")
    digest = store_image(storage, "a", refers)  # before its subject
    store_image(storage, "a", image, "1")
    (found,) = storage.referrers("a", image.digest)
    assert (found.digest, found.artifact_type, found.annotations) == (digest, "application/sbom", {"by": "me"})
    storage.delete_manifest("a", digest)
    assert storage.referrers("a", image.digest) == []


def test_many_push_the_same_image_at_once(tmp_path: Path) -> None:
    images = [random_image(seed) for seed in range(3)]

    def push(number: int) -> str:
        storage = Storage(tmp_path)  # as another process would have it
        return store_image(storage, f"team{number % 2}", images[number % 3], "latest", f"v{number}")

    with ThreadPoolExecutor(8) as pool:
        pushed = list(pool.map(push, range(24)))
    storage = Storage(tmp_path)
    for number, digest in enumerate(pushed):
        descriptor, data = storage.manifest(f"team{number % 2}", f"v{number}")
        assert descriptor.digest == digest == digests.of(data)
        for blob in read(data).blobs:
            assert digests.of(storage.blob(f"team{number % 2}", blob.digest).path.read_bytes()) == blob.digest
    assert [name for name in files(tmp_path) if "_uploads" in name or "/." in name] == []


def test_tags_that_move_while_manifests_go_never_point_to_nothing(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    one, two = random_image(1), random_image(2)
    for image in (one, two):
        store_image(storage, "a", image)

    def move(number: int) -> None:
        image = (one, two)[number % 2]
        storage.put_manifest("a", image.manifest, read(image.manifest), tags=["latest"])
        if number % 5 == 0:
            try:
                storage.delete_manifest("a", image.digest)
            except NotFound:
                return  # another thread was faster

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(move, range(60)))
    for tag in storage.tags("a"):
        assert storage.manifest("a", tag)[1] in (one.manifest, two.manifest)


WRITER = """
import sys
from pathlib import Path
from glassdock.oci import digest as digests
from glassdock.registry.storage import Storage

storage = Storage(Path(sys.argv[1]))
name = storage.start_upload("a")
print(name, flush=True)
number = 0
while True:
    with storage.upload("a", name) as upload:
        upload.write(b"%08d" % number * 1000)
    other = storage.start_upload("b")
    with storage.upload("b", other) as upload:
        data = b"%d" % number * 5000
        upload.write(data)
        storage.finish_upload("b", upload, digests.of(data))
    number += 1
"""


def test_a_writer_that_is_killed_leaves_whole_blobs_and_an_upload_to_resume(tmp_path: Path) -> None:
    for pause in (0.05, 0.11, 0.17):
        root = tmp_path / str(pause)
        process = subprocess.Popen([sys.executable, "-c", WRITER, root], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout:
            name = process.stdout.readline().strip()
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
            process.wait()
        storage = Storage(root)
        for path in (root / "blobs").rglob("*"):
            if path.is_file():
                assert digests.of(path.read_bytes()) == f"sha256:{path.name}"
        with storage.upload("a", name) as upload:
            received = (root / "repositories/a/_uploads" / name).read_bytes()
            assert upload.offset == len(received)
            upload.write(b"the rest")
            blob = storage.finish_upload("a", upload, digests.of(received + b"the rest"))
        assert blob.path.read_bytes() == received + b"the rest"
