"""Which images are here: records by id, names that point to them, and whose blobs and layers are still needed.

Interface:
- `get(name)`, `images()`: look up by reference, id or the beginning of an id; list.
- `tag`, `untag`, `remove`: names, and Docker's `rmi` (see `removal.py`).
- `create(config, layers, tags)`: an image that was built here; `add(...)`: one that was pulled.
- `ingest`, `blob_path`, `has_blob`, `read_blob`: the content store (see `blobs.py`).
- `ensure(image)`: unpack what is missing of its layers; `layer`, `repositories`: what is known of one layer.
- `lease()`: what is being made and must not be removed meanwhile; `keep(provider)`: what others hold.
- `repair()`, `sweep()`, `live_chains()`: after a crash, and for prune.

Rules: all names and records are one file that is replaced at once, after the blobs and layers that it speaks of are
there. So a killed daemon leaves at most blobs and layers that no image speaks of, and the next start removes those.
The manifest and the config are kept as the bytes that came, and pushed as the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from glassdock import trace
from glassdock.errors import Corrupt, InvalidParameter, NotFound, from_oserror
from glassdock.images import layer as unpacking
from glassdock.images import removal
from glassdock.images.blobs import Blobs, BlobWriter
from glassdock.images.model import Image, Layer, LayerRecord, Record, State, chain_ids
from glassdock.oci import image as documents
from glassdock.oci.image import OCI_CONFIG, OCI_MANIFEST, Descriptor, ImageConfig, Manifest
from glassdock.oci.reference import Reference
from glassdock.paths import Paths, atomic_write, forget_halves
from glassdock.unionfs.overlay import Snapshotter

_ID = re.compile(r"(sha256:)?([0-9a-f]{1,64})")


@dataclass(eq=False, slots=True)
class Lease:
    """Blobs (digests) and layers (chain ids) that somebody is making an image of."""

    held: set[str] = field(default_factory=set)


class Store:
    """The images of one engine. Safe to use from several threads of one process."""

    def __init__(self, paths: Paths, snapshotter: Snapshotter) -> None:
        self.snapshotter = snapshotter
        self.blobs = Blobs(paths.images)
        self._file = paths.images / "images.json"
        self._lock = threading.RLock()
        self._leases: list[Lease] = []
        self._exclusive: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._keepers: list[Callable[[], Iterable[str]]] = []
        self._documents: dict[str, tuple[ImageConfig, Manifest]] = {}
        self._images: dict[str, Image] = {}
        self._saved = b""
        forget_halves(paths.images)
        self._state = self._load()

    # Looking up

    def get(self, name: str) -> Image:
        """The image that a reference, an id or the beginning of an id names. Raises NotFound, InvalidParameter."""
        with self._lock:
            return self._image(self._resolve(name))

    def images(self) -> list[Image]:
        """All images, in the order of their ids."""
        with self._lock:
            return [self._image(key) for key in sorted(self._state.images)]

    def _resolve(self, name: str) -> str:
        whole = _ID.fullmatch(name)
        if whole and len(whole[2]) == 64:
            key = f"sha256:{whole[2]}"
            if key not in self._state.images:
                raise NotFound(f"No such image: {name}")
            return key
        reference = Reference.parse(name)
        found = self._of(reference)
        if found:
            return found
        if whole:
            fitting = [key for key in self._state.images if key.startswith(f"sha256:{whole[2]}")]
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                raise NotFound(
                    f"No such image: {reference.familiar()}", f"{len(fitting)} ids begin like this: give more."
                )
        raise NotFound(f"No such image: {reference.familiar()}")

    def _of(self, reference: Reference) -> str | None:
        if reference.digest:
            return self._state.digests.get(f"{reference.name}@{reference.digest}")
        return self._state.tags.get(str(reference))

    def _image(self, key: str) -> Image:
        if key not in self._images:
            self._images[key] = self._make(key)
        return self._images[key]

    def _make(self, key: str) -> Image:
        record = self._state.images[key]
        config, manifest = self._read(key, record)
        tags = sorted(Reference.parse(name).familiar() for name, owner in self._state.tags.items() if owner == key)
        kept = sorted(Reference.parse(name).familiar() for name, owner in self._state.digests.items() if owner == key)
        chains = chain_ids(layer.diff_id for layer in record.layers)
        layers = tuple(
            Layer(layer.diff_id, chain, layer.size, layer.blob, layer.tar_size)
            for layer, chain in zip(record.layers, chains, strict=True)
        )
        size = sum(layer.size for layer in layers)
        top = chains[-1] if chains else None
        names = tuple(tags), tuple(kept)
        return Image(key, config, manifest, record.manifest, *names, size, top, layers, record.parent)

    def _read(self, key: str, record: Record) -> tuple[ImageConfig, Manifest]:
        if key not in self._documents:
            config = documents.decode(ImageConfig, self.blobs.read(key))
            self._documents[key] = config, documents.decode(Manifest, self.blobs.read(record.manifest))
        return self._documents[key]

    # Names

    def tag(self, image: Image, reference: Reference) -> None:
        """Point a name to an image; where it pointed before loses it. Raises InvalidParameter for a digest."""
        if reference.digest:
            raise InvalidParameter("refusing to create a tag with a digest reference", "Give a name and a tag.")
        with self._lock:
            if image.id not in self._state.images:
                raise NotFound(f"No such image: {image.id}")
            self._state.tags[str(reference)] = image.id
            self._save()

    def references(self, image_id: str) -> list[Reference]:
        """All names of an image, with tag or with digest."""
        with self._lock:
            both = [*self._state.tags.items(), *self._state.digests.items()]
            return sorted((Reference.parse(name) for name, owner in both if owner == image_id), key=str)

    def untag(self, references: Iterable[Reference]) -> None:
        """Forget names; the images stay."""
        with self._lock:
            for reference in references:
                if reference.digest:
                    self._state.digests.pop(f"{reference.name}@{reference.digest}", None)
                else:
                    self._state.tags.pop(str(reference), None)
            self._save()

    def remove(
        self,
        name: str,
        *,
        force: bool = False,
        in_use: Callable[[str], Sequence[str]] = lambda _: (),
        running: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> list[dict[str, str]]:
        """`docker rmi`: rows `{"Untagged": name}` and `{"Deleted": digest}`. Raises NotFound, Conflict.

        `in_use` and `running` tell, for an image's id, the containers made from it and those of them that run.
        """
        with self._lock, trace.span("images.remove", image=name):
            return removal.remove(self, name, force=force, in_use=in_use, running=running)

    def delete(self, image_id: str) -> list[str]:
        """Forget an image that has no name any more, and what only it used; returns the chain ids that went."""
        with self._lock:
            image = self._image(image_id)
            del self._state.images[image_id]
            self._documents.pop(image_id, None)
            self._save()
            live = self._live()
            standing = {chain for top in live if self.snapshotter.has(top) for chain in self.snapshotter.chain(top)}
            gone = [layer.chain_id for layer in reversed(image.layers) if layer.chain_id not in live | standing]
            for chain in gone:
                self.snapshotter.remove(chain)
            blobs = {image_id, image.manifest_digest, *(layer.blob.digest for layer in image.layers if layer.blob)}
            for digest in blobs - live:
                self.blobs.remove(digest)
            return gone

    # New images

    def create(self, config: ImageConfig, layers: Sequence[LayerRecord], tags: Iterable[Reference] = ()) -> Image:
        """An image that was made here, from layers that are in the snapshotter. Raises Corrupt, StorageFull."""
        encoded = documents.encode(config)
        blob = Descriptor(OCI_CONFIG, self.blobs.write(encoded), len(encoded))
        manifest = Manifest(2, blob, tuple(layer.descriptor() for layer in layers), media_type=OCI_MANIFEST)
        return self.add(encoded, documents.encode(manifest), layers, tags=tags)

    def add(
        self,
        config: bytes,
        manifest: bytes,
        layers: Sequence[LayerRecord],
        *,
        tags: Iterable[Reference] = (),
        digests: Iterable[Reference] = (),
        parent: str = "",
    ) -> Image:
        """An image by its documents, its layers being here; its names point to it from now on."""
        decoded = documents.decode(ImageConfig, config)
        if tuple(layer.diff_id for layer in layers) != decoded.rootfs.diff_ids:
            raise Corrupt("the image's config names other layers than its manifest brings")
        documents.decode(Manifest, manifest)
        key, described = self.blobs.write(config), self.blobs.write(manifest)
        with self._lock:
            self._documents.pop(key, None)
            known = self._state.images.get(key)
            if known is None or known.manifest != described:
                self._state.images[key] = Record(described, tuple(layers), parent)
            for reference in tags:
                self._state.tags[str(reference)] = key
            for reference in digests:
                self._state.digests[f"{reference.name}@{reference.digest}"] = key
            self._save()
            return self._image(key)

    # Content

    def ingest(self, digest: str | None = None, size: int = -1) -> AbstractContextManager[BlobWriter]:
        """Write a blob: `with store.ingest(digest, size) as writer: writer.write(...)`; checked on leaving."""
        return self.blobs.ingest(digest, size)

    def blob_path(self, digest: str) -> Path:
        """Where a blob is or would be."""
        return self.blobs.path(digest)

    def has_blob(self, digest: str) -> bool:
        """True if the blob is here."""
        return self.blobs.has(digest)

    def read_blob(self, digest: str) -> bytes:
        """A document's bytes; raises NotFound."""
        return self.blobs.read(digest)

    def ensure(self, image: Image) -> None:
        """Unpack what is missing of an image's layers. Raises NotSupported (not root), NotFound (no blob either)."""
        parent: str | None = None
        for layer in image.layers:
            if not self.snapshotter.has(layer.chain_id):
                if layer.blob is None or not self.has_blob(layer.blob.digest):
                    raise NotFound(f"the layer {layer.diff_id} is not here any more", "Pull or build the image again.")
                unpacking.unpack_blob(
                    self.snapshotter, self.blob_path(layer.blob.digest), layer.diff_id, layer.chain_id, parent
                )
            parent = layer.chain_id

    def layer(self, diff_id: str) -> LayerRecord | None:
        """What is known of a layer from any image that has it."""
        with self._lock:
            found = (layer for record in self._state.images.values() for layer in record.layers)
            return next((layer for layer in found if layer.diff_id == diff_id), None)

    def repositories(self, domain: str, blob: str) -> list[str]:
        """The repositories (paths) of a registry that held the blob when we last pulled or pushed there."""
        with self._lock:
            holders = {
                key
                for key, record in self._state.images.items()
                if any(layer.blob and layer.blob.digest == blob for layer in record.layers)
            }
            names = (Reference.parse(name) for name, key in self._state.digests.items() if key in holders)
            return sorted({reference.path for reference in names if reference.domain == domain})

    def exclusive(self, name: str) -> asyncio.Lock:
        """The lock for making one thing, a layer say, that two pulls may want at once."""
        return self._exclusive.setdefault(name, asyncio.Lock())

    # What is needed

    @contextlib.contextmanager
    def lease(self) -> Iterator[Lease]:
        """Hold blobs and layers, by digest and chain id, until the image made of them is added."""
        lease = Lease()
        with self._lock:
            self._leases.append(lease)
        try:
            yield lease
        finally:
            with self._lock:
                self._leases.remove(lease)

    def keep(self, provider: Callable[[], Iterable[str]]) -> None:
        """Ask `provider` before anything is removed: the chain ids (and digests) that it holds, a build cache's say."""
        self._keepers.append(provider)

    def live_chains(self) -> set[str]:
        """The top chain ids of all images, of what is being made, and of what others hold."""
        with self._lock:
            tops = {chains[-1] for record in self._state.images.values() if (chains := _chains(record))}
            return tops | self._held()

    def sweep(self) -> list[str]:
        """Remove blobs and layers that nothing needs; returns their digests and chain ids."""
        with self._lock:
            live = self._live()
            gone = [digest for digest in self.blobs.digests() if digest not in live]
            for digest in gone:
                self.blobs.remove(digest)
            return gone + self.snapshotter.sweep(self.live_chains())

    def repair(self) -> None:
        """At start: remove what a killed daemon left half-made, and records whose documents are gone."""
        with self._lock:
            self.blobs.clear_ingest()
            lost = {
                key
                for key, record in self._state.images.items()
                if not (self.has_blob(key) and self.has_blob(record.manifest))
            }
            if lost:
                for key in lost:
                    del self._state.images[key]
                for names in (self._state.tags, self._state.digests):
                    for name in [name for name, owner in names.items() if owner in lost]:
                        del names[name]
                self._save()
            live = self._live()
            for digest in self.blobs.digests():
                if digest not in live:
                    self.blobs.remove(digest)

    def _held(self) -> set[str]:
        return {one for lease in self._leases for one in lease.held} | {
            one for provider in self._keepers for one in provider()
        }

    def _live(self) -> set[str]:
        """Digests and chain ids that an image, somebody who makes one, or somebody else needs."""
        live = self._held() | {chain for chain in self.snapshotter.keys().values() if chain}
        for key, record in self._state.images.items():
            live |= {key, record.manifest, *_chains(record)}
            live |= {layer.blob.digest for layer in record.layers if layer.blob}
        return live

    # The file

    def _load(self) -> State:
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return State()
        try:
            return msgspec.json.decode(data, type=State)
        except msgspec.MsgspecError as error:
            raise Corrupt(
                f"the list of images {self._file} cannot be read: {error}",
                "Remove the file, and pull the images again.",
            ) from error

    def _save(self) -> None:
        """Write the list, if it is another one; what was looked up before is looked up again."""
        self._images.clear()
        data = msgspec.json.encode(self._state)
        if data == self._saved:
            return
        try:
            atomic_write(self._file, data, mode=0o644)
            self._saved = data
        except OSError as error:
            self._state = self._load()
            raise from_oserror(error, "writing the list of images") from error


def _chains(record: Record) -> tuple[str, ...]:
    return chain_ids(layer.diff_id for layer in record.layers)
