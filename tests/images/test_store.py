"""Names, ids and what is kept for whom; nothing is half there, whenever the daemon dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from glassdock.errors import Conflict, Corrupt, InvalidParameter, NotFound, StorageFull
from glassdock.images.store import Store
from glassdock.oci import digest
from glassdock.oci.image import encode
from glassdock.oci.reference import Reference
from glassdock.paths import Paths
from glassdock.unionfs.overlay import Snapshotter
from tests.images.support import Maker, changed

pytestmark = pytest.mark.needs_root

CONTAINER = "c" * 64


def again(store: Store, tmp_path: Path) -> Store:
    """The store after a restart of the daemon."""
    paths = Paths.of(tmp_path / "here")
    found = Store(paths, Snapshotter(paths))
    found.repair()
    found.snapshotter.repair([], found.live_chains())
    return found


def users(*names: str) -> Callable[[str], list[str]]:
    return lambda _: list(names)


# Looking up


def test_an_image_is_found_by_every_name_that_docker_knows(store: Store, maker: Maker) -> None:
    image = maker.image("busybox", "localhost:5000/me/app:1.0")
    digits = image.id.removeprefix("sha256:")
    for name in (
        *("busybox", "busybox:latest", "library/busybox", "docker.io/library/busybox:latest"),
        *("localhost:5000/me/app:1.0", image.id, digits, digits[:12], digits[:5], f"sha256:{digits[:7]}"),
    ):
        assert store.get(name).id == image.id, name
    assert store.get("busybox").repo_tags == ("busybox:latest", "localhost:5000/me/app:1.0")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "No such image: nothing:latest"),
        ("me/app:1", "No such image: me/app:1"),
        ("busybox:2", "No such image: busybox:2"),
        ("sha256:" + "0" * 64, f"No such image: sha256:{'0' * 64}"),
    ],
)
def test_a_missing_image_is_named_as_docker_does(store: Store, maker: Maker, name: str, says: str) -> None:
    maker.image("busybox")
    with pytest.raises(NotFound) as caught:
        store.get(name)
    assert caught.value.message == says


def test_a_name_wins_over_the_beginning_of_an_id(store: Store, maker: Maker) -> None:
    one = maker.image("first")
    name = one.id[7:19]
    two = maker.image(name)
    assert store.get(name).id == two.id


def test_an_ambiguous_beginning_finds_nothing(store: Store, maker: Maker) -> None:
    for _ in range(17):
        maker.image(layers=1, files=1, size=10)
    ids = [image.id[7] for image in store.images()]
    twice = next(digit for digit in ids if ids.count(digit) > 1)
    with pytest.raises(NotFound) as caught:
        store.get(twice)
    assert "ids begin like this" in str(caught.value.remedy)


def test_a_name_that_is_none_is_a_bad_request(store: Store) -> None:
    with pytest.raises(InvalidParameter):
        store.get("Not/A:Name:At all")


def test_the_size_is_that_of_the_files(maker: Maker) -> None:
    image = maker.image(layers=3, files=2, size=1234)
    assert image.size == 3 * 2 * 1234
    assert [layer.size for layer in image.layers] == [2468] * 3


def test_documents_are_kept_as_they_came(store: Store, maker: Maker) -> None:
    image = maker.image("one")
    config = changed(image.config)[:-1] + b',"unknown": {"to": "us"}}'
    manifest = store.read_blob(image.manifest_digest)
    added = store.add(config, manifest, [layer.record() for layer in image.layers])
    assert added.id == digest.of(config)
    assert store.read_blob(added.id) == config


def test_a_config_with_other_layers_is_refused(store: Store, maker: Maker) -> None:
    one, two = maker.image(), maker.image()
    with pytest.raises(Corrupt):
        store.add(encode(one.config), store.read_blob(one.manifest_digest), [layer.record() for layer in two.layers])


# Names


def test_a_tag_moves_and_leaves_the_old_image_without_a_name(store: Store, maker: Maker) -> None:
    old, new = maker.image("app"), maker.image("other")
    store.tag(new, Reference.parse("app"))
    assert store.get("app").id == new.id
    assert store.get(old.id).repo_tags == ()


def test_a_digest_cannot_be_a_tag(store: Store, maker: Maker) -> None:
    image = maker.image("app")
    with pytest.raises(InvalidParameter, match="refusing to create a tag with a digest reference"):
        store.tag(image, Reference.parse("app@" + image.id))


# Removing, by Docker's rules


def test_removing_a_name_of_two_only_untags(store: Store, maker: Maker) -> None:
    image = maker.image("one", "two")
    assert store.remove("one") == [{"Untagged": "one:latest"}]
    assert store.get("two").id == image.id


def test_removing_the_last_name_deletes_the_image_and_its_layers_top_first(store: Store, maker: Maker) -> None:
    image = maker.image("one")
    assert store.remove("one") == [
        {"Untagged": "one:latest"},
        {"Deleted": image.id},
        {"Deleted": image.layers[1].chain_id},
        {"Deleted": image.layers[0].chain_id},
    ]
    assert (store.blobs.digests(), store.snapshotter.chains()) == ([], [])


def test_with_the_last_tag_the_digest_of_its_repository_goes(store: Store, maker: Maker) -> None:
    image = maker.image("one")
    reference = Reference.parse("one").repository().with_digest(image.manifest_digest)
    documents = store.read_blob(image.id), store.read_blob(image.manifest_digest)
    store.add(*documents, [layer.record() for layer in image.layers], digests=[reference])
    assert store.get(str(reference)).repo_digests == (f"one@{image.manifest_digest}",)
    rows = store.remove("one")
    assert rows[:2] == [{"Untagged": "one:latest"}, {"Untagged": f"one@{image.manifest_digest}"}]
    assert store.images() == []


def test_removing_an_id_with_one_name_deletes(store: Store, maker: Maker) -> None:
    image = maker.image("one")
    assert {"Deleted": image.id} in store.remove(image.id[7:19])


def test_removing_an_id_with_two_names_needs_force(store: Store, maker: Maker) -> None:
    image = maker.image("one", "me/two")
    with pytest.raises(Conflict, match=r"\(must be forced\) - image is referenced in multiple repositories"):
        store.remove(image.id)
    assert len(store.get(image.id).repo_tags) == 2
    rows = store.remove(image.id, force=True)
    assert rows[:3] == [{"Untagged": "one:latest"}, {"Untagged": "me/two:latest"}, {"Deleted": image.id}]


def test_the_last_name_of_a_used_image_needs_force(store: Store, maker: Maker) -> None:
    image = maker.image("one")
    with pytest.raises(Conflict) as caught:
        store.remove("one", in_use=users(CONTAINER))
    assert caught.value.message == (
        f'conflict: unable to remove repository reference "one" (must force) - container {CONTAINER[:12]} '
        f"is using its referenced image {image.id[7:19]}"
    )
    assert store.get("one").id == image.id
    assert {"Deleted": image.id} in store.remove("one", force=True, in_use=users(CONTAINER))


def test_an_image_of_a_stopped_container_is_deleted_only_by_force(store: Store, maker: Maker) -> None:
    image = maker.image("one")
    with pytest.raises(Conflict, match=rf"\(must be forced\) - image is being used by stopped container {'c' * 12}$"):
        store.remove(image.id, in_use=users(CONTAINER))
    assert store.get("one").id == image.id


def test_an_image_of_a_running_container_is_never_deleted(store: Store, maker: Maker) -> None:
    image = maker.image("one")
    busy = users(CONTAINER)
    with pytest.raises(Conflict, match=rf"\(cannot be forced\) - image is being used by running container {'c' * 12}$"):
        store.remove(image.id, force=True, in_use=busy, running=busy)
    assert store.remove("one", force=True, in_use=busy, running=busy) == [{"Untagged": "one:latest"}]
    assert store.get(image.id).repo_tags == ()


def test_what_another_image_uses_stays(store: Store, maker: Maker) -> None:
    base = maker.image("base")
    child = maker.on(base, "child", files={"new": b"x"})
    assert store.remove("base") == [{"Untagged": "base:latest"}, {"Deleted": base.id}]
    assert store.snapshotter.has(str(child.chain_id))
    rows = store.remove("child")
    assert [row["Deleted"] for row in rows[1:]] == [child.id, *(layer.chain_id for layer in reversed(child.layers))]


def test_what_a_container_stands_on_stays(store: Store, maker: Maker) -> None:
    image = maker.image("one")
    store.snapshotter.prepare("container", image.chain_id)
    assert store.remove("one", force=True)[-1] == {"Deleted": image.id}
    assert store.snapshotter.mount_of("container").lowers


def test_what_is_leased_or_kept_stays(store: Store, maker: Maker) -> None:
    one, two = maker.image("one"), maker.image("two")
    store.keep(lambda: [str(two.chain_id)])
    with store.lease() as lease:
        lease.held.add(str(one.chain_id))
        store.remove("one")
        store.remove("two")
        assert len(store.snapshotter.chains()) == 4
    assert set(store.sweep()) == {layer.chain_id for layer in one.layers}
    assert store.snapshotter.has(str(two.chain_id))


# Content


def test_a_blob_is_there_once_it_is_what_it_should_be(store: Store) -> None:
    name = digest.of(b"content")
    with store.ingest(name, 7) as writer:
        writer.write(b"con")
        assert not store.has_blob(name)
        writer.write(b"tent")
    assert store.read_blob(name) == b"content"


@pytest.mark.parametrize(("size", "data"), [(7, b"CONTENT"), (7, b"content and more"), (8, b"content"), (-1, b"other")])
def test_a_blob_that_is_another_is_refused(store: Store, size: int, data: bytes) -> None:
    def write() -> None:
        with store.ingest(digest.of(b"content"), size) as writer:
            writer.write(data)

    with pytest.raises(Corrupt):
        write()
    assert store.blobs.digests() == []
    assert os.listdir(store.blobs._ingest) == []


@pytest.mark.parametrize("name", ["sha256:../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32, "", "sha256:"])
def test_a_digest_cannot_be_a_path(store: Store, name: str) -> None:
    with pytest.raises(InvalidParameter):
        store.blob_path(name)


def test_a_missing_layer_without_a_blob_is_told(store: Store, maker: Maker) -> None:
    image = maker.image("one")
    store.snapshotter.remove(str(image.chain_id))
    with pytest.raises(NotFound, match="not here any more"):
        store.ensure(image)


# Crashes and company


def test_a_restart_finds_everything_again(store: Store, maker: Maker, tmp_path: Path) -> None:
    image = maker.image("one", "me/two:3")
    found = again(store, tmp_path).get("one")
    assert found == store.get("one")
    assert found.id == image.id


def test_a_restart_removes_what_no_image_speaks_of(store: Store, maker: Maker, tmp_path: Path) -> None:
    image = maker.image("one")
    store.blobs.write(b"orphan")
    (store.blobs._ingest / "half").write_bytes(b"x")
    with store.snapshotter.unpacking(digest.of(b"x"), image.chain_id):
        pass
    found = again(store, tmp_path)
    assert set(found.blobs.digests()) == {image.id, image.manifest_digest}
    assert set(found.snapshotter.chains()) == {layer.chain_id for layer in image.layers}
    assert os.listdir(store.blobs._ingest) == []


def test_a_record_without_documents_is_dropped(store: Store, maker: Maker, tmp_path: Path) -> None:
    lost, kept = maker.image("lost"), maker.image("kept")
    store.blobs.remove(lost.id)
    found = again(store, tmp_path)
    assert [image.id for image in found.images()] == [kept.id]
    with pytest.raises(NotFound):
        found.get("lost")


def test_a_damaged_list_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "here/images/images.json").write_text("{")
    with pytest.raises(Corrupt) as caught:
        again(store, tmp_path)
    assert "pull the images again" in str(caught.value.remedy)


KILLED = """
import sys
from pathlib import Path
from glassdock.images.store import Store
from glassdock.paths import Paths
from glassdock.unionfs.overlay import Snapshotter
from tests.images.support import Maker
paths = Paths.of(Path(sys.argv[1]))
maker = Maker(Store(paths, Snapshotter(paths)), seed=100)
print("ready", flush=True)
while True:
    maker.image(f"image{maker.seed % 3}", layers=3, files=20)
    maker.store.remove(f"image{(maker.seed + 1) % 3}") if maker.seed > 103 else None
