"""Images go to a registry and come from it, whole and unchanged, or not at all."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glassdock.errors import Corrupt, GlassdockError, InvalidParameter, NotFound, NotSupported
from glassdock.images.changes import changes
from glassdock.images.model import Image
from glassdock.images.pull import pull
from glassdock.images.push import push
from glassdock.images.store import Store
from glassdock.oci import digest
from glassdock.oci.image import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    RootFS,
    encode,
)
from glassdock.oci.reference import Reference
from tests.images.conftest import Registry
from tests.images.support import Lines, Maker, archive, member

pytestmark = pytest.mark.needs_root


def quiet(_: dict[str, Any]) -> None:
    """A progress that nobody reads."""


async def put(registry: Registry, name: str, data: bytes, media_type: str) -> Descriptor:
    blob = Descriptor(media_type, digest.of(data), len(data))
    await registry.client.upload_blob(registry.name(name), blob, data)
    return blob


async def publish(
    registry: Registry,
    name: str,
    tar: bytes,
    *,
    config: dict[str, Any] | None = None,
    media: str = OCI_LAYER_GZIP,
    sent: bytes | None = None,
    layer: Descriptor | None = None,
    config_type: str = OCI_CONFIG,
) -> Descriptor:
    """An image of one layer in the registry, with whatever is to be wrong about it."""
    blob = layer or await put(registry, name, sent if sent is not None else gzip.compress(tar), media)
    values: dict[str, Any] = {"architecture": "amd64", "os": "linux", "rootfs": RootFS((digest.of(tar),))}
    document = encode(ImageConfig(**(values | (config or {}))))
    described = await put(registry, name, document, config_type)
    manifest = encode(Manifest(2, described, (blob,), media_type=OCI_MANIFEST))
    return await registry.client.put_manifest(registry.name(name), manifest, OCI_MANIFEST)


def nothing_came(store: Store) -> bool:
    return store.images() == [] and store.snapshotter.chains() == [] and os.listdir(store.blobs._ingest) == []


TAR = archive(member("a", "hello"))


async def test_there_and_back_again(store: Store, elsewhere: Store, maker: Maker, registry: Registry) -> None:
    reference = registry.name("me/app:1")
    built = maker.on(maker.image(), str(reference), files={"app.py": b"print()"})
    sent = await push(store, registry.client, reference, progress=quiet)
    lines = Lines()
    pulled = await pull(elsewhere, registry.client, reference, progress=lines)
    assert (pulled.id, pulled.config, pulled.size) == (built.id, built.config, built.size)
    assert pulled.repo_tags == (str(reference),)
    assert pulled.repo_digests == (f"{reference.name}@{sent}",)
    assert [layer.chain_id for layer in pulled.layers] == [layer.chain_id for layer in built.layers]
    for layer in pulled.layers:
        assert changes(elsewhere.snapshotter, layer.chain_id) == changes(store.snapshotter, layer.chain_id)
    assert lines.all[0] == {"status": "Pulling from me/app", "id": "1"}
    assert lines.of("Pull complete") == 3
    assert lines.statuses[-2:] == [f"Digest: {sent}", f"Status: Downloaded newer image for {reference}"]


async def test_the_second_pull_brings_nothing(store: Store, maker: Maker, registry: Registry, elsewhere: Store) -> None:
    reference = registry.name("app")
    maker.image(str(reference))
    await push(store, registry.client, reference, progress=quiet)
    await pull(elsewhere, registry.client, reference, progress=quiet)
    lines = Lines()
    await pull(elsewhere, registry.client, reference, progress=lines)
    assert lines.of("Pulling fs layer") == 0
    assert lines.statuses[-1] == f"Status: Image is up to date for {reference}"


async def test_layers_that_are_here_are_not_sent_again(
    store: Store, maker: Maker, registry: Registry, elsewhere: Store
) -> None:
    base = maker.image(str(registry.name("base")))
    maker.on(base, str(registry.name("child")), files={"new": b"x"})
    await push(store, registry.client, registry.name("base"), progress=quiet)
    lines = Lines()
    await push(store, registry.client, registry.name("child"), progress=lines)
    assert (lines.of("Mounted from base"), lines.of("Pushed")) == (2, 1)
    lines = Lines()
    await push(store, registry.client, registry.name("child"), progress=lines)
    assert lines.of("Layer already exists") == 3
    await pull(elsewhere, registry.client, registry.name("base"), progress=quiet)
    lines = Lines()
    await pull(elsewhere, registry.client, registry.name("child"), progress=lines)
    assert (lines.of("Already exists"), lines.of("Pull complete")) == (2, 1)


async def test_a_pulled_image_is_pushed_as_the_same_bytes(
    store: Store, maker: Maker, registry: Registry, elsewhere: Store
) -> None:
    maker.image(str(registry.name("one")))
    sent = await push(store, registry.client, registry.name("one"), progress=quiet)
    image = await pull(elsewhere, registry.client, registry.name("one"), progress=quiet)
    elsewhere.tag(image, registry.name("two"))
    lines = Lines()
    assert await push(elsewhere, registry.client, registry.name("two"), progress=lines) == sent
    size = len(store.read_blob(sent))
    assert lines.statuses[-1] == f"latest: digest: {sent} size: {size}"
    assert lines.all[-1]["aux"] == {"Tag": "latest", "Digest": sent, "Size": size}
    assert lines.all[0]["status"] == f"The push refers to repository [{registry.address}/two]"


async def test_a_short_name_comes_from_the_mirror(store: Store, registry: Registry) -> None:
    await publish(registry, "library/busybox:latest", TAR)
    image = await pull(store, registry.client, Reference.parse("busybox"), progress=quiet)
    assert image.repo_tags == ("busybox:latest",)


async def test_by_digest_there_is_no_tag(store: Store, registry: Registry) -> None:
    sent = await publish(registry, "app", TAR)
    reference = registry.name("app").repository().with_digest(sent.digest)
    image = await pull(store, registry.client, reference, progress=quiet)
    assert (image.repo_tags, image.repo_digests) == ((), (str(reference),))
    assert store.get(str(reference)).id == image.id


async def test_many_pull_the_same_image_at_once(
    store: Store, elsewhere: Store, maker: Maker, registry: Registry
) -> None:
    reference = registry.name("app")
    maker.image(str(reference), layers=6)
    await push(store, registry.client, reference, progress=quiet)
    lines = [Lines() for _ in range(4)]
    images = await asyncio.gather(*(pull(elsewhere, registry.client, reference, progress=one) for one in lines))
    assert len({image.id for image in images}) == 1
    assert sum(one.of("Download complete") for one in lines) == 6


async def test_equal_layers_and_many_of_them(store: Store, elsewhere: Store, maker: Maker, registry: Registry) -> None:
    reference = registry.name("app")
    tars = [archive(member("same", "x")), archive(member("other", "y"))]
    records: list[Any] = []
    image: Image | None = None
    for number in range(20):
        parent = image.chain_id if image else None
        records.append(maker.layer(tars[number % 2], parent))
        image = maker.of(records, [str(reference)] if number == 19 else [])
    await push(store, registry.client, reference, progress=quiet)
    pulled = await pull(elsewhere, registry.client, reference, progress=quiet)
    assert image
    assert pulled.chain_id == image.chain_id


async def test_the_platform_of_an_index_is_chosen(store: Store, registry: Registry) -> None:
    entries = []
    for architecture in ("amd64", "arm64"):
        tar = archive(member("arch", architecture))
        sent = await publish(registry, f"app:{architecture}", tar, config={"architecture": architecture})
        entries.append(msgspec.structs.replace(sent, platform=Platform(architecture, "linux")))
    entries.append(
        Descriptor(OCI_MANIFEST, entries[0].digest, entries[0].size, platform=Platform("unknown", "unknown"))
    )
    index = encode(Index(2, tuple(entries), media_type=OCI_INDEX))
    top = await registry.client.put_manifest(registry.name("app"), index, OCI_INDEX)
    arm = await pull(store, registry.client, registry.name("app"), progress=quiet, platform="linux/arm64")
    assert arm.config.architecture == "arm64"
    assert arm.repo_digests == (f"{registry.address}/app@{top.digest}",)
    amd = await pull(store, registry.client, registry.name("app"), progress=quiet, platform="linux/amd64")
    assert amd.config.architecture == "amd64"
    assert store.get(arm.id).repo_tags == ()
    with pytest.raises(NotFound) as caught:
        await pull(store, registry.client, registry.name("app"), progress=quiet, platform="linux/s390x")
    assert "no matching manifest for linux/s390x in the manifest list entries" in caught.value.message
    assert "linux/amd64" in str(caught.value.remedy)


@pytest.mark.parametrize("media", [OCI_LAYER, OCI_LAYER_GZIP])
async def test_what_a_layer_is_called_does_not_matter(store: Store, registry: Registry, media: str) -> None:
    await publish(registry, "app", TAR, sent=TAR, media=media)
    image = await pull(store, registry.client, registry.name("app"), progress=quiet)
    assert (store.snapshotter.layer_path(str(image.chain_id)) / "a").read_text() == "hello"


REFUSED: dict[str, tuple[dict[str, Any], type[GlassdockError], str]] = {
    "another content than the config says": ({"sent": gzip.compress(TAR + bytes(512))}, Corrupt, "config says"),
    "a truncated layer": ({"sent": gzip.compress(TAR)[:-10]}, Corrupt, "ends early"),
    "no archive": ({"sent": gzip.compress(b"no tar " * 200)}, Corrupt, "header"),
    "a layer outside its root": ({"tar": archive(member(".wh.."))}, Corrupt, "whiteout"),
    "a Windows image": ({"config": {"os": "windows"}}, NotSupported, "cannot be used on this platform"),
    "a config of other layers": ({"config": {"rootfs": RootFS(())}}, Corrupt, "layers, its config"),
    "an artifact": ({"config_type": "application/vnd.cncf.helm.config.v1+json"}, InvalidParameter, "artifact"),
    "an unknown layer": ({"media": "application/vnd.example.thing"}, InvalidParameter, "unknown type"),
    "an encrypted layer": ({"media": OCI_LAYER_GZIP + "+encrypted"}, InvalidParameter, "unknown type"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_bad_image_is_refused_and_leaves_nothing(store: Store, registry: Registry, what: str) -> None:
    values, error, text = REFUSED[what]
    await publish(registry, "app", **({"tar": TAR} | values))
    with pytest.raises(error, match=text):
        await pull(store, registry.client, registry.name("app"), progress=quiet)
    assert nothing_came(store)


class Lying:
    """A registry whose blobs are not what they should be."""

    def __init__(self, registry: Registry, change: Any) -> None:
        self.registry = registry
        self.change = change

    async def manifest(self, reference: Reference, *, credentials: Any = None) -> tuple[Descriptor, bytes]:
        return await self.registry.client.manifest(reference, credentials=credentials)

    async def blob(
        self, reference: Reference, descriptor: Descriptor, *, credentials: Any = None
    ) -> AsyncIterator[bytes]:
        data = b"".join([chunk async for chunk in self.registry.client.blob(reference, descriptor)])
        async for chunk in self.change(data, descriptor):
            yield chunk


@pytest.mark.parametrize("how", ["longer", "shorter", "other", "broken off"])
async def test_the_bytes_are_checked_again_before_they_count(store: Store, registry: Registry, how: str) -> None:
    await publish(registry, "app", TAR)

    async def change(data: bytes, descriptor: Descriptor) -> AsyncIterator[bytes]:
        if descriptor.media_type == OCI_CONFIG:
            yield data
        elif how == "longer":
            yield data + b"\0"
        elif how == "shorter":
            yield data[:-1]
        elif how == "other":
            yield gzip.compress(TAR, mtime=7)
        else:
            yield data[:10]
            raise ConnectionResetError

    with pytest.raises((Corrupt, ConnectionResetError)):
        await pull(store, Lying(registry, change), registry.name("app"), progress=quiet)  # type: ignore[arg-type]
    assert nothing_came(store)


async def test_a_pull_that_is_cancelled_leaves_nothing_and_can_be_tried_again(store: Store, registry: Registry) -> None:
    await publish(registry, "app", TAR)
    stuck = asyncio.Event()

    async def change(data: bytes, descriptor: Descriptor) -> AsyncIterator[bytes]:
        if descriptor.media_type == OCI_CONFIG:
            yield data
            return
        yield data[:20]
        stuck.set()
        await asyncio.sleep(60)

    task = asyncio.ensure_future(pull(store, Lying(registry, change), registry.name("app"), progress=quiet))  # type: ignore[arg-type]
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert nothing_came(store)
    assert (await pull(store, registry.client, registry.name("app"), progress=quiet)).size == 5


async def test_a_failed_pull_keeps_the_whole_layers_for_the_next_try(
    store: Store, elsewhere: Store, maker: Maker, registry: Registry
) -> None:
    reference = registry.name("app")
    image = maker.image(str(reference), layers=3)
    await push(store, registry.client, reference, progress=quiet)
    last = store.get(image.id).layers[-1].blob

    async def change(data: bytes, descriptor: Descriptor) -> AsyncIterator[bytes]:
        if last and descriptor.digest == last.digest:
            await asyncio.sleep(0.5)
            raise ConnectionResetError
        yield data

    with pytest.raises(ConnectionResetError):
        await pull(elsewhere, Lying(registry, change), reference, progress=quiet)  # type: ignore[arg-type]
    assert elsewhere.images() == []
    lines = Lines()
    await pull(elsewhere, registry.client, reference, progress=lines)
    assert (lines.of("Already exists"), lines.of("Pull complete")) == (2, 1)


async def test_an_image_that_is_not_there(store: Store, registry: Registry) -> None:
    with pytest.raises(NotFound):
        await pull(store, registry.client, registry.name("nothing"), progress=quiet)
    with pytest.raises(NotFound, match=r"An image does not exist locally with the tag: localhost:\d+/nothing"):
        await push(store, registry.client, registry.name("nothing"), progress=quiet)


async def test_without_root_an_image_can_be_had_and_looked_at(
    store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(registry, "app", TAR)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        lines = Lines()
        image = await pull(store, registry.client, registry.name("app"), progress=lines)
        assert (lines.of("Extracting"), lines.of("Pull complete")) == (0, 1)
        assert (image.size, store.get(str(registry.name("app"))).id) == (5, image.id)
        assert not store.snapshotter.has(str(image.chain_id))
        with pytest.raises(NotSupported):
            store.ensure(image)
    store.ensure(image)
    assert store.snapshotter.has(str(image.chain_id))


async def test_a_layer_changed_on_disk_is_not_pushed(store: Store, maker: Maker, registry: Registry) -> None:
    image = maker.image(str(registry.name("app")))
    (store.snapshotter.layer_path(str(image.chain_id)) / "layer1/file0").write_text("tampered")
    with pytest.raises(Corrupt, match="not what it was when it was built"):
        await push(store, registry.client, registry.name("app"), progress=quiet)


async def test_an_image_without_layers(store: Store, elsewhere: Store, maker: Maker, registry: Registry) -> None:
    built = maker.of([], [str(registry.name("empty"))])
    await push(store, registry.client, registry.name("empty"), progress=quiet)
    pulled = await pull(elsewhere, registry.client, registry.name("empty"), progress=quiet)
    assert (pulled.id, pulled.chain_id, pulled.size) == (built.id, None, 0)
    assert os.listdir(elsewhere.snapshotter.prepare("container", pulled.chain_id).lowers[0]) == []


@pytest.mark.needs("docker-registry")
async def test_debian_s_registry_takes_and_brings_images(
    store: Store, elsewhere: Store, maker: Maker, registry: Registry, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings: dict[str, Any] = {"version": "0.1", "http": {"addr": f"127.0.0.1:{port}"}, "log": {"level": "error"}}
    settings["storage"] = {"filesystem": {"rootdirectory": str(tmp_path / "debian")}}
    (tmp_path / "registry.yml").write_text(json.dumps(settings))
    process = await asyncio.create_subprocess_exec(
        "docker-registry", "serve", tmp_path / "registry.yml", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await _listens(port)
        one, two = (Reference.parse(f"localhost:{port}/{name}") for name in ("me/one", "me/two"))
        built = maker.on(maker.image(str(one)), str(two), files={"new": b"x"})
        await push(store, registry.client, one, progress=quiet)
        lines = Lines()
        sent = await push(store, registry.client, two, progress=lines)
        assert (lines.of("Mounted from me/one"), lines.of("Pushed")) == (2, 1)
        pulled = await pull(elsewhere, registry.client, two, progress=quiet)
        assert (pulled.id, pulled.manifest_digest) == (built.id, sent)
    finally:
        process.terminate()
        await process.wait()


async def _listens(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            await writer.wait_closed()
            return
    raise AssertionError("the registry does not listen")


@pytest.mark.needs("skopeo")
async def test_skopeo_takes_and_brings_images_with_their_digests(
    store: Store, elsewhere: Store, maker: Maker, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("skopeo")
    maker.on(maker.image(), str(registry.name("app")), files={"app.py": b"print()"})
    sent = await push(store, registry.client, registry.name("app"), progress=quiet)
    here = f"docker://{registry.address}"
    plain = ["--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests"]
    inspected = await _run("skopeo", "inspect", "--tls-verify=false", f"{here}/app")
    assert json.loads(inspected)["Digest"] == sent
    await _run("skopeo", "--insecure-policy", "copy", *plain, f"{here}/app", f"oci:{folder}/layout:app")
    await _run("skopeo", "--insecure-policy", "copy", *plain, f"oci:{folder}/layout:app", f"{here}/copy")
    pulled = await pull(elsewhere, registry.client, registry.name("copy"), progress=quiet)
    assert pulled.manifest_digest == sent
    await _run("skopeo", "--insecure-policy", "copy", *plain[:2], "--format=v2s2", f"{here}/app", f"{here}/docker")
    docker = await pull(elsewhere, registry.client, registry.name("docker"), progress=quiet)
    assert docker.manifest.media_type.endswith("manifest.v2+json")
    assert docker.chain_id == pulled.chain_id


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()
