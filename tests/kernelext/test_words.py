"""A magic's line as words."""

from __future__ import annotations

import pytest

from glassdock.errors import InvalidParameter
from glassdock_jupyter.words import split

NAMES = {"name": "web", "two": ["a", "b c"], "port": 80, "x": "spaces and 'quotes'"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run busybox sh -c 'echo \"hi there\"'", ["run", "busybox", "sh", "-c", 'echo "hi there"']),
        ("run --name {name} x", ["run", "--name", "web", "x"]),
        ("-p {port}:{port}", ["-p", "80:80"]),
        ("echo {x}", ["echo", "spaces and 'quotes'"]),
        ("rm {two}", ["rm", "a", "b c"]),
        ("rm pre-{two}", ["rm", "pre-['a', 'b c']"]),
        ("--format '{{.State.Pid}}'", ["--format", "{{.State.Pid}}"]),
        ("--format '{{ .name }}'", ["--format", "{{ .name }}"]),
        ("sh -c 'echo $HOME ${HOME} ${name}'", ["sh", "-c", "echo $HOME ${HOME} ${name}"]),
        ("awk '{print $1}'", ["awk", "{print $1}"]),
        ("sh -c 'f() { echo; }; f'", ["sh", "-c", "f() { echo; }; f"]),
        ("echo {} {1} {a,b}", ["echo", "{}", "{1}", "{a,b}"]),
        ("", []),
    ],
)
def test_quotes_are_the_shells_and_names_are_pythons(line: str, words: list[str]) -> None:
    assert split(line, NAMES) == words


def test_a_name_that_does_not_exist_is_an_error_that_names_it() -> None:
    with pytest.raises(InvalidParameter, match=r"\{nope\} names no Python variable"):
        split("run {nope}", NAMES)


def test_an_open_quote_is_an_error() -> None:
    with pytest.raises(InvalidParameter, match="no closing quotation"):
        split("run 'x", NAMES)
