"""From us to a registry: one blob, in one PUT where it is small, else as a stream that goes on where it broke.

Interface: `upload(connection, endpoint, access, reference, descriptor, source, progress)`.

    POST  /v2/NAME/blobs/uploads/     → 202, Location: where the upload goes on
    PATCH <Location>                  → 202, the bytes         (a small blob skips this)
    PUT   <Location>?digest=…         → 201, the blob is there

Rules: a Location is used as it was given, and gets our Authorization only if it is on the registry itself. The source
is checked against its descriptor while it is sent: a layer that changed on disk is not pushed under its old name.
Source: distribution-spec 1.1, "Pushing blobs".
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import aiohttp
from yarl import URL

from glassdock.errors import Corrupt, GlassdockError, InvalidParameter, NotFound, Unavailable
from glassdock.oci import digest as digests
from glassdock.oci.image import Descriptor
from glassdock.oci.reference import Reference
from glassdock.registry import transport
from glassdock.registry.transport import BROKEN, Access, Endpoint, Transport

# What the bytes come from. All but an iterable can be sent again after a broken connection.
Source = Path | bytes | BinaryIO | AsyncIterable[bytes]

CHUNK = 1 << 20
_REFUSED = (InvalidParameter, NotFound)


@dataclass(slots=True)
class Upload:
    """One blob on its way."""

    connection: Transport
    endpoint: Endpoint
    access: Access
    reference: Reference
    descriptor: Descriptor
    source: Source
    progress: Callable[[int], None] | None = None
    resumed: bool = False
    _file: BinaryIO | None = None
    _reading: threading.Lock = field(default_factory=threading.Lock)

    async def run(self) -> None:
        """Send it all; raises Corrupt, Forbidden, Unauthorized, Unavailable, and OSError where the source does."""
        with contextlib.ExitStack() as opened:
            if isinstance(self.source, Path):
                self._file = opened.enter_context(self.source.open("rb"))
            elif not isinstance(self.source, bytes | AsyncIterable):
                self._file = self.source
            await self._run()

    async def _run(self) -> None:
        for attempt in range(transport.ATTEMPTS):
            location = await self._start()
            try:
                if self.descriptor.size <= CHUNK or not self._repeatable:
                    await self._finish(location, whole=True)
                else:
                    await self._finish(await self._stream(location), whole=False)
                return
            except BaseException as error:
                await cancel(self.connection, self.endpoint, self.access, location)
                if attempt == transport.ATTEMPTS - 1 or not self._again(error):
                    if isinstance(error, BROKEN):
                        raise transport.unreachable(self.endpoint, error) from error
                    raise
                await asyncio.sleep(transport.pause(attempt))

    def _again(self, error: BaseException) -> bool:
        """True where it makes sense to begin anew.

        A resumed upload may be refused at its end: Docker's registry can tell an offset while it still writes what it
        had received before the connection broke.
        """
        resumed, self.resumed = self.resumed, False
        return self._repeatable and (isinstance(error, BROKEN) or (resumed and isinstance(error, _REFUSED)))

    async def _start(self) -> URL:
        """Begin the upload; gives its location."""
        url = self.endpoint.url(f"{self.reference.path}/blobs/uploads/")
        async with self.connection.call("POST", url, self.endpoint, self.access) as response:
            if response.status != 202:
                raise await transport.refused(response, self.endpoint, self.reference.repository(), "push")
            return location_of(response, self.endpoint)

    @property
    def _repeatable(self) -> bool:
        return not isinstance(self.source, AsyncIterable)

    async def _stream(self, location: URL) -> URL:
        """PATCH until all has arrived; gives the location for the closing PUT."""
        offset, attempt = 0, 0
        while True:
            headers = {"Content-Length": str(self.descriptor.size - offset), "Content-Type": "application/octet-stream"}
            if offset:
                headers["Content-Range"] = f"{offset}-{self.descriptor.size - 1}"
            try:
                async with self._send("PATCH", location, headers, offset) as response:
                    if response.status in (202, 204):
                        return location_of(response, self.endpoint, location)
                    refusal = await transport.refused(response, self.endpoint, self.reference.repository(), "push")
                    if attempt >= transport.ATTEMPTS or response.status not in {416, *transport.TRANSIENT}:
                        raise refusal
            except BROKEN as error:
                if attempt >= transport.ATTEMPTS:
                    raise transport.unreachable(self.endpoint, error) from error
            await asyncio.sleep(transport.pause(attempt))
            location, arrived = await self._status(location)
            self.resumed = True
            attempt = 0 if arrived > offset else attempt + 1
            offset = arrived

    async def _status(self, location: URL) -> tuple[URL, int]:
        """Where the upload goes on, and how many bytes have arrived."""
        async with self.connection.call("GET", location, self.endpoint, self.access) as response:
            if response.status != 204:
                raise await transport.refused(response, self.endpoint, self.reference.repository(), "push")
            match = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", response.headers.get("Range", ""))
            # 0-0 is one byte or none; sending the first one twice would be told by the registry with 416.
            last = int(match[1]) if match else 0
            return location_of(response, self.endpoint, location), last + 1 if last else 0

    async def _finish(self, location: URL, *, whole: bool) -> None:
        """PUT: with all of the bytes, or none."""
        mark = "&" if location.raw_query_string else "?"
        url = URL(f"{location}{mark}digest={quote(self.descriptor.digest, safe='')}", encoded=True)
        length = self.descriptor.size if whole else 0
        headers = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
        async with self._send("PUT", url, headers, 0 if whole else self.descriptor.size) as response:
            if response.status not in (201, 202, 204):
                raise await transport.refused(response, self.endpoint, self.reference.repository(), "push")

    @contextlib.asynccontextmanager
    async def _send(
        self, method: str, url: URL, headers: dict[str, str], offset: int
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A request with the source's bytes from `offset` on; a fault of the source is raised as itself."""
        failures: list[Exception] = []
        body = functools.partial(self._checked, offset, failures)
        call = self.connection.call(method, url, self.endpoint, self.access, headers=headers, body=body, retry=False)
        try:
            async with call as response:
                yield response
        except Exception:
            if failures:
                raise failures[0] from None
            raise

    async def _checked(self, offset: int, failures: list[Exception]) -> AsyncIterator[bytes]:
        """The source's bytes from `offset` on, verified from its beginning."""
        verifier = digests.Verifier(self.descriptor.digest, self.descriptor.size)
        try:
            if offset < self.descriptor.size or self.descriptor.size == 0:
                async for chunk in self._chunks():
                    before = verifier.seen
                    verifier.update(chunk)
                    if verifier.seen > offset:
                        yield chunk[max(offset - before, 0) :]
                        if self.progress is not None:
                            self.progress(verifier.seen)
                verifier.finish()
        except (Corrupt, OSError) as error:
            failures.append(error)
            raise

    async def _chunks(self) -> AsyncIterator[bytes]:
        if isinstance(self.source, bytes):
            yield self.source
        elif isinstance(self.source, AsyncIterable):
            async for chunk in self.source:
                yield chunk
        else:
            position = 0
            while chunk := await asyncio.to_thread(self._read, position):
                yield chunk
                position += len(chunk)

    def _read(self, position: int) -> bytes:
        # The request that broke may still read while the next one does: each says where.
        assert self._file is not None
        with self._reading:
            self._file.seek(position)
            return self._file.read(CHUNK)


async def cancel(connection: Transport, endpoint: Endpoint, access: Access, location: URL) -> None:
    """Tell the registry that an upload will not go on; what it thinks of that does not matter."""
    with contextlib.suppress(GlassdockError, *BROKEN):
        async with asyncio.timeout(5), connection.call("DELETE", location, endpoint, access, retry=False):
            return


def location_of(response: aiohttp.ClientResponse, endpoint: Endpoint, before: URL | None = None) -> URL:
    """Where an upload goes on; a registry that forgets to say it means the same place as `before`."""
    stated = response.headers.get("Location")
    if stated is None and before is not None:
        return before
    if stated is None:
        raise Unavailable(f"{endpoint.name} does not say where the upload goes on")
    return transport.followed(response, stated, endpoint)
