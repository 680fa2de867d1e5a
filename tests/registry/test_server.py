"""The server by the specification's end-points: a request, the status, the headers and the code that it must give."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from multidict import CIMultiDictProxy
from yarl import URL

from glassdock.oci import digest as digests
from glassdock.oci import image
from glassdock.oci.reference import Reference
from glassdock.registry.client import Client
from tests.registry.support import artifact, our_registry, push, random_image, random_index

IMAGE = random_image(1)
BLOB = next(iter(IMAGE.blobs.values()))
DIGEST = digests.of(BLOB)
SHA512 = "sha512:" + hashlib.sha512(BLOB).hexdigest()
MISSING = "sha256:" + "0" * 64
OCTETS = {"Content-Type": "application/octet-stream"}


class Http:
    """Plain HTTP to one registry."""

    def __init__(self, session: ClientSession, address: str) -> None:
        self.session, self.address = session, address

    async def __call__(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, CIMultiDictProxy[str], bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(f"http://{self.address}{path}", encoded=True)
        async with self.session.request(
            method, url, data=body and io.BytesIO(body), headers=sent, allow_redirects=False
        ) as response:
            return response.status, response.headers, await response.read()

    async def upload(self, name: str) -> str:
        """Begin an upload; gives its location."""
        status, headers, _ = await self("POST", f"/v2/{name}/blobs/uploads/")
        assert status == 202
        return headers["Location"]


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    """A registry that holds IMAGE as library/app:1, and nothing else."""
    async with our_registry(tmp_path / "registry") as address, ClientSession() as session:
        client = Client()
        await push(client, Reference.parse(f"{address}/library/app:1"), IMAGE)
        await client.close()
        yield Http(session, address)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/", 200, ""),  # end-1
        ("GET", f"/v2/library/app/blobs/{DIGEST}", 200, ""),  # end-2
        ("HEAD", f"/v2/library/app/blobs/{DIGEST}", 200, ""),
        ("GET", f"/v2/library/app/blobs/{MISSING}", 404, "BLOB_UNKNOWN"),
        ("GET", f"/v2/library/other/blobs/{DIGEST}", 404, "BLOB_UNKNOWN"),
        ("GET", "/v2/library/app/blobs/sha256:short", 400, "DIGEST_INVALID"),
        ("GET", "/v2/Library/app/blobs/" + DIGEST, 400, "NAME_INVALID"),
        ("GET", "/v2/library/../../etc/blobs/" + DIGEST, 400, "NAME_INVALID"),
        ("GET", "/v2/library/%2e%2e/etc/blobs/" + DIGEST, 400, "NAME_INVALID"),
        ("GET", "/v2/library/..%2f..%2fetc/blobs/" + DIGEST, 400, "NAME_INVALID"),
        ("GET", "/v2/library/app/manifests/1", 200, ""),  # end-3
        ("HEAD", "/v2/library/app/manifests/1", 200, ""),
        ("GET", f"/v2/library/app/manifests/{IMAGE.digest}", 200, ""),
        ("GET", f"/v2/library/app/manifests/{DIGEST}", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/library/app/manifests/2", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/library/app/manifests/..%2f1", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/nothing/manifests/1", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/nothing/manifests/sha256:short", 400, "DIGEST_INVALID"),
        ("POST", "/v2/library/app/blobs/uploads/", 202, ""),  # end-4a
        ("POST", "/v2/library/app/blobs/uploads/?digest=md5:1", 400, "DIGEST_INVALID"),  # end-4b
        ("POST", "/v2/library/app/blobs/uploads/?digest-algorithm=sha512", 202, ""),  # end-4c
        ("POST", "/v2/library/app/blobs/uploads/?digest-algorithm=md5", 400, "DIGEST_INVALID"),
        ("PATCH", "/v2/library/app/blobs/uploads/nothing", 404, "BLOB_UPLOAD_UNKNOWN"),  # end-5
        ("PUT", f"/v2/library/app/blobs/uploads/..%2f1?digest={DIGEST}", 404, "BLOB_UPLOAD_UNKNOWN"),  # end-6
        ("PUT", "/v2/library/app/manifests/2", 400, "MANIFEST_INVALID"),  # end-7
        ("GET", "/v2/library/app/tags/list", 200, ""),  # end-8a
        ("GET", "/v2/nothing/tags/list", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/library/app/tags/list?n=x", 400, "UNSUPPORTED"),  # end-8b
        ("DELETE", "/v2/library/app/manifests/1", 202, ""),  # end-9
        ("DELETE", "/v2/library/app/manifests/2", 404, "MANIFEST_UNKNOWN"),
        ("DELETE", f"/v2/library/app/manifests/{IMAGE.digest}", 202, ""),
        ("DELETE", f"/v2/library/app/manifests/{MISSING}", 404, "MANIFEST_UNKNOWN"),
        ("DELETE", f"/v2/library/app/blobs/{DIGEST}", 202, ""),  # end-10
        ("DELETE", f"/v2/library/app/blobs/{MISSING}", 404, "BLOB_UNKNOWN"),
        ("POST", f"/v2/new/blobs/uploads/?mount={DIGEST}&from=library/app", 201, ""),  # end-11
        ("POST", f"/v2/new/blobs/uploads/?mount={DIGEST}", 201, ""),
        ("POST", f"/v2/new/blobs/uploads/?mount={DIGEST}&from=elsewhere", 202, ""),
        ("POST", "/v2/new/blobs/uploads/?mount=nonsense&from=library/app", 202, ""),
        ("GET", f"/v2/nothing/referrers/{MISSING}", 200, ""),  # end-12a
        ("GET", "/v2/library/app/referrers/nonsense", 400, "DIGEST_INVALID"),
        ("GET", "/v2/library/app/blobs/uploads/nothing", 404, "BLOB_UPLOAD_UNKNOWN"),  # end-13
        ("DELETE", "/v2/library/app/blobs/uploads/nothing", 404, "BLOB_UPLOAD_UNKNOWN"),  # end-14
        ("GET", "/v2/_catalog", 200, ""),
        ("POST", "/v2/", 405, ""),
        ("GET", "/", 404, ""),
    ],
)
async def test_each_end_point_answers_as_the_specification_says(
    http: Http, method: str, path: str, status: int, code: str
) -> None:
    answered, headers, body = await http(method, path)
    assert answered == status, body
    if code:
        assert json.loads(body)["errors"][0]["code"] == code
        assert headers["Content-Type"].startswith("application/json")
    if status in (201, 202) and method == "POST":
        assert headers["Location"].startswith("/v2/")
    assert headers.get("Docker-Distribution-Api-Version", "registry/2.0") == "registry/2.0"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_content_comes_with_its_length_and_digest(http: Http, method: str) -> None:
    for path, data, digest, kind in (
        (f"/v2/library/app/blobs/{DIGEST}", BLOB, DIGEST, "application/octet-stream"),
        ("/v2/library/app/manifests/1", IMAGE.manifest, IMAGE.digest, image.OCI_MANIFEST),
    ):
        status, headers, body = await http(method, path)
        assert status == 200
        assert body == (data if method == "GET" else b"")
        assert headers["Content-Length"] == str(len(data))
        assert headers["Docker-Content-Digest"] == digest
        assert headers["Content-Type"] == kind
        assert headers["ETag"] == f'"{digest}"'
        status, _, body = await http(method, path, If_None_Match=f'"{digest}"')
        assert (status, body) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("bytes=10-19", 206, 10, 19),
        ("bytes=10-", 206, 10, len(BLOB) - 1),
        ("bytes=-10", 206, len(BLOB) - 10, len(BLOB) - 1),
        ("bytes=10-999999", 206, 10, len(BLOB) - 1),
        ("bytes=20-10", 416, 0, 0),
        ("bytes=999999-", 416, 0, 0),
    ],
)
async def test_a_part_of_a_blob(http: Http, asked: str, status: int, first: int, last: int) -> None:
    answered, headers, body = await http("GET", f"/v2/library/app/blobs/{DIGEST}", Range=asked)
    assert answered == status
    if status == 206:
        assert body == BLOB[first : last + 1]
        assert headers["Content-Range"] == f"bytes {first}-{last}/{len(BLOB)}"


async def test_a_blob_in_one_post(http: Http) -> None:
    status, headers, _ = await http("POST", f"/v2/a/b/blobs/uploads/?digest={DIGEST}", BLOB, **OCTETS)
    assert (status, headers["Location"]) == (201, f"/v2/a/b/blobs/{DIGEST}")
    assert (await http("GET", headers["Location"]))[2] == BLOB


@pytest.mark.parametrize("digest", [DIGEST, SHA512])
async def test_a_blob_in_post_and_put(http: Http, digest: str) -> None:
    location = await http.upload("new")
    status, headers, _ = await http("PUT", f"{location}?digest={digest}", BLOB, **OCTETS)
    assert (status, headers["Location"], headers["Docker-Content-Digest"]) == (201, f"/v2/new/blobs/{digest}", digest)
    assert (await http("GET", headers["Location"]))[2] == BLOB


async def test_a_blob_in_chunks_each_where_the_last_one_ended(http: Http) -> None:
    location = await http.upload("new")
    half = len(BLOB) // 2
    assert (await http("PATCH", location, BLOB[half:], Content_Range=f"{half}-{len(BLOB) - 1}"))[0] == 416
    status, headers, _ = await http("PATCH", location, BLOB[:half], Content_Range=f"0-{half - 1}")
    assert (status, headers["Range"]) == (202, f"0-{half - 1}")
    status, headers, _ = await http("PATCH", location, BLOB[:half], Content_Range=f"0-{half - 1}")
    assert (status, headers["Range"], headers["Location"]) == (416, f"0-{half - 1}", location)
    status, headers, _ = await http("GET", location)
    assert (status, headers["Range"]) == (204, f"0-{half - 1}")
    rest = {"Content_Range": f"{half}-{len(BLOB) - 1}"}
    assert (await http("PUT", f"{location}?digest={DIGEST}", BLOB[half:], **rest))[0] == 201
    assert (await http("GET", location))[0] == 404


@pytest.mark.parametrize(
    ("stated", "status"),
    [("0-9", 400), ("bytes 0-9/10", 400), ("0-99999999999999999999", 400), ("-", 400), ("9-0", 400)],
)
async def test_a_content_range_that_does_not_fit_the_body(http: Http, stated: str, status: int) -> None:
    assert (await http("PATCH", await http.upload("new"), b"12345", Content_Range=stated))[0] == status


async def test_a_wrong_digest_is_refused_and_nothing_is_kept(http: Http) -> None:
    for path, method in ((f"/v2/new/blobs/uploads/?digest={MISSING}", "POST"), ("", "PUT")):
        location = path or f"{await http.upload('new')}?digest={MISSING}"
        status, _, body = await http(method, location, BLOB)
        assert status == 400
        assert json.loads(body)["errors"][0]["code"] == "DIGEST_INVALID"
        assert (await http("GET", f"/v2/new/blobs/{MISSING}"))[0] == 404
        assert (await http("GET", f"/v2/new/blobs/{DIGEST}"))[0] == 404


async def test_an_upload_can_be_cancelled(http: Http) -> None:
    location = await http.upload("new")
    assert (await http("PATCH", location, b"123"))[0] == 202
    assert (await http("DELETE", location))[0] == 204
    assert (await http("PATCH", location, b"123"))[0] == 404


@pytest.mark.parametrize(
    ("manifest", "kind", "status", "code"),
    [
        (b"", image.OCI_MANIFEST, 400, "MANIFEST_INVALID"),
        (b"[]", image.OCI_MANIFEST, 400, "MANIFEST_INVALID"),
        (b"{}", image.OCI_MANIFEST, 400, "MANIFEST_INVALID"),
        (b"[" * 100_000, image.OCI_MANIFEST, 400, "MANIFEST_INVALID"),
        (IMAGE.manifest, "application/vnd.unknown", 400, "MANIFEST_INVALID"),
        (IMAGE.manifest, image.OCI_INDEX, 400, "MANIFEST_INVALID"),
        (IMAGE.manifest, image.OCI_MANIFEST + "; charset=utf-8", 201, ""),
        (IMAGE.manifest + b" ", image.OCI_MANIFEST, 201, ""),
        (random_image(2).manifest, image.OCI_MANIFEST, 404, "MANIFEST_BLOB_UNKNOWN"),
        (random_index(3).manifest, image.OCI_INDEX, 404, "MANIFEST_BLOB_UNKNOWN"),
        (IMAGE.manifest + b" " * (4 << 20), image.OCI_MANIFEST, 413, "SIZE_INVALID"),
        (IMAGE.manifest + b" " * ((4 << 20) - len(IMAGE.manifest)), image.OCI_MANIFEST, 201, ""),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else None,
)
async def test_manifests_are_checked_and_kept_byte_for_byte(
    http: Http, manifest: bytes, kind: str, status: int, code: str
) -> None:
    answered, headers, body = await http("PUT", "/v2/library/app/manifests/new", manifest, Content_Type=kind)
    assert answered == status, body
    if code:
        assert json.loads(body)["errors"][0]["code"] == code
        assert (await http("GET", "/v2/library/app/manifests/new"))[0] == 404
    else:
        assert headers["Docker-Content-Digest"] == digests.of(manifest)
        assert (await http("GET", headers["Location"]))[2] == manifest
        assert (await http("GET", "/v2/library/app/manifests/new"))[2] == manifest


async def test_a_manifest_under_a_digest_must_have_it(http: Http) -> None:
    kind = {"Content_Type": image.OCI_MANIFEST}
    assert (await http("PUT", f"/v2/library/app/manifests/{MISSING}", IMAGE.manifest, **kind))[0] == 400
    path = f"/v2/library/app/manifests/{IMAGE.digest}?tag=1.2&tag=1.3"
    status, headers, _ = await http("PUT", path, IMAGE.manifest, **kind)
    assert (status, headers["OCI-Tag"]) == (201, "1.2, 1.3")
    assert (await http("GET", "/v2/library/app/manifests/1.3"))[2] == IMAGE.manifest


async def test_tags_come_sorted_and_in_pages(http: Http) -> None:
    for tag in ("b", "a", "C", "_", "10", "9"):
        await http("PUT", f"/v2/library/app/manifests/{tag}", IMAGE.manifest, Content_Type=image.OCI_MANIFEST)
    everything = ["1", "10", "9", "C", "_", "a", "b"]

    async def listed(query: str) -> tuple[Any, str]:
        _, headers, body = await http("GET", f"/v2/library/app/tags/list{query}")
        assert json.loads(body)["name"] == "library/app"
        return json.loads(body)["tags"], headers.get("Link", "")

    assert await listed("") == (everything, "")
    assert await listed("?n=3") == (everything[:3], '</v2/library/app/tags/list?n=3&last=9>; rel="next"')
    assert await listed("?n=3&last=9") == (everything[3:6], '</v2/library/app/tags/list?n=3&last=a>; rel="next"')
    assert await listed("?n=3&last=a") == (everything[6:], "")
    assert await listed("?last=Z") == (everything[4:], "")
    assert await listed("?n=0") == ([], "")
    assert await listed("?n=100") == (everything, "")


async def test_a_tag_goes_alone_and_a_manifest_takes_its_tags_along(http: Http) -> None:
    path = "/v2/library/app/manifests"
    await http("PUT", f"{path}/2", IMAGE.manifest, Content_Type=image.OCI_MANIFEST)
    assert (await http("DELETE", f"{path}/1"))[0] == 202
    assert (await http("GET", f"{path}/1"))[0] == 404
    assert (await http("GET", f"{path}/{IMAGE.digest}"))[0] == 200
    assert (await http("DELETE", f"{path}/{IMAGE.digest}"))[0] == 202
    assert (await http("GET", f"{path}/2"))[0] == 404
    assert json.loads((await http("GET", "/v2/library/app/tags/list"))[2])["tags"] == []


async def test_referrers_are_found_by_subject_and_type(http: Http) -> None:
    client = Client()
    reference = Reference.exact(f"{http.address}/library/app")
    signature = artifact(IMAGE.descriptor, "application/signature", by="me")
    sbom = artifact(IMAGE.descriptor, "application/sbom")
    for one in (signature, sbom):
        await push(client, reference.with_digest(one.digest), one)
    await client.close()
    kind = {"Content_Type": image.OCI_MANIFEST}
    _, headers, _ = await http("PUT", f"/v2/library/app/manifests/{sbom.digest}", sbom.manifest, **kind)
    assert headers["OCI-Subject"] == IMAGE.digest
    path = f"/v2/library/app/referrers/{IMAGE.digest}"
    _, headers, body = await http("GET", path)
    assert headers["Content-Type"] == image.OCI_INDEX
    found = {one["artifactType"]: one for one in json.loads(body)["manifests"]}
    assert set(found) == {"application/signature", "application/sbom"}
    assert found["application/signature"]["annotations"] == {"by": "me"}
    assert found["application/signature"]["digest"] == signature.digest
    _, headers, body = await http("GET", f"{path}?artifactType=application/sbom")
    assert headers["OCI-Filters-Applied"] == "artifactType"
    assert [one["digest"] for one in json.loads(body)["manifests"]] == [sbom.digest]
    await http("DELETE", f"/v2/library/app/manifests/{sbom.digest}")
    assert len(json.loads((await http("GET", path))[2])["manifests"]) == 1


async def test_the_catalog_lists_repositories_in_pages(http: Http) -> None:
    client = Client()
    for name in ("zoo", "a/b/c", "a"):
        await push(client, Reference.parse(f"{http.address}/{name}"), IMAGE)
    await client.close()
    assert json.loads((await http("GET", "/v2/_catalog"))[2])["repositories"] == ["a", "a/b/c", "library/app", "zoo"]
    _, headers, body = await http("GET", "/v2/_catalog?n=2")
    assert json.loads(body)["repositories"] == ["a", "a/b/c"]
    assert headers["Link"] == '</v2/_catalog?n=2&last=a%2Fb%2Fc>; rel="next"'


async def test_with_users_nobody_else_gets_in(tmp_path: Path) -> None:
    async with our_registry(tmp_path, {"me": "sécret"}) as address, ClientSession() as session:
        http = Http(session, address)
        for wrong in ("", "Basic", "Basic !!!", "Basic bWU6d3Jvbmc=", "Bearer bWU6c8OpY3JldA=="):
            status, headers, body = await http("GET", "/v2/", Authorization=wrong)
            assert status == 401
            assert headers["WWW-Authenticate"].startswith("Basic realm=")
            assert json.loads(body)["errors"][0]["code"] == "UNAUTHORIZED"
        assert (await http("GET", "/v2/", Authorization="Basic bWU6c8OpY3JldA=="))[0] == 200
