"""Content addresses: `sha256:` and 64 hex digits, computed and checked.

Interface:
- `of(data)`: the digest of bytes.
- `parse(text)`: a checked digest, or InvalidParameter.
- `Verifier(digest, size)`: feed it a stream; `finish()` raises Corrupt unless both fit.

Source: https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from glassdock.errors import Corrupt, InvalidParameter

_FORM = re.compile(r"(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")


def of(data: bytes) -> str:
    """The sha256 digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def parse(text: str) -> str:
    """Return `text` if it is a registered digest; raises InvalidParameter (it is then safe in a file name)."""
    if not _FORM.fullmatch(text):
        raise InvalidParameter(f"invalid digest {text!r}", "A digest is sha256: and 64 lower-case hex digits.")
    return text


def hexdigits(digest: str) -> str:
    """The part after the colon."""
    return digest.partition(":")[2]


@dataclass(slots=True)
class Verifier:
    """Checks a stream against its descriptor; `size` -1 where it is not known."""

    digest: str
    size: int = -1
    seen: int = 0
    _hash: Any = field(init=False)

    def __post_init__(self) -> None:
        self._hash = hashlib.new(parse(self.digest).partition(":")[0])

    def update(self, chunk: bytes) -> None:
        """Count and hash a chunk; raises Corrupt as soon as the stream is too long."""
        self.seen += len(chunk)
        if 0 <= self.size < self.seen:
            raise Corrupt(f"{self.digest} is longer than the {self.size} bytes that its description says")
        self._hash.update(chunk)

    def finish(self) -> None:
        """Raise Corrupt unless size and digest are as described."""
        if self.size >= 0 and self.seen != self.size:
            raise Corrupt(f"{self.digest} has {self.seen} bytes, its description says {self.size}")
        algorithm = self.digest.partition(":")[0]
        actual = f"{algorithm}:{self._hash.hexdigest()}"
        if actual != self.digest:
            raise Corrupt(f"content has digest {actual}, its description says {self.digest}")
