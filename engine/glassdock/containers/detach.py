"""Detach keys: what a person types to leave a container's terminal without ending it.

Interface:
- `parse(text)`: "ctrl-p,ctrl-q" as bytes; "" is the default. Raises InvalidParameter.
- `Watch(keys)`: `feed(data)` → (what goes on to the container, whether the keys were typed).

Rules: the keys may arrive in pieces. The first of them are held back until it is clear that they were not meant; then
they go on, in order. The keys themselves never arrive.

Source: https://docs.docker.com/reference/cli/docker/container/attach/#detach-keys
"""

from __future__ import annotations

from glassdock.errors import InvalidParameter

DEFAULT = "ctrl-p,ctrl-q"
_OTHERS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str) -> bytes:
    """One byte a key."""
    return bytes(_key(word, text) for word in (text or DEFAULT).split(","))


def _key(word: str, text: str) -> int:
    if len(word) == 1 and word.isascii():
        return ord(word)
    name = word.lower().removeprefix("ctrl-")
    if len(name) == 1 and len(word) == 6 and "a" <= name <= "z":
        return ord(name) - ord("a") + 1
    if len(word) == 6 and name in _OTHERS:
        return _OTHERS[name]
    raise InvalidParameter(f"Invalid detach keys ({text}) provided", "Write letters and ctrl-LETTER with commas.")


class Watch:
    """Looks for the keys in what one client types."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What goes on, and whether this is the end of it."""
        whole = self._held + data
        self._held = b""
        place = whole.find(self._keys)
        if place >= 0:
            return whole[:place], True
        for length in range(min(len(self._keys) - 1, len(whole)), 0, -1):
            if whole.endswith(self._keys[:length]):
                self._held = whole[len(whole) - length :]
                return whole[: len(whole) - length], False
        return whole, False
