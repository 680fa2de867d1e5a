"""Reading what the shim wrote: Docker's json-file log, selected and followed.

Interface: `LogQuery`, `async for entry in read(path, query, running)`.

Rules: the files are read, also those that had their turn, compressed or not; the container never is: logs work after
its end, and a slow reader slows nobody down.

Source: https://docs.docker.com/engine/logging/drivers/json-file/
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gzip
import itertools
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote_plus

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
    details: bool = False


class Entry(msgspec.Struct, frozen=True):
    """One line of the file; `log` keeps its newline, `time` is RFC 3339 with nanoseconds."""

    log: str
    stream: str
    time: str
    attrs: dict[str, str] = {}

    def text(self, query: LogQuery) -> bytes:
        """The line as a client prints it."""
        line = self.log.encode("utf-8", "surrogateescape")
        if query.details:
            pairs = sorted(f"{quote_plus(name)}={quote_plus(value)}" for name, value in self.attrs.items())
            line = ",".join(pairs).encode() + b" " + line
        return self.time.encode() + b" " + line if query.timestamps else line


async def read(path: Path, query: LogQuery, running: Callable[[], bool]) -> AsyncIterator[Entry]:
    """Yield the lines that `query` selects; with `follow`, until the container has ended."""
    try:
        file: BinaryIO = path.open("rb")
    except FileNotFoundError:
        return
    try:
        for entry in _tail(itertools.chain(_older(path, file), _entries(file)), query):
            yield entry
        while query.follow:
            alive = running()
            newer = _newer(path, file)  # asked first: what is written before a turn is in the old file
            fresh = False
            for entry in _entries(file):
                if _selected(entry, query):
                    fresh = True
                    yield entry
            if newer is not None:
                file.close()
                file = newer
                continue
            if not alive and not fresh:
                return
            if query.until and query.until < dt.datetime.now(dt.UTC).timestamp():
                return
            await asyncio.sleep(_POLL)
    finally:
        file.close()


def _older(path: Path, newest: BinaryIO) -> Iterator[Entry]:
    """The entries of the files before the newest, oldest first; one that goes meanwhile is gone."""
    files: list[BinaryIO] = []
    try:
        for number in itertools.count(1):
            found = _open(Path(f"{path}.{number}"))
            if found is None:
                break
            if os.fstat(found.fileno()).st_ino == os.fstat(newest.fileno()).st_ino:
                found.close()  # it had its turn since it was opened
            else:
                files.append(found)
        for file in reversed(files):
            yield from _entries(file)
    finally:
        for file in files:
            file.close()


def _open(path: Path) -> BinaryIO | None:
    with contextlib.suppress(FileNotFoundError):
        return path.open("rb")
    with contextlib.suppress(FileNotFoundError):
        return cast(BinaryIO, gzip.open(f"{path}.gz", "rb"))
    return None


def _newer(path: Path, file: BinaryIO) -> BinaryIO | None:
    """The file that was begun after this one, if there is one: the newest, where this one is not there any more."""
    place, last = os.fstat(file.fileno()), path
    for number in itertools.count(0):
        candidate = Path(f"{path}.{number}") if number else path
        try:
            found = candidate.stat()
        except FileNotFoundError:
            break
        if found.st_ino == place.st_ino:
            if not number and found.st_size < file.tell():
                file.seek(0)  # it was emptied: there is only one
            return _open(last) if number else None
        last = candidate
    return _open(path)


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
