"""Credentials and challenges: what is parsed, and what goes to whom in a real exchange."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from glassdock.errors import Forbidden, InvalidParameter, NotFound, Unauthorized, Unavailable
from glassdock.oci.image import Descriptor
from glassdock.oci.reference import Reference
from glassdock.registry.auth import Challenge, Credentials, Grant, TokenRequest, challenges, chosen, merged
from glassdock.registry.client import Client
from glassdock.registry.server import application
from glassdock.registry.storage import Storage
from tests.registry.support import docker_registry, our_registry, pull, push, random_image, serving

ME = Credentials("me", "secret")
IMAGE = random_image(1)
LAYER = next(iter(IMAGE.blobs.items()))
# bcrypt of "secret", as htpasswd -B writes it.
HTPASSWD = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (
            'Bearer realm="https://a.io/token",service="registry.io",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {"realm": "https://a.io/token", "service": "registry.io", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        ('Basic realm="Registry Realm"', [("basic", {"realm": "Registry Realm"})]),
        ("BASIC realm=plain , charset=UTF-8", [("basic", {"realm": "plain", "charset": "UTF-8"})]),
        (
            'Basic realm="a", Bearer realm="b",service=c',
            [("basic", {"realm": "a"}), ("bearer", {"realm": "b", "service": "c"})],
        ),
        (r'Bearer realm="with \"quotes\" and , commas"', [("bearer", {"realm": 'with "quotes" and , commas'})]),
        ("Bearer", [("bearer", {})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("", []),
        ('="', []),
        ('Bearer realm="never closed', [("bearer", {}), ("realm", {}), ("never", {}), ("closed", {})]),
    ],
)
def test_challenges_are_read_from_the_header(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, dict(one.parameters)) for one in challenges([header])] == found


def test_bearer_is_chosen_before_basic_and_basic_needs_somebody() -> None:
    basic, bearer = Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": "https://a/token"})
    assert chosen([basic, bearer], None) == bearer
    assert chosen([basic], ME) == basic
    assert chosen([basic], None) is None
    assert chosen([Challenge("bearer", {})], ME) is None
    assert chosen([Challenge("negotiate", {})], ME) is None


def test_a_token_is_asked_for_with_service_scope_and_account() -> None:
    challenge = Challenge("bearer", {"realm": "https://a/token?x=1", "service": "s", "scope": "repository:a:pull"})
    request = TokenRequest.of(challenge, ["repository:a:pull,push"], ME, secure=True)
    query = request.url.query
    assert request.form is None
    assert (query["x"], query["service"], query.getall("scope")) == ("1", "s", ["repository:a:pull,push"])
    assert (query["account"], request.authorization) == ("me", ME.basic())
    request = TokenRequest.of(challenge, ["repository:a:pull"], None, secure=True)
    assert request.authorization == ""
    assert "account" not in request.url.query
    request = TokenRequest.of(challenge, ["repository:a:pull"], Credentials(identity_token="T"), secure=True)
    assert request.form is not None
    assert (request.form["grant_type"], request.form["refresh_token"]) == ("refresh_token", "T")


@pytest.mark.parametrize(("realm", "secure"), [("http://a/token", True), ("ftp://a/token", False), ("/token", False)])
def test_credentials_do_not_go_to_a_realm_that_is_not_encrypted(realm: str, secure: bool) -> None:
    with pytest.raises(Unavailable):
        TokenRequest.of(Challenge("bearer", {"realm": realm}), [], ME, secure=secure)


def test_scopes_are_asked_for_once() -> None:
    assert merged(["repository:a:pull,push"], ["repository:a:pull"]) == ["repository:a:pull,push"]
    assert merged(["repository:a:pull"], ["repository:a:pull,push"]) == ["repository:a:pull", "repository:a:pull,push"]
    assert merged(["repository:h:5/a:pull"], ["registry:catalog:*"]) == ["repository:h:5/a:pull", "registry:catalog:*"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\r\\nHost: b"}'])
def test_a_token_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(Unauthorized):
        Grant.from_token(body)


def test_a_token_expires() -> None:
    assert Grant.from_token(b'{"token": "a"}').fresh
    assert Grant.from_token(b'{"access_token": "a", "expires_in": 300}').header == "Bearer a"
    assert not Grant("Bearer a", expires=0.0).fresh


def test_the_docker_clients_header_is_read_and_secrets_are_not_printed() -> None:
    def header(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    assert Credentials.from_header("") is None
    assert Credentials.from_header(header({})) is None
    assert Credentials.from_header(header({"serveraddress": "x"})) is None
    assert Credentials.from_header(header({"username": "me", "password": "secret"})) == ME
    assert Credentials.from_header(header({"auth": base64.b64encode(b"me:secret").decode()})) == ME
    assert Credentials.from_header(header({"identitytoken": "T"})) == Credentials(identity_token="T")
    assert "secret" not in repr(ME)
    for wrong in ("!!!", header([]), header({"username": 1})):
        with pytest.raises(InvalidParameter):
            Credentials.from_header(wrong)


async def test_basic_against_our_registry(tmp_path: Path) -> None:
    async with our_registry(tmp_path, {"me": "secret"}) as address:
        await _basic(address)


@pytest.mark.needs("docker-registry")
async def test_basic_against_dockers_registry(tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    more = f"auth: {{htpasswd: {{realm: lab, path: {tmp_path}/htpasswd}}}}\n"
    async with docker_registry(tmp_path / "registry", more) as address:
        await _basic(address)


async def _basic(address: str) -> None:
    reference = Reference.parse(f"{address}/team/app:1")
    client = Client()
    with pytest.raises(Unauthorized) as caught:
        await client.manifest(reference)
    assert caught.value.remedy == f"Run: docker login {address}"
    for digest, data in IMAGE.blobs.items():
        assert not await client.has_blob(reference, digest, credentials=ME)
        await client.upload_blob(reference, _described(digest, data), data, credentials=ME)
    await client.put_manifest(reference, IMAGE.manifest, IMAGE.media_type, credentials=ME)
    assert (await client.manifest(reference, credentials=ME))[1] == IMAGE.manifest
    assert await client.tags(reference, credentials=ME) == ["1"]
    assert await client.login(address, ME)
    assert await client.login(f"http://{address}/v2/", ME)
    assert not await client.login(address, Credentials("me", "wrong"))
    with pytest.raises(Unauthorized):
        await client.manifest(reference, credentials=Credentials("me", "wrong"))
    await client.close()


class TokenServer:
    """A token server that knows `me`, whom it gives everything; others may pull. It keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.address = ""

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/token", self.token)
        app.router.add_post("/token", self.token)
        return app

    async def token(self, request: web.Request) -> web.Response:
        form = parse_qs((await request.read()).decode()) if request.method == "POST" else {}
        query = {name: request.query.getall(name) for name in request.query}
        self.asked.append({"method": [request.method], **query, **form})
        authorization = request.headers.get("Authorization", "")
        known = authorization == ME.basic() or form.get("refresh_token") == ["identity"]
        if authorization and not known:
            return web.json_response({"details": "incorrect username or password"}, status=401)
        wanted = (form or query).get("scope", [])
        allowed = wanted if known else [scope for scope in wanted if scope.endswith(":pull")]
        return web.json_response({"token": "/".join(["token", *" ".join(allowed).split()])})


