"""From a registry to here: documents first, then the layers, several at once, each checked before it counts.

Interface:
- `pull(store, registry, reference, progress=...)`: the image; Docker's lines meanwhile.

Rules: a layer is downloaded, verified, decompressed, verified again and written in one pass; it is there only once blob
digest, size and diff id fit, and once the layers below it are there. The image is there after all its layers, in one
step. A pull that fails leaves whole layers, so that the next try goes on from there, and never an image.

Sources: moby, `distribution/pull_v2.go` (the lines); https://github.com/opencontainers/image-spec (the checks)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from glassdock import trace
from glassdock.errors import Corrupt, GlassdockError, InvalidParameter, NotSupported
from glassdock.images import below, layer, platforms, transfer
from glassdock.images.blobs import DOCUMENT_LIMIT
from glassdock.images.model import Image, LayerRecord, chain_ids
from glassdock.images.progress import Meter, Progress, short
from glassdock.images.store import Store
from glassdock.oci.image import (
    DOCKER_CONFIG,
    INDEXES,
    OCI_CONFIG,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    decode,
)
from glassdock.oci.reference import Reference
from glassdock.registry.auth import Credentials
from glassdock.registry.client import Client
from glassdock.unionfs import trees

_AT_ONCE = 3  # Docker's max-concurrent-downloads
_NESTED = 4
_CONFIGS = {OCI_CONFIG, DOCKER_CONFIG, "application/octet-stream"}
_LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")

T = TypeVar("T")


async def pull(
    store: Store,
    registry: Client,
    reference: Reference,
    *,
    progress: Progress,
    credentials: Credentials | None = None,
    platform: str | None = None,
) -> Image:
    """Fetch what `reference` names; `platform` (`linux/arm64`) is this machine's where it is not given.

    Raises NotFound, Unauthorized, Unavailable (registry), Corrupt, StorageFull, NotSupported, InvalidParameter.
    """
    progress({"status": f"Pulling from {reference.path}", "id": reference.target})
    with store.lease() as lease:
        wanted = platforms.parse(platform) if platform else None
        found = await _Documents(registry, reference, credentials, wanted).fetch()
        lease.held |= found.digests()
        image = _known(store, found)
        current = image is not None and _names(store, reference, image)
        if image is None:
            work = _Pull(store, registry, reference, credentials, progress, found)
            records = await work.run()
        else:
            records = [one.record() for one in image.layers]
        named = [] if reference.digest else [reference]
        kept = reference.repository().with_digest(found.top)
        made = await asyncio.to_thread(
            store.add, found.config_bytes, found.manifest_bytes, records, tags=named, digests=[kept]
        )
    progress({"status": f"Digest: {found.top}"})
    news = "Image is up to date" if current else "Downloaded newer image"
    progress({"status": f"Status: {news} for {reference.familiar()}"})
    return made


def _known(store: Store, found: _Found) -> Image | None:
    """The image, if it is here with everything that belongs to it."""
    with contextlib.suppress(GlassdockError):
        image = store.get(found.manifest.config.digest)
        whole = os.geteuid() != 0 or image.chain_id is None or store.snapshotter.has(image.chain_id)
        blobs = all(store.has_blob(one.digest) for one in found.manifest.layers)
        if whole and blobs and image.manifest_digest == found.descriptor.digest:
            return image
    return None


def _names(store: Store, reference: Reference, image: Image) -> bool:
    """True if `reference` leads to `image` already; a name that is new is news, as Docker has it."""
    with contextlib.suppress(GlassdockError):
        return store.get(reference.familiar()).id == image.id
    return False


@dataclass(frozen=True, slots=True)
class _Found:
    """The documents of an image, checked against each other. `top` is the digest that the reference led to."""

    top: str
    descriptor: Descriptor
    manifest_bytes: bytes
    manifest: Manifest
    config_bytes: bytes
    config: ImageConfig

    def digests(self) -> set[str]:
        """Everything that must not be removed while the layers come."""
        chains = chain_ids(self.config.rootfs.diff_ids)
        blobs = {self.descriptor.digest, self.manifest.config.digest, *(one.digest for one in self.manifest.layers)}
        return blobs | set(chains)


@dataclass(frozen=True, slots=True)
class _Documents:
    """Fetching them."""

    registry: Client
    reference: Reference
    credentials: Credentials | None
    wanted: Platform | None

    async def fetch(self) -> _Found:
        with trace.span("images.documents", reference=str(self.reference)):
            descriptor, data = await self.registry.manifest(self.reference, credentials=self.credentials)
            top = descriptor.digest
            for _ in range(_NESTED):
                if descriptor.media_type not in INDEXES:
                    break
                chosen = platforms.choose(decode(Index, data).manifests, self.wanted or platforms.local())
                asked = self.reference.repository().with_digest(chosen.digest)
                descriptor, data = await self.registry.manifest(asked, credentials=self.credentials)
            else:
                raise Corrupt(f"{self.reference.familiar()} is an index of indexes that does not end")
            manifest = decode(Manifest, data)
            self._check_manifest(manifest)
            config_bytes = await self._config(manifest.config)
            config = decode(ImageConfig, config_bytes)
            self._check_config(manifest, config)
        return _Found(top, descriptor, data, manifest, config_bytes, config)

    def _check_manifest(self, manifest: Manifest) -> None:
        name = self.reference.familiar()
        if manifest.config.media_type not in _CONFIGS:
            kind = manifest.artifact_type or manifest.config.media_type
            raise InvalidParameter(f"{name} is an artifact of type {kind}, not an image", "Only images can be pulled.")
        for one in manifest.layers:
            if not one.media_type.startswith(_LAYERS) or "+encrypted" in one.media_type:
                raise InvalidParameter(f"{name} has a layer of the unknown type {one.media_type}")
            if one.size < 0:
                raise Corrupt(f"{name} has a layer of {one.size} bytes")
        if not 0 <= manifest.config.size <= DOCUMENT_LIMIT:
            raise Corrupt(f"{name} has a config of {manifest.config.size} bytes")

    def _check_config(self, manifest: Manifest, config: ImageConfig) -> None:
        name = self.reference.familiar()
        if len(config.rootfs.diff_ids) != len(manifest.layers):
            raise Corrupt(f"{name} has {len(manifest.layers)} layers, its config {len(config.rootfs.diff_ids)}")
        if config.os != "linux":
            raise NotSupported(
                f'image operating system "{config.os}" cannot be used on this platform', "Glassdock runs Linux images."
            )
        actual = Platform(config.architecture, config.os, config.variant)
        if self.wanted is not None and not platforms.matches(actual, self.wanted):
            raise InvalidParameter(
                f"image with reference {name} was found but does not match the specified platform: "
                f"wanted {platforms.show(self.wanted)}, actual: {platforms.show(actual)}"
            )

    async def _config(self, descriptor: Descriptor) -> bytes:
        async with aclosing(self._blob(descriptor)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    def _blob(self, descriptor: Descriptor) -> AsyncGenerator[bytes]:
        return self.registry.blob(self.reference, descriptor, credentials=self.credentials)


@dataclass(slots=True)
class _Pull:
    """The layers of one image on their way."""

    store: Store
    registry: Client
    reference: Reference
    credentials: Credentials | None
    progress: Progress
    found: _Found
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    threads: ThreadPoolExecutor = field(init=False)

    async def run(self) -> list[LayerRecord]:
        diff_ids = self.found.config.rootfs.diff_ids
        chains = chain_ids(diff_ids)
        layers = list(zip(self.found.manifest.layers, diff_ids, chains, (None, *chains), strict=False))
        for descriptor, _, _, _ in layers:
            self.progress({"status": "Pulling fs layer", "progressDetail": {}, "id": short(descriptor.digest)})
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(_AT_ONCE + 1, "pull") as self.threads:
            done: list[asyncio.Future[None]] = [loop.create_future() for _ in layers]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(
                            self._layer(*layers[number], done[number - 1] if number else None, done[number])
                        )
                        for number in range(len(layers))
                    ]
            except BaseExceptionGroup as failures:
                raise first_failure(failures) from None
        return [task.result() for task in tasks]

    async def _layer(
        self,
        descriptor: Descriptor,
        diff_id: str,
        chain: str,
        parent: str | None,
        lower: asyncio.Future[None] | None,
        done: asyncio.Future[None],
    ) -> LayerRecord:
        """One layer; `lower` is done when those below are there."""
        async with self.store.exclusive(f"layer {chain}"):
            record = await self._here(descriptor, diff_id, chain)
            if record is None:
                record = await self._fetch(descriptor, diff_id, chain, parent, lower)
                self._say("Pull complete", descriptor)
            else:
                self._say("Already exists", descriptor)
        done.set_result(None)
        return record

    async def _here(self, descriptor: Descriptor, diff_id: str, chain: str) -> LayerRecord | None:
        """What there is of the layer, if that is all of it."""
        if not self.store.has_blob(descriptor.digest):
            return None
        if os.geteuid() == 0 and not self.store.snapshotter.has(chain):
            return None
        known = self.store.layer(diff_id)
        if known is None:
            if os.geteuid() != 0:
                return None
            folder = self.store.snapshotter.layer_path(chain)
            return LayerRecord(diff_id, await self._thread(lambda: trees.usage(folder)), descriptor)
        return LayerRecord(diff_id, known.size, descriptor, known.tar_size)

    async def _fetch(
        self, descriptor: Descriptor, diff_id: str, chain: str, parent: str | None, lower: asyncio.Future[None] | None
    ) -> LayerRecord:
        """Blob and folder in one pass; the folder counts once those below are there."""
        undo = contextlib.ExitStack()
        try:
            folder: Path | None = None
            if os.geteuid() == 0 and not self.store.snapshotter.has(chain):
                folder = undo.enter_context(self.store.snapshotter.unpacking(chain, parent))
            if self.slots.locked():
                self._say("Waiting", descriptor)
            async with self.slots:
                with trace.span("images.layer", digest=descriptor.digest, size=descriptor.size):
                    unpacked = await self._transfer(descriptor, folder)
                layer.check(unpacked, diff_id)
            if lower is not None:
                await asyncio.shield(lower)
            if folder is not None:
                chained = self.store.snapshotter.chain(parent) if parent else ()
                lowers = [self.store.snapshotter.layer_path(one) for one in chained]
                await self._thread(lambda: below.settle(folder, unpacked.implied, unpacked.links, lowers))
            await self._thread(undo.close)
        except BaseException:
            # In a thread: what was unpacked so far can be tens of thousands of files.
            reason = sys.exc_info()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await asyncio.shield(self._thread(lambda: undo.__exit__(*reason)))
            raise
        return LayerRecord(diff_id, unpacked.size, descriptor, unpacked.tar_size)

    async def _transfer(self, descriptor: Descriptor, folder: Path | None) -> layer.Unpacked:
        """Read the blob from here or there while a thread writes and unpacks it."""
        async with self.store.exclusive(f"blob {descriptor.digest}"):
            if self.store.has_blob(descriptor.digest):
                path = self.store.blob_path(descriptor.digest)
                return await self._thread(lambda: transfer.reread(path, folder))
            meter = Meter(self.progress, short(descriptor.digest), "Downloading", descriptor.size)
            blob = self.registry.blob(self.reference, descriptor, credentials=self.credentials)
            async with aclosing(blob) as chunks:
                unpacked = await transfer.receive(chunks, self.store, descriptor, folder, self._thread, meter)
        self._say("Verifying Checksum", descriptor)
        self._say("Download complete", descriptor)
        if folder is not None:
            Meter(self.progress, short(descriptor.digest), "Extracting", descriptor.size).at(descriptor.size)
        return unpacked

    async def _thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)

    def _say(self, status: str, descriptor: Descriptor) -> None:
        self.progress({"status": status, "progressDetail": {}, "id": short(descriptor.digest)})


def first_failure(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first; the rest was cancelled because of it."""
    first = failures.exceptions[0]
    return first_failure(first) if isinstance(first, BaseExceptionGroup) else first
