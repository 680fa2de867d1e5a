"""Images and their layers as values.

Interface:
- `Image`: what the store hands out. `Layer`: one of its layers, with its place in the chain.
- `LayerRecord`: what the store remembers of a layer. `Record`, `State`: the store's file.
- `chain_ids(diff_ids)`: the chain ids of a stack, lowest first.

Source: https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from glassdock.oci import digest as digests
from glassdock.oci.image import DOCKER_LAYER_GZIP, OCI_LAYER, OCI_LAYER_GZIP, Descriptor, ImageConfig, Manifest


class LayerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A layer by its diff id; `size` is that of its files, `tar_size` of its uncompressed tar (-1 unknown).

    `blob` describes it as it was pulled or pushed; None until then: a layer that was built here has only its folder.
    """

    diff_id: str
    size: int = 0
    blob: Descriptor | None = None
    tar_size: int = -1

    def descriptor(self) -> Descriptor:
        """The layer in a new manifest: the blob, else the uncompressed tar, which can be made again any time."""
        if self.blob is None:
            return Descriptor(OCI_LAYER, self.diff_id, max(self.tar_size, 0))
        if self.blob.media_type == DOCKER_LAYER_GZIP:  # the same bytes; an OCI manifest calls them so
            return Descriptor(OCI_LAYER_GZIP, self.blob.digest, self.blob.size)
        return self.blob


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the store remembers of an image beside its documents."""

    manifest: str
    layers: tuple[LayerRecord, ...]
    parent: str = ""


class State(msgspec.Struct, omit_defaults=True):
    """The store's file: images by id; ids by full name with a tag, and by full name with a digest."""

    images: dict[str, Record] = {}
    tags: dict[str, str] = {}
    digests: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer in its stack."""

    diff_id: str
    chain_id: str
    size: int
    blob: Descriptor | None
    tar_size: int = -1

    def record(self) -> LayerRecord:
        """What another image with the same layer is made of."""
        return LayerRecord(self.diff_id, self.size, self.blob, self.tar_size)


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is here. `id` is the digest of the config; names are the familiar ones; `size` in bytes.

    `parent` is the image that it was committed from, by id; "" where that is not known.
    """

    id: str
    config: ImageConfig
    manifest: Manifest
    manifest_digest: str
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]
    size: int
    chain_id: str | None
    layers: tuple[Layer, ...]
    parent: str = ""


def chain_ids(diff_ids: Iterable[str]) -> tuple[str, ...]:
    """The chain id of each layer: the diff id of the lowest, then the digest of "parent's chain id, diff id"."""
    found: list[str] = []
    for diff_id in diff_ids:
        found.append(digests.of(f"{found[-1]} {diff_id}".encode()) if found else diff_id)
    return tuple(found)