def token_protected(storage: Storage, realm: str) -> web.Application:
    """Our registry behind tokens, as Docker Hub is: pull and push need their scopes."""
    app = application(storage)

    @web.middleware
    async def check(request: web.Request, handler: object) -> web.StreamResponse:
        repository = request.match_info.get("name", "")
        wanted = "pull" if request.method in ("GET", "HEAD") else "pull,push"
        needed = f"repository:{repository}:{wanted}" if repository else ""
        given = request.headers.get("Authorization", "").split("/", 1)
        granted = given[1] if len(given) > 1 else ""
        if given[0] == "Bearer token" and (not repository or f"repository:{repository}:{wanted}" in granted):
            return await handler(request)  # type: ignore[operator,no-any-return]
        if given[0] == "Bearer token" and f"repository:{repository}:pull,push" in granted:
            return await handler(request)  # type: ignore[operator,no-any-return]
        challenge = f'Bearer realm="{realm}",service="lab"' + (f',scope="{needed}"' if needed else "")
        errors = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
        return web.json_response(errors, status=401, headers={"WWW-Authenticate": challenge})

    app.middlewares.append(check)
    return app


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[tuple[str, TokenServer]]:
    """A registry that wants tokens, and its token server."""
    server = TokenServer()
    async with (
        serving(server.application()) as server.address,
        serving(token_protected(Storage(tmp_path), f"http://{server.address}/token")) as address,
    ):
        yield address, server


async def test_tokens_for_push_and_for_anonymous_pull(hub: tuple[str, TokenServer]) -> None:
    address, server = hub
    reference = Reference.parse(f"{address}/team/app:1")
    client = Client()
    for digest, data in IMAGE.blobs.items():
        await client.upload_blob(reference, _described(digest, data), data, credentials=ME)
    await client.put_manifest(reference, IMAGE.manifest, IMAGE.media_type, credentials=ME)
    assert [one["scope"] for one in server.asked] == [["repository:team/app:pull,push"]]  # one token for all of it
    assert server.asked[0]["account"] == ["me"]
    server.asked.clear()
    assert (await pull(client, reference)).manifest == IMAGE.manifest
    assert [one["scope"] for one in server.asked] == [["repository:team/app:pull"]]
    assert "account" not in server.asked[0]
    await client.close()


