"""`%source`: live source, with file and line."""

from __future__ import annotations

import inspect

import pytest

from glassdock import trace
from glassdock.errors import NotFound
from glassdock_jupyter.source import find


def test_the_source_is_the_live_one_with_file_and_line() -> None:
    found = find("trace.span")
    assert "def span(" in found.text
    assert found.file == "engine/glassdock/trace.py"
    assert inspect.getsource(trace).splitlines()[found.line].startswith("def span")


def test_a_method_and_a_module_are_found() -> None:
    assert find("glassdock.paths.Paths.of").text.startswith("@classmethod")
    assert "more lines" in find("trace").text


def test_a_table_is_shown_from_its_first_line_to_its_last() -> None:
    text = find("daemon.app.ROUTES").text
    assert text.startswith("ROUTES: ")
    assert text.rstrip().endswith(")")
    assert '"/containers/create"' in text


def test_a_name_that_is_nearly_right_gets_the_right_one() -> None:
    with pytest.raises(NotFound) as caught:
        find("trace.spam")
    assert caught.value.remedy == "Did you mean glassdock.trace.span?"


@pytest.mark.parametrize("name", ["no_such.module", "paths.Paths.root", "trace.Span.id"])
def test_what_has_no_source_is_a_sentence(name: str) -> None:
    with pytest.raises(NotFound):
        find(name)
