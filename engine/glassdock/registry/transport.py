"""One HTTP request to a registry: who is asked, with which right, and the sentence for what goes wrong.

Interface:
- `Endpoint.of(domain, insecure)`, `Endpoint.mirror(url)`: where requests go, and how it is called in messages.
- `Transport.call(method, url, endpoint, access)`: an open response, after challenge, redirects and retries.
- `refused(...)`, `unreachable(...)`: the errors of errors.py for what a registry or the network said.

Rules: an Authorization header goes to the endpoint's own origin only, whatever a redirect or a Location says. Plain
http is for loopback and for registries that were named insecure; a redirect never leads from https to http. Retried is
what may pass by itself: broken connections, 429 and most of 5xx; a name that does not resolve or a refused connection
is told at once. Proxies are those of the environment, never for loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import random
import re
import urllib.request
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from glassdock import trace
from glassdock.errors import (
    Conflict,
    Forbidden,
    GlassdockError,
    InvalidParameter,
    NotFound,
    Unauthorized,
    Unavailable,
)
from glassdock.oci.reference import DEFAULT_DOMAIN, Reference
from glassdock.registry.auth import Credentials, Grant, TokenRequest, challenges, chosen

Headers = Mapping[str, str]
Body = Callable[[], Any]

ATTEMPTS = 4
_DELAY = 0.2
_LONGEST_WAIT = 10.0
_REDIRECTS = 5
_ERROR_BODY = 64 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_connect=8, sock_read=60)
# After the last byte of a large blob a registry may take minutes to hash and move it.
_SLOW_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_connect=8, sock_read=300)
_HUB = "https://registry-1.docker.io"

# What a server may answer now, and otherwise in a moment.
TRANSIENT = frozenset({429, 500, 502, 503, 504})

# What a connection that was open may break with; it may hold the next time.
BROKEN = (
    aiohttp.ClientPayloadError,
    aiohttp.ClientOSError,
    aiohttp.ServerDisconnectedError,
    ConnectionError,
    TimeoutError,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that is asked: its base URL, and its name in messages."""

    base: URL
    name: str
    is_mirror: bool = False

    @classmethod
    def of(cls, domain: str, insecure: Collection[str] = ()) -> Endpoint:
        """The registry of a reference's domain; plain http on loopback and where it is named insecure.

        Raises InvalidParameter: the grammar of references lets addresses pass that are none.
        """
        if domain == DEFAULT_DOMAIN:
            return cls(URL(_HUB), domain)
        try:
            plain = is_loopback(_checked(URL(f"http://{domain}")).host or "") or domain in insecure
        except ValueError as error:
            raise InvalidParameter(f"{domain} is not the address of a registry: {error}") from error
        return cls(URL(f"{'http' if plain else 'https'}://{domain}"), domain)

    @classmethod
    def mirror(cls, url: str) -> Endpoint:
        """A mirror, by its URL."""
        base = URL(url).origin()
        return cls(base, base.authority, is_mirror=True)

    def url(self, path: str, **query: str) -> URL:
        """A URL below the registry's /v2/."""
        return self.base.with_path(f"/v2/{path}").with_query(query or None)


@dataclass(frozen=True, slots=True)
class Access:
    """With which right a request is made: the scopes it needs, and who makes it."""

    scopes: tuple[str, ...] = ()
    credentials: Credentials | None = None