async def test_an_identity_token_stands_for_the_user(hub: tuple[str, TokenServer]) -> None:
    address, server = hub
    client = Client()
    reference = Reference.parse(f"{address}/team/app:1")
    who = Credentials(identity_token="identity")
    await client.upload_blob(reference, _described(*LAYER), LAYER[1], credentials=who)
    assert server.asked[0]["method"] == ["POST"]
    assert server.asked[0]["grant_type"] == ["refresh_token"]
    await client.close()


async def test_what_nobody_gave_a_right_to_is_said_in_dockers_words(hub: tuple[str, TokenServer]) -> None:
    address, _ = hub
    reference = Reference.parse(f"{address}/team/app:1")
    client = Client()
    with pytest.raises(Forbidden, match="denied: requested access to the resource is denied"):
        await client.put_manifest(reference, IMAGE.manifest, IMAGE.media_type)
    with pytest.raises(Unauthorized, match="does not accept these credentials: incorrect username or password"):
        await client.manifest(reference, credentials=Credentials("me", "wrong"))
    assert not await client.login(address, Credentials("me", "wrong"))
    assert await client.login(address, ME)
    await client.close()


async def test_a_name_that_is_not_there_reads_as_on_docker_hub() -> None:
    async def nobody(request: web.Request) -> web.Response:
        if request.path == "/token":
            return web.json_response({"token": "x"})
        challenge = f'Bearer realm="http://{request.host}/token",service="s",error="insufficient_scope"'
        errors = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
        return web.json_response(errors, status=401, headers={"WWW-Authenticate": challenge})

    app = web.Application()
    app.router.add_get("/{path:.*}", nobody)
    client = Client()
    async with serving(app) as address:
        with pytest.raises(NotFound) as caught:
            await client.manifest(Reference.parse(f"{address}/nosuch"))
    assert caught.value.message == (
        f"pull access denied for {address}/nosuch, repository does not exist or may require 'docker login': "
        "denied: requested access to the resource is denied"
    )
    await client.close()


@pytest.mark.needs("docker-registry")
async def test_tokens_as_dockers_registry_asks_for_them(tmp_path: Path) -> None:
    # Its "silly" authentication asks as the real one does, and takes any token.
    server = TokenServer()
    async with serving(server.application()) as server.address:
        more = f"auth: {{silly: {{realm: 'http://{server.address}/token', service: lab}}}}\n"
        async with docker_registry(tmp_path, more) as address:
            client = Client()
            reference = Reference.parse(f"{address}/team/app:1")
            await push(client, reference, IMAGE)
            assert (await pull(client, reference)).blobs == IMAGE.blobs
            assert server.asked[0]["service"] == ["lab"]
            assert server.asked[0]["scope"][0] == "repository:team/app:pull,push"
            await client.close()


async def test_authorization_does_not_follow_a_redirect_to_another_host(tmp_path: Path) -> None:
    seen: dict[str, list[str | None]] = {"registry": [], "elsewhere": []}

    async def elsewhere(request: web.Request) -> web.Response:
        seen["elsewhere"].append(request.headers.get("Authorization"))
        assert request.raw_path == "/store?signature=a%2Fb%3D"
        return web.Response(body=LAYER[1])

    store = web.Application()
    store.router.add_get("/store", elsewhere)
    async with serving(store) as other:

        async def registry(request: web.Request) -> web.Response:
            seen["registry"].append(request.headers.get("Authorization"))
            if "Authorization" not in request.headers:
                return web.Response(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
            if request.path.startswith("/v2/"):
                return web.Response(status=307, headers={"Location": "/moved"})
            return web.Response(status=307, headers={"Location": f"http://{other}/store?signature=a%2Fb%3D"})

        app = web.Application()
        app.router.add_get("/{path:.*}", registry)
        async with serving(app) as address:
            client = Client()
            reference = Reference.parse(f"{address}/team/app")
            chunks = [chunk async for chunk in client.blob(reference, _described(*LAYER), credentials=ME)]
            await client.close()
    assert b"".join(chunks) == LAYER[1]
    assert seen == {"registry": [None, ME.basic(), ME.basic()], "elsewhere": [None]}


async def test_credentials_are_not_for_mirrors(tmp_path: Path) -> None:
    seen: list[str | None] = []

    async def mirror(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=401, headers={"WWW-Authenticate": "Basic realm=x"})

    app = web.Application()
    app.router.add_get("/{path:.*}", mirror)
    async with serving(app) as asked, our_registry(tmp_path, {"me": "secret"}) as address:
        client = Client(mirrors={address: [f"http://{asked}"]})
        reference = Reference.parse(f"{address}/app")
        await client.upload_blob(reference, _described(*LAYER), LAYER[1], credentials=ME)
        with pytest.raises(NotFound, match="manifest unknown"):
            await client.manifest(reference, credentials=ME)
        await client.close()
    assert seen == [None]


def _described(digest: str, data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", digest, len(data))
