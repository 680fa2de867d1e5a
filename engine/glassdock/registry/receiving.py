"""From one registry to us: a manifest in one piece, a blob as a stream that goes on where it broke.

Interface:
- `manifest(...)`: descriptor and bytes, checked against header, document and, where the reference has one, digest.
- `blob(...)`: chunks, through a Verifier that the caller finishes.

Rules: what a registry says in a header is believed only where it agrees with the bytes. A stream that breaks off is
continued with a Range request; a registry that ignores Range sends what we have again, and that is skipped.
Source: distribution-spec 1.1, "Pull".
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator

import aiohttp

from glassdock import trace
from glassdock.errors import Corrupt
from glassdock.oci import digest as digests
from glassdock.oci.image import INDEXES, MANIFESTS, Descriptor
from glassdock.oci.reference import Reference
from glassdock.registry import manifest as manifests
from glassdock.registry import transport
from glassdock.registry.transport import BROKEN, Access, Endpoint, Transport

_ACCEPT = ", ".join(sorted(MANIFESTS | INDEXES))


async def manifest(
    connection: Transport, endpoint: Endpoint, access: Access, reference: Reference
) -> tuple[Descriptor, bytes]:
    """The manifest or index that the reference names at this endpoint."""
    url = endpoint.url(f"{reference.path}/manifests/{reference.target}")
    async with connection.call("GET", url, endpoint, access, headers={"Accept": _ACCEPT}) as response:
        if response.status != 200:
            raise await transport.refused(response, endpoint, reference, "pull")
        try:
            data = await transport.read_limited(response, manifests.LIMIT)
        except BROKEN as error:
            raise transport.unreachable(endpoint, error) from error
        reading = manifests.read(data, response.headers.get("Content-Type", ""))
        verifier = digests.Verifier(reference.digest or digests.of(data))
        verifier.update(data)
        verifier.finish()
        check_header(response, data)
        return Descriptor(reading.media_type, verifier.digest, len(data)), data


async def blob(
    connection: Transport, endpoint: Endpoint, access: Access, reference: Reference, verifier: digests.Verifier
) -> AsyncGenerator[bytes]:
    """What the verifier has not seen yet of its blob."""
    url = endpoint.url(f"{reference.path}/blobs/{verifier.digest}")
    attempt = 0
    while True:
        before = verifier.seen
        headers = {"Range": f"bytes={before}-"} if before else {}
        try:
            async with contextlib.AsyncExitStack() as opened:
                with trace.span("registry.blob", digest=verifier.digest, registry=endpoint.name):
                    call = connection.call("GET", url, endpoint, access, headers=headers)
                    response = await opened.enter_async_context(call)
                skip = await _begin(response, endpoint, reference, verifier)
                async for chunk in response.content.iter_any():
                    fresh = chunk[skip:]
                    skip -= len(chunk) - len(fresh)
                    if fresh:
                        verifier.update(fresh)
                        yield fresh
            if verifier.seen >= verifier.size:
                return
            raise aiohttp.ClientPayloadError("the stream ended early")
        except BROKEN as error:
            attempt = 0 if verifier.seen > before else attempt + 1
            if attempt >= transport.ATTEMPTS:
                raise transport.unreachable(endpoint, error) from error
            await asyncio.sleep(transport.pause(attempt))


async def _begin(
    response: aiohttp.ClientResponse, endpoint: Endpoint, reference: Reference, verifier: digests.Verifier
) -> int:
    """How many bytes of the response we have already; raises what speaks against reading it."""
    if response.status == 206:
        first = re.match(r"bytes ([0-9]{1,18})-", response.headers.get("Content-Range", ""))
        if first is None or int(first[1]) != verifier.seen:
            raise Corrupt(f"{endpoint.name} sends another part of {verifier.digest} than it was asked for")
        offset = verifier.seen
    elif response.status == 200:
        offset = 0
    else:
        raise await transport.refused(response, endpoint, reference.repository(), "pull")
    length = response.content_length
    if verifier.size >= 0 and length is not None and length != verifier.size - offset:
        raise Corrupt(f"{endpoint.name} has {offset + length} bytes of {verifier.digest}, not {verifier.size}")
    return verifier.seen - offset


def check_header(response: aiohttp.ClientResponse, data: bytes) -> None:
    """Raise Corrupt where Docker-Content-Digest is there, and is not the digest of the bytes."""
    stated = response.headers.get("Docker-Content-Digest")
    if stated is not None:
        verifier = digests.Verifier(stated)
        verifier.update(data)
        verifier.finish()
