"""Images as documents: descriptors, manifests, indexes and configs.

Interface: `Descriptor`, `Manifest`, `Index`, `ImageConfig`, `decode(kind, data)`, `encode(value)`, media types.

Rules: what a document holds beyond these fields is not lost, because an image is kept and pushed as the bytes
that were received or written once; these values are for reading and for making new documents.

Sources: https://github.com/opencontainers/image-spec (1.1), https://distribution.github.io/distribution/spec/manifest-v2-2/
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from glassdock.errors import Corrupt

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})


class Platform(msgspec.Struct, frozen=True, omit_defaults=True, rename={"os_version": "os.version"}):
    """What a manifest in an index is for."""

    architecture: str
    os: str
    variant: str = ""
    os_version: str = ""


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A typed pointer to content: media type, digest, size in bytes."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    platform: Platform | None = None
    artifact_type: str = ""
    data: str = ""


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One image for one platform, or an artifact."""

    schema_version: int
    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class Index(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A choice of manifests."""

    schema_version: int
    manifests: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class Healthcheck(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """Docker's extension of the image config; durations are nanoseconds; null is 0."""

    test: tuple[str, ...] = ()
    interval: int | None = 0
    timeout: int | None = 0
    start_period: int | None = 0
    start_interval: int | None = 0
    retries: int | None = 0


class ContainerConfig(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """How to run the image: the `config` member of the image config. `None` and absent mean the same."""

    user: str = ""
    exposed_ports: dict[str, Any] | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None
    args_escaped: bool = False


class RootFS(msgspec.Struct, frozen=True):
    """The layers' digests, uncompressed, lowest first."""

    diff_ids: tuple[str, ...]
    type: str = "layers"


class History(msgspec.Struct, frozen=True, omit_defaults=True):
    """One instruction of the build; `empty_layer` where it made no layer."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True, omit_defaults=True, rename={"os_version": "os.version"}):
    """The image's configuration document; its digest is the image's id. `created` is RFC 3339."""

    architecture: str
    os: str
    rootfs: RootFS
    created: str = ""
    author: str = ""
    variant: str = ""
    os_version: str = ""
    config: ContainerConfig = ContainerConfig()
    history: tuple[History, ...] = ()


T = TypeVar("T")


def decode(kind: type[T], data: bytes) -> T:
    """Read a document; raises Corrupt with the place of the fault."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise Corrupt(f"not a valid {kind.__name__}: {error}") from error


def encode(value: msgspec.Struct) -> bytes:
    """The document's bytes, in the order of the fields: the same value gives the same digest."""
    return msgspec.json.encode(value)
