"""From here to a registry: only what it does not have, and the manifest last.

Interface:
- `push(store, registry, reference, progress=...)`: the manifest's digest; Docker's lines meanwhile.

Rules: what was pulled is pushed as the same bytes, so that its digest stays. A layer that was built here is packed and
compressed at its first push; its blob is kept, and the image's manifest then names it. A blob that another repository
of the same registry has is mounted from there.

Source: moby, `distribution/push_v2.go` (the lines)
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field

from glassdock import trace
from glassdock.errors import Corrupt, NotFound
from glassdock.images.compression import Gzip
from glassdock.images.model import Image, Layer
from glassdock.images.pack import pack
from glassdock.images.progress import Meter, Progress, short
from glassdock.images.pull import first_failure
from glassdock.images.store import Store
from glassdock.oci.image import OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor, Manifest, encode
from glassdock.oci.reference import Reference
from glassdock.registry.auth import Credentials
from glassdock.registry.client import Client

_AT_ONCE = 5  # Docker's max-concurrent-uploads


async def push(
    store: Store,
    registry: Client,
    reference: Reference,
    *,
    progress: Progress,
    credentials: Credentials | None = None,
) -> str:
    """Send the image that `reference` names here to where it names there; returns the manifest's digest.

    Raises NotFound (no such image here), Unauthorized, Forbidden, Unavailable, Corrupt, StorageFull.
    """
    progress({"status": f"The push refers to repository [{reference.name}]"})
    try:
        image = store.get(str(reference))
    except NotFound as error:
        raise NotFound(
            f"An image does not exist locally with the tag: {reference.familiar_name()}",
            f"Give it that name first: docker tag IMAGE {reference.familiar()}",
        ) from error
    with store.lease() as lease:
        lease.held |= {layer.chain_id for layer in image.layers}
        work = _Push(store, registry, reference, credentials, progress)
        blobs = await work.layers(image)
        lease.held |= {blob.digest for blob in blobs}
        image = await asyncio.to_thread(_with_blobs, store, image, blobs)
        await work.config(image)
        data = store.read_blob(image.manifest_digest)
        sent = await registry.put_manifest(
            reference, data, image.manifest.media_type or OCI_MANIFEST, credentials=credentials
        )
        kept = reference.repository().with_digest(sent.digest)
        records = [layer.record() for layer in image.layers]
        await asyncio.to_thread(store.add, store.read_blob(image.id), data, records, digests=[kept])
    target = reference.target
    progress({"status": f"{target}: digest: {sent.digest} size: {sent.size}"})
    progress({"progressDetail": {}, "aux": {"Tag": target, "Digest": sent.digest, "Size": sent.size}})
    return sent.digest


def _with_blobs(store: Store, image: Image, blobs: list[Descriptor]) -> Image:
    """The image with a manifest that names these blobs; the same one where it does already."""
    if [blob.digest for blob in blobs] == [one.digest for one in image.manifest.layers]:
        return image
    pairs = zip(image.layers, blobs, strict=True)
    records = [dataclasses.replace(layer, blob=blob).record() for layer, blob in pairs]
    described = tuple(record.descriptor() for record in records)
    manifest = Manifest(2, image.manifest.config, described, media_type=OCI_MANIFEST)
    return store.add(store.read_blob(image.id), encode(manifest), records)


@dataclass(slots=True)
class _Push:
    """The blobs of one image on their way."""

    store: Store
    registry: Client
    reference: Reference
    credentials: Credentials | None
    progress: Progress
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def layers(self, image: Image) -> list[Descriptor]:
        """Send all layers; returns their blobs, lowest first."""
        for layer in reversed(image.layers):
            self._say("Preparing", layer)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._layer(layer)) for layer in image.layers]
        except BaseExceptionGroup as failures:
            raise first_failure(failures) from None
        return [task.result() for task in tasks]

    async def config(self, image: Image) -> None:
        """Send the config, if it is not there."""
        descriptor = image.manifest.config
        if not await self.registry.has_blob(self.reference, descriptor.digest, credentials=self.credentials):
            data = self.store.read_blob(image.id)
            await self.registry.upload_blob(self.reference, descriptor, data, credentials=self.credentials)

    async def _layer(self, layer: Layer) -> Descriptor:
        if self.slots.locked():
            self._say("Waiting", layer)
        async with self.slots, self.store.exclusive(f"push {layer.chain_id}"):
            blob = layer.blob
            if blob is None or not self.store.has_blob(blob.digest):
                blob = await asyncio.to_thread(self._compress, layer)
            with trace.span("images.push_layer", digest=blob.digest, size=blob.size):
                await self._send(layer, blob)
        return blob

    async def _send(self, layer: Layer, blob: Descriptor) -> None:
        if await self.registry.has_blob(self.reference, blob.digest, credentials=self.credentials):
            self._say("Layer already exists", layer)
            return
        for source in self.store.repositories(self.reference.domain, blob.digest):
            if source != self.reference.path and await self.registry.mount_blob(
                self.reference, blob.digest, source, credentials=self.credentials
            ):
                self._say(f"Mounted from {source}", layer)
                return
        meter = Meter(self.progress, short(layer.diff_id), "Pushing", blob.size)
        path = self.store.blob_path(blob.digest)
        await self.registry.upload_blob(self.reference, blob, path, credentials=self.credentials, progress=meter.at)
        self._say("Pushed", layer)

    def _compress(self, layer: Layer) -> Descriptor:
        """The blob of a layer that has only its folder."""
        known = self.store.layer(layer.diff_id)
        if known is not None and known.blob is not None and self.store.has_blob(known.blob.digest):
            return known.blob
        with trace.span("images.compress", diff_id=layer.diff_id), self.store.ingest() as writer:
            gzip = Gzip(writer)
            if pack(self.store.snapshotter.layer_path(layer.chain_id), gzip) != layer.diff_id:
                raise Corrupt(
                    f"the folder of layer {layer.diff_id} is not what it was when it was built",
                    "Build the image again.",
                )
            gzip.close()
        return Descriptor(OCI_LAYER_GZIP, writer.digest, writer.size)

    def _say(self, status: str, layer: Layer) -> None:
        self.progress({"status": status, "progressDetail": {}, "id": short(layer.diff_id)})
