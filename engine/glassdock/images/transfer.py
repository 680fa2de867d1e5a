"""A blob from the network to the disk and, unpacked, into a folder: the event loop receives, a thread does the rest.

Interface:
- `receive(chunks, store, descriptor, folder, run, meter)`: one blob, one pass; returns what was unpacked.
- `reread(path, folder)`: the same for a blob that is here.

Rules: chunks are handed over in pieces of a megabyte, at most eight of them wait. Whichever side fails stops the other;
when `receive` returns or raises, the thread has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from pathlib import Path

from glassdock.errors import Unavailable
from glassdock.images import layer
from glassdock.images.compression import CHUNK
from glassdock.images.layer import Unpacked
from glassdock.images.progress import Meter
from glassdock.images.store import Store
from glassdock.oci.image import Descriptor

_WAITING = 8

Run = Callable[[Callable[[], Unpacked]], Awaitable[Unpacked]]


async def receive(
    chunks: AsyncIterable[bytes], store: Store, descriptor: Descriptor, folder: Path | None, run: Run, meter: Meter
) -> Unpacked:
    """Store the blob and unpack it into `folder` (None: read it only). `run` calls a function in a thread.

    Raises what the chunks raise; Corrupt, StorageFull.
    """
    handover = _Handover(asyncio.get_running_loop())
    writing = asyncio.ensure_future(run(lambda: _write(handover, store, descriptor, folder)))
    writing.add_done_callback(lambda _: handover.room.release())
    try:
        buffer = bytearray()
        async for chunk in chunks:
            buffer += chunk
            meter.add(len(chunk))
            if len(buffer) >= CHUNK:
                await handover.put(bytes(buffer))
                buffer.clear()
            if writing.done():
                break  # it has failed, and says below why
        await handover.put(bytes(buffer))
        handover.end()
    except BaseException:
        handover.abort()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await asyncio.shield(writing)
        raise
    return await asyncio.shield(writing)


def reread(path: Path, folder: Path | None) -> Unpacked:
    """Unpack a blob that is here into `folder` (None: read it only)."""
    with path.open("rb") as file:
        chunks = iter(lambda: file.read(CHUNK), b"")
        return layer.unpack(chunks, folder) if folder is not None else layer.scan(chunks)


def _write(handover: _Handover, store: Store, descriptor: Descriptor, folder: Path | None) -> Unpacked:
    with store.ingest(descriptor.digest, descriptor.size) as writer:

        def passing() -> Iterator[bytes]:
            for chunk in handover:
                writer.write(chunk)
                yield chunk

        chunks = passing()
        unpacked = layer.unpack(chunks, folder) if folder is not None else layer.scan(chunks)
        for _ in chunks:
            pass  # what follows the compressed stream belongs to the blob
    return unpacked


class _Handover:
    """Chunks from the event loop's thread to another."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.room = asyncio.Semaphore(_WAITING)
        self._loop = loop
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    async def put(self, chunk: bytes) -> None:
        if chunk:
            await self.room.acquire()
            self._queue.put(chunk)

    def end(self) -> None:
        self._queue.put(b"")

    def abort(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while (chunk := self._queue.get()) != b"":
            if chunk is None:
                raise Unavailable("the transfer was broken off")
            yield chunk
            self._loop.call_soon_threadsafe(self.room.release)
