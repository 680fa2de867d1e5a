"""The client against registries that work, break off, lie, or are not there."""

from __future__ import annotations

import asyncio
import io
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from glassdock.errors import Corrupt, GlassdockError, InvalidParameter, NotFound, NotSupported, Unavailable
from glassdock.oci import digest as digests
from glassdock.oci import image
from glassdock.oci.image import Descriptor
from glassdock.oci.reference import Reference
from glassdock.registry import transport
from glassdock.registry.client import Client
from glassdock.registry.sending import Source
from tests.registry.support import (
    Image,
    docker_registry,
    flaky,
    free_port,
    our_registry,
    peak_memory,
    pull,
    push,
    random_image,
    random_index,
    reset_peak_memory,
    serving,
)

BIG = random.Random(1).randbytes(6 << 20)
DESCRIPTOR = Descriptor("application/octet-stream", digests.of(BIG), len(BIG))


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client without mirrors."""
    made = Client()
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(transport, "_DELAY", 0.01)


async def fetched(client: Client, reference: Reference, descriptor: Descriptor) -> bytes:
    """All of a blob."""
    return b"".join([chunk async for chunk in client.blob(reference, descriptor)])


@pytest.fixture(params=["ours", pytest.param("docker's", marks=pytest.mark.needs("docker-registry"))])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Our registry, and Docker's."""
    serve = our_registry if request.param == "ours" else docker_registry
    async with serve(tmp_path / "registry") as address:
        yield address


@pytest.mark.parametrize(
    "sent",
    [random_image(1), random_image(2, docker=True), random_image(3, layers=0), random_index(4)],
    ids=["oci", "docker", "no layers", "index"],
)
async def test_what_is_pushed_is_pulled_byte_for_byte(client: Client, registry: str, sent: Image) -> None:
    reference = Reference.parse(f"{registry}/team/app:1")
    await push(client, reference, sent)
    assert await pull(client, reference) == sent
    assert await pull(client, reference.repository().with_digest(sent.digest)) == sent
    descriptor, _ = await client.manifest(reference)
    assert (descriptor.media_type, descriptor.digest, descriptor.size) == (
        sent.media_type,
        sent.digest,
        len(sent.manifest),
    )


@pytest.mark.parametrize("kind", ["bytes", "path", "file", "iterable"])
async def test_a_blob_is_sent_from_whatever_holds_it(client: Client, registry: str, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "blob"
    path.write_bytes(BIG)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(BIG), 100_000):
            yield BIG[start : start + 100_000]

    reference, sent = Reference.parse(f"{registry}/team/app"), list[int]()
    with path.open("rb") as file:
        file.seek(7)  # wherever it stands
        sources: dict[str, Source] = {"bytes": BIG, "path": path, "file": file, "iterable": pieces()}
        await client.upload_blob(reference, DESCRIPTOR, sources[kind], progress=sent.append)
    assert sent == sorted(sent)
    assert sent[-1] == len(BIG)
    assert await fetched(client, reference, DESCRIPTOR) == BIG


async def test_an_empty_blob(client: Client, registry: str) -> None:
    reference, descriptor = Reference.parse(f"{registry}/a"), Descriptor("x", digests.of(b""), 0)
    await client.upload_blob(reference, descriptor, b"")
    assert await fetched(client, reference, descriptor) == b""


async def test_what_is_there_is_mounted_and_not_sent_again(client: Client, registry: str) -> None:
    one, two = (Reference.parse(f"{registry}/{name}") for name in ("team/one", "team/two"))
    await client.upload_blob(one, DESCRIPTOR, BIG)
    assert await client.has_blob(one, DESCRIPTOR.digest)
    assert not await client.has_blob(two, DESCRIPTOR.digest)
    assert not await client.mount_blob(two, digests.of(b"nothing"), "team/one")
    assert await client.mount_blob(two, DESCRIPTOR.digest, "team/one")
    assert await client.has_blob(two, DESCRIPTOR.digest)


