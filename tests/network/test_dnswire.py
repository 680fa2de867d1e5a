"""DNS messages: what is read of a question, what is written of an answer, and what is no question at all."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from glassdock.network import dnswire
from tests.network.asking import query, read


def test_a_question_is_read_in_lower_case() -> None:
    asked = dnswire.question(query("Web.Town", dnswire.AAAA, 77))
    assert (asked.id, asked.name, asked.kind) == (77, "web.town", dnswire.AAAA)


def test_answers_carry_the_question_and_the_records() -> None:
    text = query("web")
    asked = dnswire.question(text)
    addresses = [IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3")]
    assert read(dnswire.found(asked, addresses), text) == (0, ["10.0.0.2", "10.0.0.3"])
    assert read(dnswire.found(asked, []), text) == (0, [])
    assert read(dnswire.failed(asked, dnswire.NXDOMAIN), text) == (3, [])
    assert read(dnswire.found(asked, ["web.town"]), text) == (0, ["web.town"])


def test_what_is_too_long_for_a_datagram_is_the_question_with_a_mark() -> None:
    text = query("web")
    long = dnswire.found(dnswire.question(text), [IPv4Address(number) for number in range(40)])
    short = dnswire.shortened(long)
    assert len(long) > dnswire.MOST_OVER_UDP
    assert short[12:] == text[12:]
    assert (short[2] & 0x02, short[6:8]) == (0x02, b"\0\0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        query("web")[:11],
        query("web")[:-1],
        query("web")[:14],
        query("web")[:12] + b"\xc0\x0c\0\1\0\1",  # a pointer in a question
        query("web")[:2] + b"\x81\x80" + query("web")[4:],  # an answer
        query("web")[:4] + b"\0\2" + query("web")[6:],  # two questions
        query("web")[:-1] + b"\3",  # of Chaos
        query("web").replace(b"web", b"\xff\xfe\xfd"),
    ],
)
def test_what_is_no_question_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it, it is dropped
        dnswire.question(data)