"""


@pytest.mark.parametrize("delay", [0.01, 0.05, 0.1, 0.2, 0.3])
def test_a_kill_at_any_moment_leaves_no_half_image(store: Store, tmp_path: Path, delay: float) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "here")]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    found = again(store, tmp_path)
    for image in found.images():
        assert found.snapshotter.has(str(image.chain_id))
        for layer in image.layers:
            assert len(list((found.snapshotter.layer_path(layer.chain_id)).rglob("file*"))) == 20
    live = {layer.chain_id for image in found.images() for layer in image.layers}
    assert set(found.snapshotter.chains()) == live
    assert os.listdir(tmp_path / "here/layers/tmp") == []


def test_many_threads_make_and_remove_at_once(store: Store) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        maker = Maker(store, seed=number * 1000)
        try:
            for _ in range(5):
                maker.image(f"app{number}", layers=2, files=2)
                store.get(f"app{number}")
                store.remove(f"app{number}")
        except Exception as error:  # noqa: BLE001 - the test's thread wants to see it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (store.images(), store.blobs.digests(), store.snapshotter.chains()) == ([], [], [])


@pytest.mark.needs("mount")
def test_a_full_disk_says_so_and_changes_nothing(tmp_path: Path) -> None:
    script = f"""
import os, subprocess, sys
from pathlib import Path
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=72m", "tmpfs", {str(tmp_path)!r}], check=True)
from glassdock.errors import StorageFull
from tests.images.conftest import open_store
from tests.images.support import Maker
store = open_store(Path({str(tmp_path)!r}) / "here")
image = Maker(store).image("one", files=1)
with open({str(tmp_path)!r} + "/filler", "wb") as file:
    try:
        file.write(bytes(80 << 20))
    except OSError:
        pass
try:
    with store.ingest() as writer:
        writer.write(os.urandom(1 << 20))
except StorageFull as error:
    print(error.message, "|", error.remedy)
assert [found.id for found in store.images()] == [image.id]
assert os.listdir(store.blobs._ingest) == []
"""
    root = Path(__file__).resolve().parents[2]
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", script]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("writing a blob: no space left")
    assert issubclass(StorageFull, Exception)
