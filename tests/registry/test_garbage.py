"""Garbage collection: what is needed stays, what is not goes, and a push that goes on meanwhile loses nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from glassdock.errors import NotFound
from glassdock.registry.garbage import collect
from glassdock.registry.manifest import read
from glassdock.registry.storage import Storage
from tests.registry.support import Image, artifact, random_image, random_index


def blobs(storage: Storage) -> set[str]:
    """The digests that have content."""
    return {f"{path.parent.name}:{path.name}" for path in (storage.root / "blobs").glob("*/*")}


def store(storage: Storage, repository: str, image: Image, *tags: str) -> set[str]:
    """Store all of an image; gives the digests of its parts."""
    parts = {image.digest, *image.blobs}
    for one in image.images:
        parts |= store(storage, repository, one)
    for digest, data in image.blobs.items():
        with storage.upload(repository, storage.start_upload(repository)) as upload:
            upload.write(data)
            storage.finish_upload(repository, upload, digest)
    storage.put_manifest(repository, image.manifest, read(image.manifest), tags=tags)
    return parts


def test_what_manifests_need_stays_and_the_rest_goes(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    image, index = random_image(1), random_index(5)
    refers = artifact(image.descriptor, "application/sbom")
    kept = store(storage, "a", image, "1") | store(storage, "a/b", index, "1") | store(storage, "a", refers)
    gone = store(storage, "c", random_image(9, layers=3), "1")
    assert collect(storage, grace=0).blobs == 0
    storage.delete_manifest("c", random_image(9, layers=3).digest)
    assert blobs(storage) == kept | gone
    collected = collect(storage, grace=0)
    assert blobs(storage) == kept
    assert collected.blobs == len(gone - kept)
    assert collected.size > 3000
    assert [storage.manifest(name, "1")[1] for name in ("a", "a/b")] == [image.manifest, index.manifest]
    assert collect(storage, grace=0).blobs == 0


def test_a_blob_that_another_repository_needs_stays(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    image = random_image(1)
    kept = store(storage, "a", image, "1")
    store(storage, "b", image, "1")
    storage.delete_manifest("b", image.digest)
    assert collect(storage, grace=0).blobs == 0
    assert blobs(storage) == kept


def test_blobs_that_wait_for_their_manifest_have_time(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    image = random_image(1)
    digest, data = next(iter(image.blobs.items()))
    with storage.upload("a", storage.start_upload("a")) as upload:
        upload.write(data)
        storage.finish_upload("a", upload, digest)
    assert collect(storage).blobs == 0
    assert storage.blob("a", digest).size == len(data)
    assert collect(storage, grace=-1).blobs == 1
    assert blobs(storage) == set()


def churn(root: Path, number: int) -> None:
    """Push and delete again and again; at the end one image is left."""
    storage = Storage(root)
    for round_ in range(15):
        image = random_image(number * 100 + round_ % 3)
        store(storage, f"team{number}", image, "latest")
        if round_ % 2:
            storage.delete_manifest(f"team{number}", image.digest)
    store(storage, f"team{number}", random_image(number), "latest")


def needed(storage: Storage) -> set[str]:
    """The digests of all manifests, and of what they need; all of it is there."""
    found: set[str] = set()
    for name in storage.repositories():
        for path in (storage.root / "repositories" / name / "_manifests/sha256").iterdir():
            found.add(f"sha256:{path.name}")
            _, data = storage.manifest(name, f"sha256:{path.name}")
            found |= {storage.blob(name, blob.digest).digest for blob in read(data).blobs}
    return found


def test_pushing_and_deleting_while_garbage_is_collected(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        pushing = [pool.submit(churn, tmp_path, number) for number in range(4)]
        while not all(one.done() for one in pushing):
            collect(storage, grace=60)
        for one in pushing:
            one.result()
    collect(storage, grace=-1)
    assert blobs(storage) == needed(storage)
    assert storage.repositories() == [f"team{number}" for number in range(4)]


def test_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    store(storage, "a", random_image(1), "1")
    left = [tmp_path / "blobs/sha256/.abc.x1", tmp_path / "repositories/a/_manifests/sha256/.abc.x2"]
    for path in left:
        path.write_bytes(b"half")
    collect(storage)
    assert all(path.exists() for path in left)
    collect(storage, grace=-1)
    assert not any(path.exists() for path in left)
    assert storage.manifest("a", "1")[1] == random_image(1).manifest


def test_what_is_not_there_any_more_is_not_linked(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    image = random_image(1)
    store(storage, "a", image, "1")
    storage.delete_manifest("a", image.digest)
    collect(storage, grace=-1)
    for digest in image.blobs:
        try:
            storage.mount("b", digest)
        except NotFound:
            continue
        raise AssertionError(f"{digest} was mounted")
