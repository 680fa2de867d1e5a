"""Docker's json-file log: one JSON object a line, `log`, `stream`, perhaps `attrs`, and `time`; it may go in turns.

Interface:
- `JsonLog(path, options)`: `write(stream, data)`, `close()`; `.lost` counts what could not be written.
- `LogOptions`: the size after which a new file begins, how many are kept, whether old ones are compressed, attributes.

Rules: an entry is a line with its newline; a longer one than 16 KiB is split; the rest at the end has no newline.
Bytes that are not UTF-8 become U+FFFD, as Docker does. A full disk loses log entries, never the container. The newest
file has the log's name, the one before it `.1`, and so on; a child of the shim compresses, so that nobody waits.

Source: https://docs.docker.com/engine/logging/drivers/json-file/
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import time
from typing import NoReturn

import msgspec

from glassdock.linux.process import close_range

LONGEST = 16 * 1024
_encode = msgspec.json.Encoder().encode


class LogOptions(msgspec.Struct, frozen=True):
    """How a log is kept: `max_size` in bytes, 0 for no end; `attributes` are in every entry."""

    max_size: int = 0
    max_file: int = 1
    compress: bool = False
    attributes: dict[str, str] = {}


class JsonLog:
    """The log of one container; "" is none."""

    def __init__(self, path: str, options: LogOptions | None = None) -> None:
        self._path = path
        self._options = options or LogOptions()
        self._file = self._open() if path else -1
        self._size = os.fstat(self._file).st_size if path else 0
        self._compressor = 0
        self._partial = {"stdout": bytearray(), "stderr": bytearray()}
        self.lost = 0

    def write(self, stream: str, data: bytes) -> None:
        """Take what the process wrote; whole lines go to the file at once."""
        if self._file < 0:
            return
        buffer = self._partial[stream]
        buffer += data
        entries = []
        while True:
            end = buffer.find(b"\n", 0, LONGEST) + 1
            if not end:
                if len(buffer) < LONGEST:
                    break
                end = LONGEST
            entries.append(bytes(buffer[:end]))
            del buffer[:end]
        self._append(stream, entries)

    def close(self) -> None:
        """Write what is left of the last lines."""
        for stream, buffer in self._partial.items():
            if buffer:
                self._append(stream, [bytes(buffer)])
                buffer.clear()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self, *, empty: bool = False) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if empty else 0)
        return os.open(self._path, flags, 0o640)

    def _append(self, stream: str, entries: list[bytes]) -> None:
        if not entries:
            return
        row: dict[str, object] = {"log": "", "stream": stream}
        if self._options.attributes:
            row["attrs"] = self._options.attributes
        row["time"] = timestamp(time.time_ns())
        lines = [_encode(row | {"log": entry.decode("utf-8", "replace")}) + b"\n" for entry in entries]
        if self._options.max_size:
            for line in lines:
                self._put(line, 1)
        else:
            self._put(b"".join(lines), len(lines))

    def _put(self, text: bytes, entries: int) -> None:
        rest = memoryview(text)
        try:
            if 0 < self._options.max_size <= self._size:
                self._turn()
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self._size += len(text)
        except OSError:
            self.lost += entries

    def _turn(self) -> None:
        """Begin a new file; the oldest one goes."""
        most = self._options.max_file
        if most > 1:
            if self._compressor:
                with contextlib.suppress(ChildProcessError):  # reaped already
                    os.waitpid(self._compressor, 0)
            for suffix in ("", ".gz"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self._path}.{most - 1}{suffix}")
                for number in range(most - 2, 0, -1):
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(f"{self._path}.{number}{suffix}", f"{self._path}.{number + 1}{suffix}")
            os.rename(self._path, f"{self._path}.1")
        fresh = self._open(empty=True)
        os.close(self._file)
        self._file, self._size = fresh, 0
        if most > 1 and self._options.compress:
            self._compressor = os.fork()
            if self._compressor == 0:
                _compress(f"{self._path}.1")


def _compress(path: str) -> NoReturn:
    """Replace a file by its compressed self; a child that nobody hears of."""
    code = 1
    try:
        close_range(3)
        with open(path, "rb") as plain, gzip.open(f"{path}.tmp", "wb", compresslevel=6) as packed:
            shutil.copyfileobj(plain, packed)
        os.chmod(f"{path}.tmp", 0o640)
        os.rename(f"{path}.tmp", f"{path}.gz")
        os.unlink(path)
        code = 0
    finally:
        os._exit(code)


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC with as many digits as it needs, as Go's RFC3339Nano."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"