async def test_tags_are_listed_over_all_pages(client: Client, tmp_path: Path) -> None:
    async with our_registry(tmp_path) as address:
        reference = Reference.parse(f"{address}/app")
        for number in range(7):
            await push(client, reference.with_tag(f"v{number}"), random_image(1))
        pages = []

        async def paged(request: web.Request) -> web.Response:
            pages.append(request.query_string)
            last = request.query.get("last", "a0")
            following = f"a{int(last[1:]) + 1}"
            link = {} if following == "a3" else {"Link": f'</v2/app/tags/list?n=1&last={following}>; rel="next"'}
            return web.json_response({"name": "app", "tags": [following]}, headers=link)

        app = web.Application()
        app.router.add_get("/v2/app/tags/list", paged)
        async with serving(app) as other:
            assert await client.tags(Reference.parse(f"{other}/app")) == ["a1", "a2", "a3"]
        assert pages == ["", "n=1&last=a1", "n=1&last=a2"]
        assert await client.tags(reference) == [f"v{number}" for number in range(7)]
        with pytest.raises(NotFound, match=r"repository .*/nothing not found: name unknown"):
            await client.tags(Reference.parse(f"{address}/nothing"))


# Mirrors


async def test_docker_hubs_images_come_from_the_mirror_first(tmp_path: Path) -> None:
    async with our_registry(tmp_path) as address:
        client = Client(mirrors={"docker.io": [f"http://{address}"]})
        await push(client, Reference.parse(f"{address}/library/busybox"), random_image(1))
        assert await pull(client, Reference.parse("busybox")) == random_image(1)
        await client.close()


async def test_a_mirror_that_is_down_or_lacks_it_is_passed_over(tmp_path: Path) -> None:
    down = f"127.0.0.1:{free_port()}"
    async with our_registry(tmp_path / "mirror") as mirror, our_registry(tmp_path / "origin") as origin:
        client = Client(mirrors={origin: [f"http://{down}", f"http://{mirror}"]})
        reference = Reference.parse(f"{origin}/app:1")
        await push(client, reference, random_image(1))
        assert await pull(client, reference) == random_image(1)
        with pytest.raises(NotFound) as caught:
            await client.manifest(reference.with_tag("2"))
        assert caught.value.message == (
            f"manifest for {origin}/app:2 not found: manifest unknown: tag 2 is not in app "
            f"(asked before: cannot reach {down}: Connection refused ({down}); {mirror} does not have it)"
        )
        missing = Descriptor("x", digests.of(b"missing"), 7)
        with pytest.raises(NotFound, match=f"asked before: .*{mirror} does not have it"):
            await fetched(client, reference, missing)
        await client.close()


async def test_a_layer_that_the_mirror_lacks_comes_from_the_registry(tmp_path: Path) -> None:
    async with our_registry(tmp_path / "mirror") as mirror, our_registry(tmp_path / "origin") as origin:
        client = Client(mirrors={origin: [f"http://{mirror}"]})
        await push(client, Reference.parse(f"{mirror}/app"), random_image(1))
        await client.upload_blob(Reference.parse(f"{origin}/app"), DESCRIPTOR, BIG)
        assert await fetched(client, Reference.parse(f"{origin}/app"), DESCRIPTOR) == BIG
        await client.close()


# Not there


async def test_a_registry_that_is_not_there_is_told_at_once(client: Client) -> None:
    down = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await client.manifest(Reference.parse(f"{down}/app"))
    assert caught.value.message == f"cannot reach {down}: Connection refused ({down})"
    assert caught.value.remedy
    assert time.monotonic() - began < 5


async def test_a_name_that_does_not_resolve_is_told_plainly(client: Client) -> None:
    began = time.monotonic()
    # A machine whose name servers are away does not even hear that there is no such name.
    with pytest.raises(Unavailable, match=r"the name registry\.invalid does not resolve|does not answer") as caught:
        await client.manifest(Reference.parse("registry.invalid/app"))
    assert caught.value.remedy
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("domain", ["[::::]:5000", "[1:2]", "example.com:99999"])
async def test_an_address_that_is_none_is_refused(client: Client, domain: str) -> None:
    with pytest.raises(InvalidParameter, match="is not the address of a registry"):
        await client.manifest(Reference.parse(f"{domain}/app"))


