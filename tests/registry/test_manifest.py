"""Manifests: what is read, and every document that two readers could read differently is refused (CVE-2021-41190)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from glassdock.errors import Corrupt, GlassdockError, InvalidParameter, NotSupported
from glassdock.oci import image
from glassdock.registry.manifest import LIMIT, read
from tests.registry.support import artifact, random_image, random_index

DIGEST = "sha256:" + "a" * 64
CONFIG = {"mediaType": image.OCI_CONFIG, "digest": DIGEST, "size": 2}
LAYER = {"mediaType": image.OCI_LAYER_GZIP, "digest": DIGEST, "size": 2}
MANIFEST: dict[str, Any] = {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER]}
INDEX: dict[str, Any] = {"schemaVersion": 2, "manifests": [{**CONFIG, "mediaType": image.OCI_MANIFEST}]}


@pytest.mark.parametrize(
    ("document", "header", "found"),
    [
        (MANIFEST, image.OCI_MANIFEST, image.OCI_MANIFEST),
        (MANIFEST, image.DOCKER_MANIFEST, image.DOCKER_MANIFEST),
        (MANIFEST, "", image.OCI_MANIFEST),
        (MANIFEST, "application/json", image.OCI_MANIFEST),
        (MANIFEST | {"mediaType": image.DOCKER_MANIFEST}, "text/plain; charset=utf-8", image.DOCKER_MANIFEST),
        (MANIFEST | {"mediaType": image.OCI_MANIFEST}, image.OCI_MANIFEST + ";charset=utf-8", image.OCI_MANIFEST),
        (INDEX, image.OCI_INDEX, image.OCI_INDEX),
        (INDEX, image.DOCKER_LIST, image.DOCKER_LIST),
        (INDEX, "", image.OCI_INDEX),
        (INDEX | {"manifests": []}, image.OCI_INDEX, image.OCI_INDEX),
        (MANIFEST | {"layers": [], "unknown": {"x": 1}}, image.OCI_MANIFEST, image.OCI_MANIFEST),
    ],
)
def test_header_field_and_content_name_one_type(document: dict[str, Any], header: str, found: str) -> None:
    reading = read(json.dumps(document).encode(), header)
    assert reading.media_type == found
    assert reading.is_index == ("manifests" in document)


@pytest.mark.parametrize(
    ("document", "header", "error"),
    [
        (MANIFEST | INDEX, image.OCI_MANIFEST, Corrupt),
        (MANIFEST | INDEX, image.OCI_INDEX, Corrupt),
        (MANIFEST | INDEX, "", Corrupt),
        (INDEX | {"layers": []}, image.OCI_INDEX, Corrupt),
        (INDEX | {"config": CONFIG}, image.OCI_INDEX, Corrupt),
        (MANIFEST, image.OCI_INDEX, Corrupt),
        (INDEX, image.OCI_MANIFEST, Corrupt),
        (MANIFEST | {"mediaType": image.OCI_INDEX}, "", Corrupt),
        (MANIFEST | {"mediaType": image.OCI_MANIFEST}, image.DOCKER_MANIFEST, Corrupt),
        (MANIFEST | {"mediaType": image.OCI_MANIFEST}, "application/vnd.unknown", Corrupt),
        (MANIFEST | {"mediaType": [image.OCI_MANIFEST]}, image.OCI_MANIFEST, Corrupt),
        (MANIFEST | {"mediaType": "application/vnd.unknown"}, "", NotSupported),
        (MANIFEST, "application/vnd.unknown", NotSupported),
        (MANIFEST | {"schemaVersion": 3}, image.OCI_MANIFEST, Corrupt),
        ({"config": CONFIG, "layers": []}, image.OCI_MANIFEST, Corrupt),
        ({"schemaVersion": 1, "fsLayers": []}, image.DOCKER_SCHEMA1, NotSupported),
        ({"schemaVersion": 1, "fsLayers": []}, "application/json", NotSupported),
        (MANIFEST | {"config": CONFIG | {"digest": "sha256:../../etc/passwd"}}, image.OCI_MANIFEST, InvalidParameter),
        (MANIFEST | {"layers": [LAYER | {"digest": "md5:" + "a" * 32}]}, image.OCI_MANIFEST, InvalidParameter),
        (MANIFEST | {"layers": [LAYER | {"size": -1}]}, image.OCI_MANIFEST, Corrupt),
        (MANIFEST | {"layers": [LAYER | {"size": "2"}]}, image.OCI_MANIFEST, Corrupt),
        (MANIFEST | {"layers": {}}, image.OCI_MANIFEST, Corrupt),
        (INDEX | {"manifests": [{"digest": DIGEST}]}, image.OCI_INDEX, Corrupt),
    ],
)
def test_what_could_be_read_in_two_ways_or_not_at_all_is_refused(
    document: dict[str, Any], header: str, error: type[GlassdockError]
) -> None:
    with pytest.raises(error):
        read(json.dumps(document).encode(), header)


@pytest.mark.parametrize("data", [b"", b"null", b"[1]", b"{", b"\xff\xfe", b"[" * 200_000, b" " * (LIMIT + 1)])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        read(data)


def test_what_a_manifest_needs_is_its_config_and_layers_but_not_foreign_ones_nor_its_subject() -> None:
    image_one = random_image(1)
    assert {blob.digest for blob in read(image_one.manifest).blobs} == set(image_one.blobs)
    foreign = LAYER | {"urls": ["https://example.com/layer"], "digest": "sha256:" + "b" * 64}
    assert len(read(json.dumps(MANIFEST | {"layers": [LAYER, foreign]}).encode()).blobs) == 2
    refers = read(artifact(image_one.descriptor, "application/sbom").manifest)
    assert refers.subject == image_one.descriptor
    assert refers.artifact_type == "application/sbom"
    assert image_one.digest not in {blob.digest for blob in refers.blobs}


def test_an_index_needs_its_manifests() -> None:
    index = random_index(1)
    reading = read(index.manifest)
    assert [one.digest for one in reading.manifests] == [one.digest for one in index.images]
    assert reading.blobs == ()
    assert reading.artifact_type == ""
