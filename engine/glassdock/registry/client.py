"""The engine's side of a registry: manifests and blobs, fetched and sent, each byte checked.

Interface:
- `Client(mirrors={"docker.io": ["http://127.0.0.1:5000"]}, insecure=())`; `close()` at the end, or `async with`.
- Pull: `manifest(reference)`, `blob(reference, descriptor)`, `tags(reference)`.
- Push: `has_blob`, `mount_blob`, `upload_blob`, `put_manifest`; always to the reference's own registry.
- `login(domain, credentials)`: whether a registry takes them.

Rules: a pull asks the mirrors of the domain first and goes on quietly where one is down or lacks it; if all fail, the
error says who was asked. Credentials are for the reference's own registry, never for a mirror. A blob that breaks off
is resumed where it broke; an upload too. Digest and size are checked while the bytes pass: a reader of `blob` must not
use what it got before the iteration has ended.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md (1.1)
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Self

import aiohttp
import msgspec
from yarl import URL

from glassdock import trace
from glassdock.errors import Corrupt, GlassdockError, NotFound, Unauthorized
from glassdock.oci import digest as digests
from glassdock.oci.image import Descriptor
from glassdock.oci.reference import DEFAULT_DOMAIN, Reference, is_tag
from glassdock.registry import manifest as manifests
from glassdock.registry import receiving, transport
from glassdock.registry.auth import Credentials, repository_scope
from glassdock.registry.sending import Source, Upload, cancel, location_of
from glassdock.registry.transport import Access, Endpoint, Transport

_PAGES = 1000
_HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io", DEFAULT_DOMAIN})


class Client:
    """A client of all registries; use it from one event loop."""

    def __init__(self, *, mirrors: Mapping[str, Sequence[str]] | None = None, insecure: Collection[str] = ()) -> None:
        self._mirrors = {domain: [Endpoint.mirror(url) for url in urls] for domain, urls in (mirrors or {}).items()}
        self._insecure = frozenset(insecure)
        self._transport = Transport()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Pull

    async def manifest(
        self, reference: Reference, *, credentials: Credentials | None = None
    ) -> tuple[Descriptor, bytes]:
        """The manifest or index that the reference names: its checked descriptor, and its bytes.

        Raises NotFound, Unauthorized, Unavailable, Corrupt.
        """
        failures: list[tuple[Endpoint, GlassdockError]] = []
        for endpoint in self._endpoints(reference):
            try:
                with trace.span("registry.manifest", reference=reference.familiar(), registry=endpoint.name):
                    access = _access(endpoint, reference, "pull", credentials)
                    return await receiving.manifest(self._transport, endpoint, access, reference)
            except GlassdockError as error:
                failures.append((endpoint, error))
        raise _all_failed(failures)

    async def blob(
        self, reference: Reference, descriptor: Descriptor, *, credentials: Credentials | None = None
    ) -> AsyncGenerator[bytes]:
        """The blob's bytes as they arrive; the iteration ends only if they are what the descriptor says.

        Raises NotFound, Unauthorized, Unavailable; Corrupt where digest or size are others.
        """
        verifier = digests.Verifier(descriptor.digest, descriptor.size)
        failures: list[tuple[Endpoint, GlassdockError]] = []
        for endpoint in self._endpoints(reference):
            try:
                access = _access(endpoint, reference, "pull", credentials)
                async with aclosing(receiving.blob(self._transport, endpoint, access, reference, verifier)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                verifier.finish()
                return
            except Corrupt:
                raise
            except GlassdockError as error:
                failures.append((endpoint, error))
        raise _all_failed(failures)

    async def tags(self, reference: Reference, *, credentials: Credentials | None = None) -> list[str]:
        """The tags of the reference's repository at its own registry."""
        endpoint = Endpoint.of(reference.domain, self._insecure)
        access = _access(endpoint, reference, "pull", credentials)
        url: URL | None = endpoint.url(f"{reference.path}/tags/list")
        found: list[str] = []
        for _ in range(_PAGES):
            if url is None:
                break
            async with self._transport.call("GET", url, endpoint, access) as response:
                if response.status != 200:
                    raise await transport.refused(response, endpoint, reference.repository(), "pull")
                found += _tag_list(await transport.read_limited(response, manifests.LIMIT), endpoint)
                url = _next_page(response, endpoint)
        return found

    # Push

    async def has_blob(self, reference: Reference, digest: str, *, credentials: Credentials | None = None) -> bool:
        """True if the reference's repository holds the blob already."""
        endpoint = Endpoint.of(reference.domain, self._insecure)
        access = _access(endpoint, reference, "pull,push", credentials)
        url = endpoint.url(f"{reference.path}/blobs/{digests.parse(digest)}")
        async with self._transport.call("HEAD", url, endpoint, access) as response:
            if response.status in (200, 404):
                return response.status == 200
            raise await transport.refused(response, endpoint, reference.repository(), "push")

    async def mount_blob(
        self, reference: Reference, digest: str, source: str, *, credentials: Credentials | None = None
    ) -> bool:
        """Let the repository hold a blob of the repository `source` (a path) of the same registry.

        False if that is not to be had, and the blob has to be uploaded.
        """
        endpoint = Endpoint.of(reference.domain, self._insecure)
        scopes = (repository_scope(reference.path, "pull,push"), repository_scope(source, "pull"))
        url = endpoint.url(f"{reference.path}/blobs/uploads/", mount=digests.parse(digest), **{"from": source})
        async with self._transport.call("POST", url, endpoint, Access(scopes, credentials)) as response:
            if response.status == 202 and "Location" in response.headers:
                await cancel(self._transport, endpoint, Access(scopes, credentials), location_of(response, endpoint))
            return response.status == 201

    async def upload_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        source: Source,
        *,
        credentials: Credentials | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Send a blob, whose bytes `source` gives; `progress` hears how many bytes have been sent so far.

        Raises Corrupt where the source is not what the descriptor says; Forbidden, Unauthorized, Unavailable.
        """
        endpoint = Endpoint.of(reference.domain, self._insecure)
        access = _access(endpoint, reference, "pull,push", credentials)
        upload = Upload(self._transport, endpoint, access, reference, descriptor, source, progress)
        with trace.span("registry.upload", digest=descriptor.digest, size=descriptor.size, registry=endpoint.name):
            await upload.run()

    async def put_manifest(
        self, reference: Reference, data: bytes, media_type: str, *, credentials: Credentials | None = None
    ) -> Descriptor:
        """Send a manifest under the reference's digest or tag; what it refers to has to be there already."""
        endpoint = Endpoint.of(reference.domain, self._insecure)
        access = _access(endpoint, reference, "pull,push", credentials)
        url = endpoint.url(f"{reference.path}/manifests/{reference.target}")
        headers = {"Content-Type": media_type}
        with trace.span("registry.put_manifest", reference=reference.familiar(), registry=endpoint.name):
            call = self._transport.call("PUT", url, endpoint, access, headers=headers, body=lambda: io.BytesIO(data))
            async with call as response:
                if response.status not in (200, 201, 202):
                    raise await transport.refused(response, endpoint, reference.repository(), "push")
                receiving.check_header(response, data)
                return Descriptor(media_type, reference.digest or digests.of(data), len(data))

    async def login(self, domain: str, credentials: Credentials) -> bool:
        """True if the registry takes the credentials; raises Unavailable where it does not answer."""
        host = (domain.partition("://")[2] or domain).partition("/")[0]
        endpoint = Endpoint.of(DEFAULT_DOMAIN if host in _HUB_NAMES else host, self._insecure)
        access = Access((), credentials)
        try:
            async with self._transport.call("GET", endpoint.url(""), endpoint, access) as response:
                if response.status in (200, 401, 403):
                    return response.status == 200
                raise await transport.refused(response, endpoint, Reference(host, ""), "pull")
        except Unauthorized:
            return False

    def _endpoints(self, reference: Reference) -> list[Endpoint]:
        """Who is asked for what the reference names, in this order."""
        return [*self._mirrors.get(reference.domain, ()), Endpoint.of(reference.domain, self._insecure)]