@dataclass(slots=True)
class Transport:
    """The client's connections, and the grants that worked."""

    _session: aiohttp.ClientSession | None = None
    _grants: dict[tuple[URL, Access], Grant] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def call(
        self,
        method: str,
        url: URL,
        endpoint: Endpoint,
        access: Access,
        *,
        headers: Headers | None = None,
        body: Body | None = None,
        retry: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a request, whatever its status; 401 only where no grant was to be had.

        `body` makes the request's body, once for each time it has to be sent. Raises Unavailable; without `retry`, a
        connection that broke is raised as what it is (BROKEN).
        """
        for attempt in range(ATTEMPTS):
            last = not retry or attempt == ATTEMPTS - 1
            try:
                response = await self._authorized(method, url, endpoint, access, headers or {}, body)
            except aiohttp.ClientConnectorError as error:
                raise unreachable(endpoint, error) from error
            except BROKEN as error:
                if not retry:
                    raise
                if last or isinstance(error, aiohttp.ConnectionTimeoutError):
                    raise unreachable(endpoint, error) from error
                await asyncio.sleep(pause(attempt))
                continue
            except (aiohttp.ClientError, ValueError) as error:
                raise unreachable(endpoint, error) from error
            if response.status in TRANSIENT and not last:
                wait = pause(attempt, response.headers.get("Retry-After"))
                if wait <= _LONGEST_WAIT:
                    response.release()
                    await asyncio.sleep(wait)
                    continue
            async with response:
                yield response
            return

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _authorized(
        self, method: str, url: URL, endpoint: Endpoint, access: Access, headers: Headers, body: Body | None
    ) -> aiohttp.ClientResponse:
        """The response with the grant that we have, or with a new one if the registry asks for it."""
        key = (endpoint.base, access)
        grant = self._grants.get(key)
        if grant is not None and not grant.fresh:
            grant = None
        response = await self._redirected(method, url, endpoint, headers, grant, body)
        if response.status != 401:
            return response
        challenge = chosen(challenges(response.headers.getall("WWW-Authenticate", [])), access.credentials)
        if challenge is None:
            return response
        await response.read()
        if challenge.scheme == "basic":
            assert access.credentials is not None
            answer = Grant(access.credentials.basic())
        elif access.credentials is not None and access.credentials.registry_token:
            answer = Grant(f"Bearer {access.credentials.registry_token}")
        else:
            secure = endpoint.base.scheme == "https"
            request = TokenRequest.of(challenge, access.scopes, access.credentials, secure=secure)
            answer = await self._token(request, endpoint)
        response = await self._redirected(method, url, endpoint, headers, answer, body)
        if response.status != 401:
            self._grants[key] = answer
        else:
            self._grants.pop(key, None)
        return response

    async def _token(self, request: TokenRequest, endpoint: Endpoint) -> Grant:
        """Ask the token server. Raises Unauthorized where it refuses."""
        headers = {"Authorization": request.authorization} if request.authorization else {}
        method = "GET" if request.form is None else "POST"
        with trace.span("registry.token", server=request.url.host):
            async with await self._send(method, request.url, headers, request.form) as response:
                body = await read_limited(response, _ERROR_BODY * 4)
                if response.status == 200:
                    return Grant.from_token(body)
                if response.status in (400, 401, 403):
                    raise Unauthorized(
                        f"{endpoint.name} does not accept these credentials: {first_error(body) or response.status}",
                        f"Log in again: docker login {endpoint.name}",
                    )
                raise Unavailable(f"the token server of {endpoint.name} answers {response.status}")

    async def _redirected(
        self, method: str, url: URL, endpoint: Endpoint, headers: Headers, grant: Grant | None, body: Body | None
    ) -> aiohttp.ClientResponse:
        """The response after redirects; what is not safe to repeat elsewhere is not redirected."""
        for _ in range(_REDIRECTS + 1):
            sent = dict(headers)
            if grant is not None and url.origin() == endpoint.base.origin():
                sent["Authorization"] = grant.header
            response = await self._send(method, url, sent, body() if body else None)
            follow = response.status in (307, 308) or (response.status in (301, 302, 303) and method in ("GET", "HEAD"))
            if not follow or body is not None or "Location" not in response.headers:
                return response
            url = followed(response, response.headers["Location"], endpoint)
            response.release()
        raise Unavailable(f"{endpoint.name} redirects in a circle")

    async def _send(self, method: str, url: URL, headers: Headers, data: Any) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A blob is the bytes that its digest says: nothing on the way may unpack it.
                auto_decompress=False,
                headers={"User-Agent": "glassdock", "Accept-Encoding": "identity"},
                read_bufsize=1 << 18,
            )
        timeout = _TIMEOUT if data is None else _SLOW_TIMEOUT
        return await self._session.request(
            method, url, headers=headers, data=data, allow_redirects=False, proxy=_proxy(url), timeout=timeout
        )


def is_loopback(host: str) -> bool:
    """True for localhost and the addresses of loopback, which plain http cannot leave."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def pause(attempt: int, retry_after: str | None = None) -> float:
    """Seconds before the next attempt: what the server asked for, else longer each time, never all clients at once."""
    if retry_after is not None and re.fullmatch(r"[0-9]{1,9}", retry_after):
        return float(retry_after)
    return _DELAY * 3.0**attempt * random.uniform(0.7, 1.3)  # noqa: S311 (no secret)


def followed(response: aiohttp.ClientResponse, location: str, endpoint: Endpoint) -> URL:
    """Where a response leads to; raises Unavailable for a place that must not be gone to."""
    try:
        target = _checked(response.url.join(URL(location, encoded=True)))
    except ValueError as error:
        raise Unavailable(f"{endpoint.name} leads to an address that is none: {error}") from error
    if target.scheme not in ("http", "https") or (response.url.scheme == "https" and target.scheme == "http"):
        raise Unavailable(f"{endpoint.name} leads to {target.scheme}, which is not encrypted")
    return target


async def read_limited(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, or its first `limit` + 1 bytes where it is longer."""
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > limit:
            break
    return bytes(data[: limit + 1])


def first_error(body: bytes) -> str:
    """A registry's own words, as Docker prints them: `manifest unknown: manifest unknown`; "" where there are none."""
    try:
        document = msgspec.json.decode(body)
        if document.get("errors"):
            error = document["errors"][0]
            code = _printable(error.get("code")).lower().replace("_", " ")
            return ": ".join(part for part in (code, _printable(error.get("message"))) if part)
        return _printable(document.get("details") or document.get("message") or document.get("error"))
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, AttributeError, TypeError, RecursionError):
        return ""  # a proxy's HTML page says nothing to a learner


async def refused(
    response: aiohttp.ClientResponse, endpoint: Endpoint, reference: Reference, doing: str
) -> GlassdockError:
    """The error for a response that is not what was asked for, in Docker's words; `doing` is pull or push."""
    words = first_error(await read_limited(response, _ERROR_BODY))
    name, status = reference.familiar_name(), response.status
    login = "docker login" if endpoint.name == DEFAULT_DOMAIN else f"docker login {endpoint.name}"
    if status == 401 and "bearer" not in response.headers.get("WWW-Authenticate", "").lower():
        return Unauthorized(f"{endpoint.name} wants a login: {words or 'no basic auth credentials'}", f"Run: {login}")
    if status in (401, 403):
        denied = words if words.startswith("denied") else "denied: requested access to the resource is denied"
        if doing == "push":
            return Forbidden(denied, f"Run `{login}`, and push to a repository that is yours; {name} is not.")
        return NotFound(
            f"pull access denied for {name}, repository does not exist or may require 'docker login': {denied}",
            f"Check the name {name}; if it is a private repository, run: {login}",
        )
    if status == 404 and words.startswith("name unknown"):
        return NotFound(f"repository {name} not found: {words}")
    if status == 404 and reference.target:
        return NotFound(f"manifest for {reference.familiar()} not found: {words or 'manifest unknown'}")
    if status == 404:
        return NotFound(f"{endpoint.name} does not have it: {words or 'not found'}")
    if status == 429:
        return Unavailable(
            f"{endpoint.name} limits how often one address may pull: {words or 'toomanyrequests'}",
            f"Wait a while, run `{login}`, or pull from the course's registry.",
        )
    said = words or _printable(response.reason) or "no reason given"
    if status >= 500:
        return Unavailable(f"{endpoint.name} answers {status}: {said}", "Try again later.")
    if status == 409:
        return Conflict(f"{endpoint.name} refuses: {said}")
    return InvalidParameter(f"{endpoint.name} refuses the request ({status}): {said}")


def unreachable(endpoint: Endpoint, error: BaseException) -> Unavailable:
    """The error for a registry that was not reached, or that was lost on the way."""
    host, port = endpoint.base.host, endpoint.base.port
    if isinstance(error, aiohttp.ClientConnectorError):
        host, port = error.host, error.port  # of the server that it redirected us to
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unavailable(
            f"cannot reach {endpoint.name}: the name {host} does not resolve ({error.strerror or 'no answer'})",
            "Check the name and the network; without a network, only the course's registry can be pulled from.",
        )
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError):
        return Unavailable(
            f"cannot trust {endpoint.name}: {error}",
            "Its certificate is not signed by an authority of this machine; plain http is for loopback only.",
        )
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Unavailable(f"cannot reach the proxy for {endpoint.name}: {error.strerror}", "Check $HTTPS_PROXY.")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unavailable(
            f"cannot reach {endpoint.name}: {_reason(error.os_error)} ({host}:{port})",
            "Check that the registry runs and that its address is right.",
        )
    if isinstance(error, TimeoutError):
        return Unavailable(f"{endpoint.name} ({host}:{port}) does not answer", "Check the network, and try again.")
    return Unavailable(
        f"the connection to {endpoint.name} broke: {str(error) or type(error).__name__}",
        "Check the network, and try again.",
    )


def _checked(url: URL) -> URL:
    """The URL; ValueError where its host or port are none, which yarl may tell only later."""
    if ":" in (url.host or ""):
        ipaddress.IPv6Address(url.host)
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError(f"there is no port {url.port}")
    return url


def _printable(words: object) -> str:
    """A stranger's words on their way to somebody's terminal."""
    return "".join(character for character in str(words or "")[:300] if character.isprintable())


def _reason(error: OSError) -> str:
    """The kernel's words; asyncio has its own, which repeat the address."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


def _proxy(url: URL) -> str | None:
    """The environment's proxy for a URL."""
    host = url.host or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(url.scheme)
