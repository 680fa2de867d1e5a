"""Logical lines: what BuildKit treats as a directive, a comment, a continuation, a heredoc."""

from __future__ import annotations

import pytest

from glassdock.build.lines import heredoc, read


def texts(source: str) -> list[str]:
    return [line.text for line in read(source).lines]


def test_directives_stand_before_everything_else() -> None:
    document = read("# Syntax = docker/dockerfile:1\n#escape=`\n# check=skip=all\nFROM a `\nAS b\n")
    assert document.directives == {"syntax": "docker/dockerfile:1", "escape": "`", "check": "skip=all"}
    assert [line.text for line in document.lines] == ["FROM a AS b"]


@pytest.mark.parametrize("before", ["# a comment\n", "\n", "# unknown=1\n", "FROM a\n"])
def test_a_directive_behind_anything_else_is_a_comment(before: str) -> None:
    assert read(before + "# escape=`\nFROM a\n").escape == "\\"


def test_wrong_directives_are_problems() -> None:
    problems = read("# escape=x\n# syntax=a\n# syntax=b\nFROM a").problems
    assert [(problem.line, problem.message) for problem in problems] == [
        (1, "invalid ESCAPE 'x'. Must be ` or \\"),
        (3, "only one syntax parser directive can be used"),
    ]


def test_comments_and_empty_lines_inside_a_continuation_are_dropped() -> None:
    document = read("RUN a && \\\n  # why\n\n  b \\  \n#c\n c\n")
    assert [line.text for line in document.lines] == ["RUN a &&   b  c"]
    assert (document.lines[0].start, document.lines[0].end) == (1, 6)
    assert [(finding.line, finding.rule) for finding in document.findings] == [(3, "NoEmptyContinuation")]


def test_a_hash_in_the_middle_is_no_comment() -> None:
    assert texts("RUN echo # not a comment\n") == ["RUN echo # not a comment"]


def test_an_escaped_escape_does_not_continue() -> None:
    assert texts("RUN a \\\\\nRUN b\n") == ["RUN a \\\\", "RUN b"]


def test_a_continuation_at_the_end_of_the_file_ends() -> None:
    assert texts("FROM a\nRUN b \\\n") == ["FROM a", "RUN b"]
    assert texts("FROM a\nRUN b \\\n# only a comment") == ["FROM a", "RUN b"]


def test_byte_order_mark_carriage_returns_and_indentation_do_not_matter() -> None:
    assert texts("\ufeffFROM a\r\n  RUN b \\\r\n  c\r\n") == ["FROM a", "RUN b   c"]


def test_comments_before_an_instruction_belong_to_it() -> None:
    document = read("# far\n#\n# VERSION of the thing\nARG VERSION\n")
    assert document.lines[0].comments == ("VERSION of the thing",)


def test_a_heredoc_is_taken_verbatim() -> None:
    document = read("RUN <<EOF\nFROM not\\\n# not a comment\n\n  EOF\nEOF\nFROM b\n")
    assert [line.text for line in document.lines] == ["RUN <<EOF", "FROM b"]
    assert document.lines[0].heredocs[0].body == "FROM not\\\n# not a comment\n\n  EOF\n"
    assert (document.lines[0].start, document.lines[0].end, document.lines[1].start) == (1, 6, 7)


def test_several_heredocs_follow_each_other() -> None:
    document = read("COPY <<a <<-'b' /x/\n1\na\n\t2\n\tb\nRUN c")
    first, second = document.lines[0].heredocs
    assert (first.name, first.expand, first.content) == ("a", True, "1\n")
    assert (second.name, second.expand, second.content, second.body) == ("b", False, "2\n", "\t2\n")
    assert document.lines[1].text == "RUN c"


def test_a_heredoc_keeps_carriage_returns_and_finds_its_end() -> None:
    document = read("COPY <<EOF /x\r\na\r\nEOF\r\nRUN b\r\n")
    assert document.lines[0].heredocs[0].body == "a\r\n"
    assert document.lines[1].text == "RUN b"


@pytest.mark.parametrize("line", ["ENV A=<<EOF", 'RUN ["cat", "<<EOF"]', "RUN echo '<<EOF'", "RUN echo $((1 <<2 ))"])
def test_what_only_looks_like_a_heredoc_is_none(line: str) -> None:
    document = read(f"{line}\nFROM b\n")
    assert not document.lines[0].heredocs or line.startswith("RUN echo $((")
    assert document.problems or len(document.lines) == 2


def test_an_unterminated_heredoc_names_its_end() -> None:
    (problem,) = read("FROM a\nRUN <<EOF\nx\n").problems
    assert str(problem) == (
        "dockerfile parse error on line 2: unterminated heredoc (a line that holds only EOF ends it)"
    )


def test_a_heredoc_word_is_understood_in_all_its_forms() -> None:
    for word, name, expand, strip, descriptor in [
        ("<<EOF", "EOF", True, False, None),
        ("<<-EOF", "EOF", True, True, None),
        ('<<"EOF"', "EOF", False, False, None),
        ("<<E'O'F", "EOF", False, False, None),
        ("3<<EOF", "EOF", True, False, 3),
        ("<<$EOF", "$EOF", True, False, None),
    ]:
        found = heredoc(word)
        assert found
        assert (found.name, found.expand, found.strip_tabs, found.descriptor) == (name, expand, strip, descriptor)
    for word in ("EOF", "<EOF", "<<", "<<<EOF", "<<'a b", "a<<EOF"):
        assert heredoc(word) is None
