"""Images as one archive, and back: `docker save` and `docker load`.

Interface:
- `save(store, names, out, folder)`: write the named images as a tar.
- `load(store, folder, say)`: take in the images of an unpacked archive; `say` gets Docker's lines.

Rules: the archive is an OCI layout with Docker's `manifest.json` beside it, layers uncompressed and named by their diff
ids; every digest is checked on the way in. What comes may be hostile: the archive is unpacked as a layer is, and its
files are opened inside that folder, links too.

Sources: https://github.com/opencontainers/image-spec/blob/main/image-layout.md, moby's image specification v1.2
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from glassdock import trace
from glassdock.errors import Corrupt, NotFound
from glassdock.images import layer as unpacking
from glassdock.images import pack
from glassdock.images.compression import CHUNK, Sink, decompress
from glassdock.images.model import Image, Layer, LayerRecord, chain_ids
from glassdock.images.progress import Progress
from glassdock.images.store import Lease, Store
from glassdock.images.tar import BLOCK, FILE, Entry
from glassdock.linux.openat2 import open_in_root
from glassdock.oci import digest as digests
from glassdock.oci import image as documents
from glassdock.oci.image import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    decode,
)
from glassdock.oci.reference import Reference

_LARGEST = 16 << 20  # of a document
_NAME = "io.containerd.image.name"
_MAGIC = {b"\x1f\x8b": OCI_LAYER_GZIP, b"\x28\xb5": OCI_LAYER_ZSTD}


class _Item(msgspec.Struct, rename="pascal"):
    """One image of `manifest.json`: paths inside the archive."""

    config: str
    layers: tuple[str, ...] = ()
    repo_tags: tuple[str, ...] | None = None


# Out


def save(store: Store, names: Sequence[str], out: Sink, folder: Path) -> None:
    """Write the images as a tar, with the names asked for; `folder` is for spools. Raises NotFound, Corrupt."""
    wanted: dict[str, list[str]] = {}
    for name in names:
        image, tags = _named(store, name)
        wanted.setdefault(image.id, []).extend(tag for tag in tags if tag not in wanted.get(image.id, ()))
    writer = _Writer(out, set())
    items, manifests = [], []
    with trace.span("images.save", images=len(wanted)):
        for key, tags in wanted.items():
            image = store.get(key)
            layers = tuple(_write_layer(store, layer, writer, folder) for layer in image.layers)
            config = store.read_blob(key)
            writer.blob(key, config)
            manifest = documents.encode(
                Manifest(2, Descriptor(OCI_CONFIG, key, len(config)), layers, media_type=OCI_MANIFEST)
            )
            digest = digests.of(manifest)
            writer.blob(digest, manifest)
            paths = tuple(_path(layer.digest) for layer in layers)
            items.append({"Config": _path(key), "RepoTags": tags or None, "Layers": paths})
            described = Descriptor(OCI_MANIFEST, digest, len(manifest))
            named = [{_NAME: str(Reference.parse(tag))} for tag in tags] or [{}]
            manifests += [msgspec.structs.replace(described, annotations=note) for note in named]
        writer.file("index.json", documents.encode(Index(2, tuple(manifests), media_type=OCI_INDEX)))
        writer.file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        writer.file("manifest.json", msgspec.json.encode(items))
        out.write(bytes(2 * BLOCK))


def _named(store: Store, name: str) -> tuple[Image, list[str]]:
    """The image, and the tags that go with it: a repository without a tag stands for all its tags of that image."""
    image = store.get(name)
    if image.id.removeprefix("sha256:").startswith(name.removeprefix("sha256:")):
        return image, []
    reference = Reference.parse(name)
    if ":" in name.rpartition("/")[2]:
        return image, [] if reference.digest else [reference.familiar()]
    return image, [tag for tag in image.repo_tags if Reference.parse(tag).name == reference.name]


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


@dataclass(slots=True)
class _Writer:
    """A tar of regular files; a blob is written once."""

    out: Sink
    there: set[str]

    def file(self, name: str, data: bytes) -> None:
        self.begin(name, len(data))
        self.out.write(data + bytes(-len(data) % BLOCK))

    def begin(self, name: str, size: int) -> None:
        self.out.write(pack.header(Entry(name.encode(), FILE, 0o644, 0, 0, size, 0)))

    def blob(self, digest: str, data: bytes) -> None:
        if digest not in self.there:
            self.there.add(digest)
            self.file(_path(digest), data)


def _write_layer(store: Store, layer: Layer, writer: _Writer, folder: Path) -> Descriptor:
    """The layer's tar, made again from its blob or from its folder; Corrupt where that is another one."""
    with tempfile.TemporaryFile(dir=folder) as spool:
        target = pack.Hashing(spool)
        if layer.blob is not None and store.has_blob(layer.blob.digest):
            with store.blob_path(layer.blob.digest).open("rb") as file:
                for chunk in decompress(iter(lambda: file.read(CHUNK), b"")):
                    target.write(chunk)
        else:
            pack.measure(store.snapshotter.layer_path(layer.chain_id), target)
        if target.digest != layer.diff_id:
            raise Corrupt(f"the layer {layer.diff_id} cannot be made again: it came out as {target.digest}")
        if layer.diff_id not in writer.there:
            writer.there.add(layer.diff_id)
            writer.begin(_path(layer.diff_id), target.size)
            spool.seek(0)
            while data := spool.read(CHUNK):
                writer.out.write(data)
            writer.out.write(bytes(-target.size % BLOCK))
    return Descriptor(OCI_LAYER, layer.diff_id, target.size)


