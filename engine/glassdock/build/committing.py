"""`docker commit` and `docker import`: a container's writable layer, or any tar, becomes an image.

Interface:
- `commit_container(store, Commit(...))`: the layer on top of the container's image.
- `import_tar(store, file, changes, message, tags)`: a tar as the only layer.

Rules: the layer is copied, through its tar, so that the container can go on writing. `changes` are lines of a
Dockerfile, read and planned by the builder itself; those that would run or copy something are refused.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image/operation/ImageCommit
"""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import IO

import msgspec

from glassdock import trace
from glassdock.build import archive as archives
from glassdock.build.dockerfile import parse
from glassdock.build.options import BuildOptions
from glassdock.build.plan import make_plan
from glassdock.build.scope import architecture
from glassdock.errors import InvalidParameter
from glassdock.images import layer, pack
from glassdock.images.model import Image, LayerRecord, chain_ids
from glassdock.images.store import Store
from glassdock.images.tar import BLOCK
from glassdock.oci import image as documents
from glassdock.oci.image import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    ContainerConfig,
    Descriptor,
    History,
    ImageConfig,
    Manifest,
    RootFS,
)
from glassdock.oci.reference import Reference

_ALLOWED = "CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL MAINTAINER ONBUILD SHELL STOPSIGNAL USER VOLUME WORKDIR".split()


@dataclass(frozen=True, slots=True)
class Commit:
    """What is committed: the writable layer `key` on `image`, with the container's `config`."""

    key: str
    image: Image
    config: ContainerConfig
    created_by: str
    author: str = ""
    comment: str = ""
    changes: tuple[str, ...] = ()
    tags: tuple[Reference, ...] = ()


async def commit_container(store: Store, asked: Commit) -> Image:
    """Make the image. Raises InvalidParameter, BuildError (a change that cannot be read), StorageFull."""
    if any(tag.digest for tag in asked.tags):
        raise InvalidParameter("refusing to create a tag with a digest reference", "Give a name and a tag.")
    base = msgspec.structs.replace(asked.image.config, config=msgspec.structs.replace(asked.config, on_build=None))
    config = await _changed(base, asked.changes) if asked.changes else asked.config
    return await asyncio.to_thread(_commit, store, asked, config)


async def import_tar(
    store: Store, file: IO[bytes], changes: tuple[str, ...], message: str, tags: tuple[Reference, ...]
) -> Image:
    """Make an image of a tar, plain or compressed. Raises InvalidParameter (no tar), BuildError, Corrupt."""
    if any(tag.digest for tag in tags):
        raise InvalidParameter("refusing to create a tag with a digest reference", "Give a name and a tag.")
    config = await _changed(ImageConfig(architecture(), "linux", RootFS(())), changes)
    return await asyncio.to_thread(_import, store, file, config, message, tags)


async def _changed(base: ImageConfig, changes: tuple[str, ...]) -> ContainerConfig:
    """The config after some lines of a Dockerfile."""
    for change in changes:
        if change.split()[0].upper() not in _ALLOWED:
            raise InvalidParameter(f"{change.split()[0]} is not a valid change command", f"Use {', '.join(_ALLOWED)}.")

    async def resolve(_: str) -> ImageConfig:
        return base

    tree = parse("\n".join(["FROM container", *changes]), "changes")
    plan = await make_plan(tree, BuildOptions(), resolve)
    return plan.target.steps[-1].config if plan.target.steps else base.config


def _import(store: Store, file: IO[bytes], config: ContainerConfig, message: str, tags: tuple[Reference, ...]) -> Image:
    content = archives.content(file)
    if content is None:
        raise InvalidParameter("the source is no tar archive", "Send a tar, plain or compressed.")
    with trace.span("images.import"), store.lease() as lease:
        with store.ingest() as writer:
            for chunk in content:
                writer.write(chunk)
            diff_id = writer.digest
            lease.held.add(diff_id)
        path = store.blob_path(diff_id)
        size = path.stat().st_size
        found = layer.unpack_blob(store.snapshotter, path, diff_id, diff_id, None)
        record = LayerRecord(diff_id, found.size, Descriptor(OCI_LAYER, diff_id, size), found.tar_size)
        created = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
        history = (History(created, comment=message),)
        document = ImageConfig(architecture(), "linux", RootFS((diff_id,)), created, config=config, history=history)
        return store.create(document, [record], tags)


def _commit(store: Store, asked: Commit, config: ContainerConfig) -> Image:
    records = [one.record() for one in asked.image.layers]
    old = asked.image.config
    created = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
    with trace.span("images.commit", key=asked.key), store.lease() as lease:
        lease.held |= {asked.image.id, *(one.chain_id for one in asked.image.layers)}
        with store.ingest() as writer, store.snapshotter.changed(asked.key) as changed:
            packed = pack.measure(changed, writer)
            lease.held.add(packed.diff_id)
        empty = packed.tar_size == 2 * BLOCK
        if not empty:
            blob = Descriptor(OCI_LAYER, packed.diff_id, packed.tar_size)
            records.append(LayerRecord(packed.diff_id, packed.size, blob, packed.tar_size))
            chain = chain_ids(record.diff_id for record in records)[-1]
            lease.held.add(chain)
            if not store.snapshotter.has(chain):
                path = store.blob_path(packed.diff_id)
                layer.unpack_blob(store.snapshotter, path, packed.diff_id, chain, asked.image.chain_id)
        entry = History(created, asked.created_by, asked.author, asked.comment, empty)
        document = msgspec.structs.replace(
            old,
            rootfs=RootFS(tuple(record.diff_id for record in records)),
            created=created,
            author=asked.author or old.author,
            config=config,
            history=(*old.history, entry),
        )
        data = documents.encode(document)
        described = Descriptor(OCI_CONFIG, store.blobs.write(data), len(data))
        manifest = Manifest(2, described, tuple(one.descriptor() for one in records), media_type=OCI_MANIFEST)
        return store.add(data, documents.encode(manifest), records, tags=asked.tags, parent=asked.image.id)
