"""TLS: a certificate that nobody vouches for is refused in words, and nothing leads from https to http."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from glassdock.errors import Unavailable
from glassdock.oci import digest as digests
from glassdock.oci.image import Descriptor
from glassdock.oci.reference import Reference
from glassdock.registry import transport
from glassdock.registry.auth import Credentials
from glassdock.registry.client import Client
from glassdock.registry.transport import Endpoint
from tests.registry.support import serving

pytestmark = pytest.mark.needs("openssl")

BLOB = b"content"
DESCRIPTOR = Descriptor("x", digests.of(BLOB), len(BLOB))


@contextlib.asynccontextmanager
async def serving_tls(app: web.Application, folder: Path) -> AsyncIterator[str]:
    """Serve over TLS with a certificate of our own; gives host:port."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def as_https(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is spoken to over https, as another machine would be."""
    monkeypatch.setattr(Endpoint, "of", lambda domain, insecure=(): Endpoint(URL(f"https://{domain}"), domain))


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The client trusts the test's own certificate."""

    async def send(self: transport.Transport, method: str, url: URL, headers: dict[str, str], data: object) -> object:
        if self._session is None:
            context = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
        return await self._session.request(method, url, headers=headers, data=data, allow_redirects=False)

    monkeypatch.setattr(transport.Transport, "_send", send)


@pytest.mark.usefixtures("as_https")
async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async with serving_tls(web.Application(), tmp_path) as address, Client() as client:
        with pytest.raises(Unavailable) as caught:
            await client.manifest(Reference.parse(f"{address}/app"))
    assert caught.value.message.startswith(f"cannot trust {address}: ")
    assert "certificate" in caught.value.message
    assert caught.value.remedy


@pytest.mark.usefixtures("as_https")
async def test_a_server_that_speaks_no_tls_is_told() -> None:
    async with serving(web.Application()) as address, Client() as client:
        with pytest.raises(Unavailable, match=f"cannot .* {address}"):
            await client.manifest(Reference.parse(f"{address}/app"))


@pytest.mark.usefixtures("as_https", "trusting")
async def test_nothing_leads_from_https_to_http(tmp_path: Path) -> None:
    asked: list[str] = []

    async def plain(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"token": "x"})

    other = web.Application()
    other.router.add_route("*", "/{path:.*}", plain)
    async with serving(other) as somewhere:

        async def secure(request: web.Request) -> web.Response:
            if request.method == "POST":
                return web.Response(status=202, headers={"Location": f"http://{somewhere}/upload"})
            if request.path.endswith("/tags/list"):
                challenge = f'Bearer realm="http://{somewhere}/token",service="x"'
                return web.Response(status=401, headers={"WWW-Authenticate": challenge})
            return web.Response(status=307, headers={"Location": f"http://{somewhere}/blob"})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", secure)
        async with serving_tls(app, tmp_path) as address, Client() as client:
            reference, me = Reference.parse(f"{address}/app"), Credentials("me", "secret")
            with pytest.raises(Unavailable, match="leads to http, which is not encrypted"):
                [chunk async for chunk in client.blob(reference, DESCRIPTOR)]
            with pytest.raises(Unavailable, match="leads to http, which is not encrypted"):
                await client.upload_blob(reference, DESCRIPTOR, BLOB)
            with pytest.raises(Unavailable, match="as its token server, which is not encrypted"):
                await client.tags(reference, credentials=me)
    assert asked == []
