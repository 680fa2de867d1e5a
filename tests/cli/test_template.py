"""The part of Go's templates that `--format` needs."""

from __future__ import annotations

import pytest

from glassdock.cli.template import render
from glassdock.errors import InvalidParameter

VALUE = {
    "Id": "abc",
    "Running": True,
    "Nothing": None,
    "State": {"Status": "exited", "ExitCode": 3},
    "Env": ["A=1", "B=2"],
    "Labels": {"b": "2", "a": "1"},
    "Mounts": [{"Name": "data"}, {"Name": "logs"}],
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("{{.Id}}", "abc"),
        ("{{ .State.Status }}/{{.State.ExitCode}}", "exited/3"),
        ("{{.Running}}", "true"),
        ("{{.Nothing}}", "<no value>"),
        ("{{.Env}}", "[A=1 B=2]"),
        ("{{.Labels}}", "map[a:1 b:2]"),
        ("{{json .State}}", '{"Status":"exited","ExitCode":3}'),
        ("{{json .}}", None),
        ('{{index .Labels "a"}}', "1"),
        ("{{index .Env 1}}", "B=2"),
        ("{{len .Env}}", "2"),
        ('{{join .Env ", "}}', "A=1, B=2"),
        ("{{.Id | upper}}", "ABC"),
        ("{{range .Env}}<{{.}}>{{end}}", "<A=1><B=2>"),
        ("{{range .Mounts}}{{.Name}} {{end}}", "data logs "),
        ("{{if .Running}}yes{{else}}no{{end}}", "yes"),
        ("{{if .Nothing}}yes{{else}}no{{end}}", "no"),
        ("{{with .State}}{{.Status}}{{end}}", "exited"),
        ("{{println .Id}}", "abc\n"),
        (r"{{.Id}}\t{{.Id}}", "abc\tabc"),
    ],
)
def test_an_action_shows_what_go_shows(text: str, shown: str | None) -> None:
    made = render(text, VALUE)
    assert shown is None or made == shown


@pytest.mark.parametrize(
    "text", ["{{.Nope}}", "{{.Id.Nope}}", "{{nope .Id}}", "{{range .Env}}", "{{end}}", "{{}}", "{{len .Running}}"]
)
def test_what_cannot_be_shown_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(InvalidParameter):
        render(text, VALUE)


def test_a_field_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(InvalidParameter) as caught:
        render("{{.State.Code}}", VALUE)
    assert "ExitCode, Status" in str(caught.value.remedy)