async def test_http_is_for_loopback_and_https_for_everybody_else() -> None:
    for domain in ("localhost", "localhost:5000", "127.0.0.1:5000", "127.8.9.1", "[::1]:5000"):
        assert transport.Endpoint.of(domain).base.scheme == "http"
    for domain in ("docker.io", "quay.io", "10.0.0.1:5000", "[fe80::1]:5000", "localhost.example.com", "128.0.0.1"):
        assert transport.Endpoint.of(domain).base.scheme == "https"
    assert transport.Endpoint.of("10.0.0.1:5000", {"10.0.0.1:5000"}).base.scheme == "http"
    assert (
        str(transport.Endpoint.of("docker.io").url("a/manifests/b")) == "https://registry-1.docker.io/v2/a/manifests/b"
    )


# Broken off


@pytest.mark.parametrize("down", [[2 << 20], [1 << 20, 3 << 20, 1 << 20], [100, 100, 100]])
async def test_a_download_goes_on_where_it_broke(client: Client, tmp_path: Path, down: list[int]) -> None:
    async with our_registry(tmp_path) as address, flaky(address, up=[], down=down) as proxy:
        await client.upload_blob(Reference.parse(f"{address}/app"), DESCRIPTOR, BIG)
        assert await fetched(client, Reference.parse(f"{proxy}/app"), DESCRIPTOR) == BIG
        assert down == []


@pytest.mark.parametrize("up", [[3 << 20], [2 << 20, 1 << 20]])
async def test_an_upload_goes_on_where_it_broke(client: Client, registry: str, tmp_path: Path, up: list[int]) -> None:
    path = tmp_path / "blob"
    path.write_bytes(BIG)
    async with flaky(registry, up=up, down=[]) as proxy:
        await client.upload_blob(Reference.parse(f"{proxy}/app"), DESCRIPTOR, path)
        assert up == []
    assert await fetched(client, Reference.parse(f"{registry}/app"), DESCRIPTOR) == BIG


async def test_a_registry_that_always_breaks_off_is_given_up(client: Client, tmp_path: Path) -> None:
    async with our_registry(tmp_path) as address, flaky(address, up=[], down=[1000] * 99) as proxy:
        await client.upload_blob(Reference.parse(f"{address}/app"), DESCRIPTOR, BIG)
        with pytest.raises(Unavailable, match=r"the connection to 127\.0\.0\.1:[0-9]+ broke"):
            await fetched(client, Reference.parse(f"{proxy}/app"), DESCRIPTOR)