def _access(endpoint: Endpoint, reference: Reference, actions: str, credentials: Credentials | None) -> Access:
    scope = repository_scope(reference.path, actions)
    return Access((scope,), None if endpoint.is_mirror else credentials)


def _all_failed(failures: Sequence[tuple[Endpoint, GlassdockError]]) -> GlassdockError:
    """What the registry itself said, and before it who was asked in vain."""
    *mirrors, (_, error) = failures
    if not mirrors:
        return error
    asked = "; ".join(
        f"{endpoint.name} does not have it" if isinstance(failure, NotFound) else failure.message
        for endpoint, failure in mirrors
    )
    return type(error)(f"{error.message} (asked before: {asked})", error.remedy)


def _tag_list(body: bytes, endpoint: Endpoint) -> list[str]:
    try:
        tags = msgspec.json.decode(body, type=dict[str, str | list[str] | None]).get("tags")
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{endpoint.name} sends a list of tags that cannot be read: {error}") from error
    return [tag for tag in tags if is_tag(tag)] if isinstance(tags, list) else []


def _next_page(response: aiohttp.ClientResponse, endpoint: Endpoint) -> URL | None:
    """The next page of a list (RFC 8288), on the same server."""
    match = re.match(r'\s*<([^>]+)>\s*;[^,]*rel="?next"?', response.headers.get("Link", ""))
    if match is None:
        return None
    url = transport.followed(response, match[1], endpoint)
    return url if url.origin() == response.url.origin() else None
