"""Detach keys: what is a key, and which bytes go on."""

from __future__ import annotations

import pytest

from glassdock.containers.detach import Watch, parse
from glassdock.errors import InvalidParameter


def test_keys_are_letters_and_controls() -> None:
    assert parse("") == b"\x10\x11"
    assert parse("ctrl-a,d") == b"\x01d"
    assert parse("ctrl-[,ctrl-@,ctrl-\\,ctrl-_,^") == b"\x1b\x00\x1c\x1f^"


@pytest.mark.parametrize("text", ["ctrl-", "ab", "ctrl-ab", "a,,b", "alt-a", "ctrl-1"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid detach keys"):
        parse(text)


def test_the_keys_are_found_in_pieces_and_never_go_on() -> None:
    watch = Watch(parse(""))
    assert watch.feed(b"ls\x10") == (b"ls", False)
    assert watch.feed(b"\x11rest") == (b"", True)


def test_what_only_began_like_the_keys_goes_on_in_order() -> None:
    watch = Watch(b"\x10\x11")
    assert watch.feed(b"a\x10") == (b"a", False)
    assert watch.feed(b"\x10") == (b"\x10", False)
    assert watch.feed(b"b") == (b"\x10b", False)