def answering_blob(*answers: tuple[int, dict[str, str], bytes]) -> tuple[web.Application, list[str]]:
    """A registry that answers each request for a blob with the next of these, the last one again and again."""
    asked: list[str] = []

    async def blob(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Range", ""))
        status, headers, body = answers[min(len(asked), len(answers)) - 1]
        return web.Response(status=status, headers=headers, body=body)

    app = web.Application()
    app.router.add_get("/v2/{path:.*}", blob)
    return app, asked


SMALL = b"0123456789" * 100
SMALL_DESCRIPTOR = Descriptor("x", digests.of(SMALL), len(SMALL))


@pytest.mark.parametrize(
    ("answers", "requests"),
    [
        ([(503, {}, b"busy"), (502, {}, b"<html>"), (200, {}, SMALL)], 3),
        ([(429, {"Retry-After": "0"}, b""), (200, {}, SMALL)], 2),
        ([(500, {}, b""), (200, {}, SMALL)], 2),
    ],
)
async def test_what_passes_by_itself_is_waited_for(
    client: Client, answers: list[tuple[int, dict[str, str], bytes]], requests: int
) -> None:
    app, asked = answering_blob(*answers)
    async with serving(app) as address:
        assert await fetched(client, Reference.parse(f"{address}/app"), SMALL_DESCRIPTOR) == SMALL
    assert len(asked) == requests


HUB_LIMIT = (
    b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit."}]}'
)


@pytest.mark.parametrize(
    ("answer", "error", "words", "requests"),
    [
        ((503, {}, b""), Unavailable, "answers 503: Service Unavailable", 4),
        ((429, {"Retry-After": "3600"}, HUB_LIMIT), Unavailable, "limits how often .*toomanyrequests: You have", 1),
        ((404, {}, b""), NotFound, "does not have it", 1),
        ((400, {}, b'{"errors":[]}'), InvalidParameter, "refuses the request", 1),
        ((418, {}, b"<html>" * 9999), InvalidParameter, "refuses the request .418.: I'm a Teapot", 1),
        ((307, {"Location": "/v2/round"}, b""), Unavailable, "redirects in a circle", 6),
        ((307, {"Location": "file:///etc/passwd"}, b""), Unavailable, "leads to file", 1),
        ((307, {"Location": "http://[::::]/"}, b""), Unavailable, "leads to an address that is none", 1),
        ((307, {"Location": "http://a:99999/"}, b""), Unavailable, "leads to an address that is none", 1),
        ((400, {}, b'{"errors":[{"code":"X","message":"\\u001b[2Jgone"}]}'), InvalidParameter, r"x: \[2Jgone", 1),
        ((400, {}, b'{"errors":[[1]]}'), InvalidParameter, "Bad Request", 1),
        ((400, {}, b"[" * 60_000), InvalidParameter, "Bad Request", 1),
        ((200, {}, SMALL[:-1]), Corrupt, "has 999 bytes of", 1),
        ((200, {}, SMALL + b"x"), Corrupt, "has 1001 bytes of", 1),
        ((200, {}, b"x" * len(SMALL)), Corrupt, "content has digest", 1),
    ],
)
async def test_an_answer_that_does_not_help_is_an_error_in_words(
    client: Client,
    answer: tuple[int, dict[str, str], bytes],
    error: type[GlassdockError],
    words: str,
    requests: int,
) -> None:
    app, asked = answering_blob(answer)
    async with serving(app) as address:
        with pytest.raises(error, match=words):
            await fetched(client, Reference.parse(f"{address}/app"), SMALL_DESCRIPTOR)
    assert len(asked) == requests


async def test_a_registry_without_ranges_is_read_again_and_a_wrong_range_is_refused(client: Client) -> None:
    for status, headers, expected in (
        (200, {}, SMALL),
        (206, {"Content-Range": "bytes 0-999/1000"}, None),
    ):
        asked = 0

        async def blob(request: web.Request) -> web.StreamResponse:
            nonlocal asked
            asked += 1
            if asked > 1:
                return web.Response(status=status, headers=headers, body=SMALL)  # noqa: B023
            response = web.StreamResponse(headers={"Content-Length": str(len(SMALL))})
            await response.prepare(request)
            await response.write(SMALL[:400])
            assert request.transport is not None
            request.transport.abort()
            return response

        app = web.Application()
        app.router.add_get("/v2/{path:.*}", blob)
        async with serving(app) as address:
            reading = fetched(client, Reference.parse(f"{address}/app"), SMALL_DESCRIPTOR)
            if expected is None:
                with pytest.raises(Corrupt, match="sends another part"):
                    await reading
            else:
                assert await reading == expected


async def test_a_blob_of_unknown_size_is_read_to_its_end(client: Client) -> None:
    app, _ = answering_blob((200, {}, SMALL))
    async with serving(app) as address:
        descriptor = Descriptor("x", SMALL_DESCRIPTOR.digest, -1)
        assert await fetched(client, Reference.parse(f"{address}/app"), descriptor) == SMALL


async def test_content_encoding_is_nothing_that_a_digest_knows(client: Client) -> None:
    app, _ = answering_blob((200, {"Content-Encoding": "gzip"}, SMALL))
    async with serving(app) as address:
        assert await fetched(client, Reference.parse(f"{address}/app"), SMALL_DESCRIPTOR) == SMALL


# Lies


MANIFEST = random_image(1).manifest


@pytest.mark.parametrize(
    ("headers", "body", "target", "error", "words"),
    [
        ({"Content-Type": image.OCI_INDEX}, MANIFEST, ":1", Corrupt, "the header says"),
        ({"Docker-Content-Digest": digests.of(b"x")}, MANIFEST, ":1", Corrupt, "content has digest"),
        ({"Docker-Content-Digest": "nonsense"}, MANIFEST, ":1", InvalidParameter, "invalid digest"),
        ({}, MANIFEST + b" ", f"@{digests.of(MANIFEST)}", Corrupt, "content has digest"),
        ({}, b" " * (4 << 20) + MANIFEST, ":1", Corrupt, "more than the 4194304"),
        ({}, b"<html>", ":1", Corrupt, "not valid JSON"),
        ({"Content-Type": image.DOCKER_SCHEMA1}, b'{"schemaVersion": 1}', ":1", NotSupported, "schema 1"),
    ],
)
async def test_a_manifest_is_believed_only_as_far_as_it_fits(
    client: Client, headers: dict[str, str], body: bytes, target: str, error: type[GlassdockError], words: str
) -> None:
    app, _ = answering_blob((200, headers, body))
    async with serving(app) as address:
        with pytest.raises(error, match=words):
            await client.manifest(Reference.parse(f"{address}/app{target}"))


async def test_a_source_that_is_not_as_described_is_not_pushed(client: Client, registry: str, tmp_path: Path) -> None:
    reference = Reference.parse(f"{registry}/app")
    path = tmp_path / "blob"
    for content in (BIG[:-1], BIG + b"x", bytes(len(BIG)), b""):
        path.write_bytes(content)
        with pytest.raises(Corrupt):
            await client.upload_blob(reference, DESCRIPTOR, path)
        with pytest.raises(Corrupt):
            await client.upload_blob(reference, SMALL_DESCRIPTOR, content)
        assert not await client.has_blob(reference, DESCRIPTOR.digest)
    with pytest.raises(FileNotFoundError):
        await client.upload_blob(reference, DESCRIPTOR, tmp_path / "nothing")


async def test_a_manifest_before_its_blobs_is_refused_by_the_registry(client: Client, registry: str) -> None:
    with pytest.raises(GlassdockError, match="unknown"):
        await client.put_manifest(Reference.parse(f"{registry}/app:1"), MANIFEST, image.OCI_MANIFEST)


# Many and large


async def test_many_push_the_same_image_at_once(client: Client, tmp_path: Path) -> None:
    # Not against docker-registry: it reads a manifest while another push of the same one writes it, and refuses it.
    sent = random_image(5, layers=4, size=100_000)
    async with our_registry(tmp_path) as address:
        references = [Reference.parse(f"{address}/team{number % 3}/app:{number}") for number in range(24)]
        await asyncio.gather(*(push(client, reference, sent) for reference in references))
        assert [await pull(client, reference) for reference in references] == [sent] * 24


async def test_a_large_blob_passes_in_little_memory(client: Client, tmp_path: Path) -> None:
    size, path = 192 << 20, tmp_path / "blob"
    state, piece = digests.Verifier("sha256:" + "0" * 64), os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(piece)
            state.update(piece)
    descriptor = Descriptor("x", f"sha256:{state._hash.hexdigest()}", size)
    async with our_registry(tmp_path / "registry") as address:
        reference = Reference.parse(f"{address}/app")
        reset_peak_memory()
        before = peak_memory()
        await client.upload_blob(reference, descriptor, path)
        received = 0
        async for chunk in client.blob(reference, descriptor):
            received += len(chunk)
        assert received == size
        assert peak_memory() - before < 48 << 20  # server and client are both in this process


async def test_the_file_of_a_source_is_read_from_its_beginning_each_time(client: Client, registry: str) -> None:
    file = io.BytesIO(BIG)
    for name in ("one", "two"):
        await client.upload_blob(Reference.parse(f"{registry}/{name}"), DESCRIPTOR, file)
