"""Reading what the shim wrote: Docker's json-file log, selected and followed.

Interface: `LogQuery`, `async for entry in read(path, query, running)`.

Rules: the file is read, never the container: logs work after its end, and a slow reader slows nobody down.

Source: https://docs.docker.com/engine/logging/drivers/json-file/
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

_POLL = 0.05  # seconds between looks at a log that is followed


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines: `tail` -1 is all, times are Unix seconds (0 = no bound)."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int = -1
    since: float = 0.0
    until: float = 0.0
    timestamps: bool = False


class Entry(msgspec.Struct, frozen=True):
    """One line of the file; `log` keeps its newline, `time` is RFC 3339 with nanoseconds."""

    log: str
    stream: str
    time: str

    def text(self, timestamps: bool) -> bytes:
        """The line as a client prints it."""
        line = self.log.encode("utf-8", "surrogateescape")
        return self.time.encode() + b" " + line if timestamps else line


async def read(path: Path, query: LogQuery, running: Callable[[], bool]) -> AsyncIterator[Entry]:
    """Yield the lines that `query` selects; with `follow`, until the container has ended."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for entry in _tail(_entries(file), query):
            yield entry
        while query.follow:
            alive = running()
            fresh = False
            for entry in _entries(file):
                if _selected(entry, query):
                    fresh = True
                    yield entry
            if not alive and not fresh:
                return
            if query.until and query.until < dt.datetime.now(dt.UTC).timestamp():
                return
            await asyncio.sleep(_POLL)


def _entries(file: BinaryIO) -> Iterator[Entry]:
    decoder = msgspec.json.Decoder(Entry)
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):  # half a line: the shim is still writing it
            file.seek(start)
            return
        yield decoder.decode(line)


def _tail(entries: Iterator[Entry], query: LogQuery) -> Iterator[Entry]:
    chosen = (entry for entry in entries if _selected(entry, query))
    return iter(deque(chosen, maxlen=query.tail)) if query.tail >= 0 else chosen


def _selected(entry: Entry, query: LogQuery) -> bool:
    if not (query.stdout if entry.stream == "stdout" else query.stderr):
        return False
    if not query.since and not query.until:
        return True
    at = dt.datetime.fromisoformat(entry.time[:26].rstrip("Z")).replace(tzinfo=dt.UTC).timestamp()
    return query.since <= at and (not query.until or at <= query.until)
