"""Docker's json-file log: one JSON object a line, `log`, `stream` and `time`.

Interface: `JsonLog(path)`: `write(stream, data)`, `close()`; `.lost` counts what could not be written.

Rules: an entry is a line with its newline; a longer one than 16 KiB is split; the rest at the end has no newline.
Bytes that are not UTF-8 become U+FFFD, as Docker does. A full disk loses log entries, never the container.

Source: https://docs.docker.com/engine/logging/drivers/json-file/
"""

from __future__ import annotations

import os
import time

import msgspec

LONGEST = 16 * 1024
_encode = msgspec.json.Encoder().encode


class JsonLog:
    """The log of one container; "" is none."""

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o640) if path else -1
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

    def _append(self, stream: str, entries: list[bytes]) -> None:
        if not entries:
            return
        moment = timestamp(time.time_ns())
        lines = [
            _encode({"log": entry.decode("utf-8", "replace"), "stream": stream, "time": moment}) for entry in entries
        ]
        text = memoryview(b"\n".join(lines) + b"\n")
        try:
            while text:
                text = text[os.write(self._file, text) :]
        except OSError:
            self.lost += len(entries)


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC with as many digits as it needs, as Go's RFC3339Nano."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"
