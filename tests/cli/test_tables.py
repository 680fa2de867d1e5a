"""Lists as Docker prints them."""

from __future__ import annotations

from typing import Any

import pytest

from glassdock.cli.tables import fields, human_age, human_size, lay_out, ports_text, show_rows
from glassdock.client.containers import Rows

CONTAINER: dict[str, Any] = {
    "Id": "0123456789abcdef" * 4,
    "Names": ["/web"],
    "Image": "busybox",
    "Command": "sh -c 'while true; do sleep 1; done'",
    "Created": 0,
    "State": "running",
    "Status": "Up 3 seconds",
    "Ports": [{"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1984000, "1.98MB"),
        (640000, "640kB"),
        (2.5e9, "2.5GB"),
        (5e15, "5000TB"),
    ],
)
def test_sizes_are_decimal_with_three_digits(size: float, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "Less than a second"),
        (1.2, "1 second"),
        (45, "45 seconds"),
        (61, "About a minute"),
        (600, "10 minutes"),
        (3600, "About an hour"),
        (40 * 3600, "40 hours"),
        (3 * 86400, "3 days"),
        (30 * 86400, "4 weeks"),
        (100 * 86400, "3 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_ages_are_dockers_words(seconds: float, text: str) -> None:
    assert human_age(seconds) == text


def test_columns_stand_three_spaces_apart() -> None:
    assert lay_out(("A", "LONGER"), [("wide cell", "x")]) == ["A           LONGER", "wide cell   x"]


def test_ports_are_told_with_their_way_in() -> None:
    assert ports_text([*CONTAINER["Ports"], {"PrivatePort": 90, "Type": "udp"}]) == "127.0.0.1:8080->80/tcp, 90/udp"


def test_an_image_with_two_names_is_two_rows_and_one_without_is_none() -> None:
    named = {"Id": "sha256:" + "a" * 64, "RepoTags": ["web:1", "localhost:5000/web:2"], "Size": 10}
    assert [(r["Repository"], r["Tag"]) for r in fields("image", named)] == [("web", "1"), ("localhost:5000/web", "2")]
    (bare,) = fields("image", {"Id": "sha256:" + "a" * 64, "RepoTags": None, "Size": 10})
    assert (bare["Repository"], bare["Tag"], bare["ID"]) == ("<none>", "<none>", "a" * 12)


@pytest.mark.parametrize(
    ("form", "quiet", "shown"),
    [
        (None, True, "0123456789ab\n"),
        ("{{.Names}}: {{.Status}}", False, "web: Up 3 seconds\n"),
        ("table {{.Names}}\t{{.Image}}", False, "NAMES   IMAGE\nweb     busybox\n"),
    ],
)
def test_a_list_is_printed_as_it_was_asked_for(
    form: str | None, quiet: bool, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_rows(form, quiet=quiet)(Rows("container", (CONTAINER,))) == 0
    assert capsys.readouterr().out == shown


def test_a_long_command_is_cut_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(None)(Rows("container", (CONTAINER,)))
    assert '"sh -c \'while true; …"' in capsys.readouterr().out
    show_rows(None, whole=True)(Rows("container", (CONTAINER,)))
    assert CONTAINER["Command"] in capsys.readouterr().out