# In


def load(store: Store, folder: Path, say: Progress) -> list[str]:
    """Take in the images of the archive that was unpacked in `folder`; returns their ids. Raises Corrupt."""
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    found = []
    try:
        with trace.span("images.load"), store.lease() as lease:
            for item in _items(root):
                tags = [Reference.parse(tag) for tag in item.repo_tags or ()]
                image = _take(store, root, item, lease)
                for tag in tags:
                    store.tag(image, tag)
                    say({"stream": f"Loaded image: {tag.familiar()}\n"})
                if not tags:
                    say({"stream": f"Loaded image ID: {image.id}\n"})
                found.append(image.id)
    finally:
        os.close(root)
    return found


def _items(root: int) -> list[_Item]:
    try:
        return decode(list[_Item], _read(root, "manifest.json"))
    except NotFound:
        pass
    try:
        index = decode(Index, _read(root, "index.json"))
    except NotFound:
        raise Corrupt("this is no archive of images: it has neither manifest.json nor index.json") from None
    items: dict[str, _Item] = {}
    for described in index.manifests:
        manifest = decode(Manifest, _read(root, _path(described.digest)))
        paths = tuple(_path(one.digest) for one in manifest.layers)
        item = items.setdefault(described.digest, _Item(_path(manifest.config.digest), paths, ()))
        if name := described.annotations.get(_NAME):
            item.repo_tags = (*(item.repo_tags or ()), name)
    return list(items.values())


def _take(store: Store, root: int, item: _Item, lease: Lease) -> Image:
    """One image; what is here already is not written again."""
    data = _read(root, item.config)
    config = decode(ImageConfig, data)
    if len(item.layers) != len(config.rootfs.diff_ids):
        raise Corrupt(f"{item.config} names {len(config.rootfs.diff_ids)} layers, the archive {len(item.layers)}")
    key = digests.of(data)
    lease.held.add(key)
    try:
        image = store.get(key)
        store.ensure(image)
        return image
    except NotFound:
        pass
    records: list[LayerRecord] = []
    parent: str | None = None
    diff_ids = config.rootfs.diff_ids
    for path, diff_id, chain in zip(item.layers, diff_ids, chain_ids(diff_ids), strict=True):
        known = store.layer(diff_id)
        if known is not None and store.snapshotter.has(chain):
            lease.held.add(chain)
            records.append(known)
        else:
            records.append(_layer(store, root, path, (diff_id, chain, parent), lease))
        parent = chain
    blob = Descriptor(OCI_CONFIG, key, len(data))
    manifest = Manifest(2, blob, tuple(record.descriptor() for record in records), media_type=OCI_MANIFEST)
    return store.add(data, documents.encode(manifest), records)


def _layer(store: Store, root: int, path: str, place: tuple[str, str, str | None], lease: Lease) -> LayerRecord:
    diff_id, chain, parent = place
    with _open(root, path) as file:
        media = _MAGIC.get(file.read(2), OCI_LAYER)
        file.seek(0)
        with store.ingest() as writer:
            while data := file.read(CHUNK):
                writer.write(data)
            digest, size = writer.digest, file.tell()
            lease.held |= {digest, chain}
    unpacked = unpacking.unpack_blob(store.snapshotter, store.blob_path(digest), diff_id, chain, parent)
    return LayerRecord(diff_id, unpacked.size, Descriptor(media, digest, size), unpacked.tar_size)


def _open(root: int, path: str) -> IO[bytes]:
    """A file of the archive; raises NotFound."""
    try:
        return os.fdopen(open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise NotFound(f"the archive has no {path}") from None


def _read(root: int, path: str) -> bytes:
    with _open(root, path) as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise Corrupt(f"{path} has more than {_LARGEST} bytes")
    return data
