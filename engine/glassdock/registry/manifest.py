"""What a manifest is, and what it refers to, read from bytes that nobody has to believe.

Interface:
- `read(data, content_type)`: a checked `Reading`: media type, the blobs and manifests it needs, subject, artifact type.
- `LIMIT`: how large a manifest may be, in bytes.

Rules: the header and the document must agree, and a document that could be read as manifest and as index at once is
refused (CVE-2021-41190): else two readers of one digest see two different images.

Sources: https://github.com/opencontainers/image-spec/blob/main/manifest.md and image-index.md,
https://github.com/opencontainers/distribution-spec/security/advisories/GHSA-mc8v-mgrf-8f4m
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from glassdock.errors import Corrupt, NotSupported
from glassdock.oci import digest as digests
from glassdock.oci import image

LIMIT = 4 * 1024 * 1024

# Docker's registry serves schema 1 with and without a signature; both are read as one thing that we refuse.
_SCHEMA1 = frozenset({image.DOCKER_SCHEMA1, "application/vnd.docker.distribution.manifest.v1+prettyjws"})
_KNOWN = image.MANIFESTS | image.INDEXES


@dataclass(frozen=True, slots=True)
class Reading:
    """A manifest or an index as its registry sees it; `needs` must be there before it, a `subject` need not."""

    media_type: str
    blobs: tuple[image.Descriptor, ...] = ()
    manifests: tuple[image.Descriptor, ...] = ()
    subject: image.Descriptor | None = None
    artifact_type: str = ""
    annotations: dict[str, str] | None = None

    @property
    def is_index(self) -> bool:
        """True for a choice of manifests."""
        return self.media_type in image.INDEXES


def read(data: bytes, content_type: str = "") -> Reading:
    """Read a manifest that came with the header `content_type` ("" where there was none).

    Raises Corrupt where document and header do not fit, NotSupported for Docker's schema 1 and for unknown types.
    """
    document = _document(data)
    media_type = _media_type(document, content_type.partition(";")[0].strip().lower())
    kind: type[image.Manifest | image.Index] = image.Index if media_type in image.INDEXES else image.Manifest
    parsed = image.decode(kind, data)
    if parsed.schema_version != 2:
        raise Corrupt(f"a manifest has schemaVersion 2, this one says {parsed.schema_version}")
    if isinstance(parsed, image.Index):
        found = Reading(
            media_type, (), parsed.manifests, parsed.subject, parsed.artifact_type, parsed.annotations or None
        )
    else:
        # A layer with URLs is a foreign one: it is fetched from there, and need not be in the registry.
        blobs = (parsed.config, *(layer for layer in parsed.layers if not layer.urls))
        artifact = parsed.artifact_type or parsed.config.media_type
        found = Reading(media_type, blobs, (), parsed.subject, artifact, parsed.annotations or None)
    _check(found)
    return found


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > LIMIT:
        raise Corrupt(f"the manifest has {len(data)} bytes, more than the {LIMIT} that are allowed")
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"the manifest is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise Corrupt("the manifest is not a JSON object")
    return document


def _media_type(document: dict[str, Any], header: str) -> str:
    """The one type on which header, field and content agree."""
    stated = document.get("mediaType") or ""
    if not isinstance(stated, str):
        raise Corrupt("the manifest's mediaType is not a string")
    if header in _SCHEMA1 or stated in _SCHEMA1 or document.get("schemaVersion") == 1:
        raise NotSupported(
            "the image is in Docker's schema 1 format, which has not been written since 2017",
            "Pull it with a Docker before 28 and push it again, or use a newer tag.",
        )
    if stated and stated != header and header.startswith("application/vnd."):
        raise Corrupt(f"the manifest says that it is {stated}, the header says {header}")
    as_index, as_image = "manifests" in document, "layers" in document or "config" in document
    if as_index and as_image:
        raise Corrupt("the manifest could be read as an image and as an index; it is refused because nobody can tell")
    guessed = image.OCI_INDEX if as_index else image.OCI_MANIFEST
    # A registry that does not know better says application/json or text/plain; the document is then what counts.
    known = header if header in _KNOWN else stated or ("" if header.startswith("application/vnd.") else guessed)
    if known not in _KNOWN:
        raise NotSupported(f"{known or header} is not a type of manifest that this registry knows")
    if (known in image.INDEXES) != as_index:
        raise Corrupt(f"the manifest is called {known}, its content is something else")
    return known


def _check(found: Reading) -> None:
    for descriptor in (*found.blobs, *found.manifests, *((found.subject,) if found.subject else ())):
        digests.parse(descriptor.digest)
        if descriptor.size < 0:
            raise Corrupt(f"the manifest gives {descriptor.digest} a negative size")
