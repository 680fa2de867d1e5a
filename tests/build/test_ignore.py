""".dockerignore: the exact rules of its patterns."""

from __future__ import annotations

import pytest

from glassdock.build.ignore import Matcher, patterns
from glassdock.errors import BuildError

TABLE = [
    ("*.pyc", ["a.pyc"], ["b/a.pyc", "apyc"]),
    ("**/*.pyc", ["a.pyc", "b/a.pyc", "b/c/a.pyc"], ["a.pyd"]),
    ("**", ["a", "a/b", ".git"], []),
    ("*", ["a", "a/b"], []),
    ("*/temp*", ["a/temp", "a/temp.txt", "a/temporary/x"], ["temp", "a/b/temp"]),
    ("temp?", ["tempa", "tempa/x"], ["temp", "tempab", "temp/"]),
    ("/secret", ["secret", "secret/key"], ["a/secret"]),
    ("./a//b/../c", ["a/c", "a/c/d"], ["a/b"]),
    ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
    ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a/bz", "z"]),
    ("**/node_modules", ["node_modules", "x/node_modules/y"], ["xnode_modules"]),
    ("**suffix", ["suffix", "xsuffix", "a/xsuffix"], ["suffixx"]),
    ("[a-c].txt", ["a.txt", "c.txt"], ["d.txt", "-.txt"]),
    ("[^a].txt", ["b.txt"], ["a.txt", "/.txt"]),
    (r"\*.txt", ["*.txt"], ["a.txt"]),
    ("a.txt", ["a.txt"], ["axtxt"]),
    ("(x)|y", ["(x)|y"], ["x", "y"]),
    ("  spaced  ", ["spaced"], []),
    ("#comment", [], ["#comment", "comment"]),
    (" #not", ["#not"], []),
    (".", [], ["a"]),
    ("", [], ["a"]),
    ("é*", ["éa"], ["ea"]),
]


@pytest.mark.parametrize(("pattern", "excluded", "kept"), TABLE, ids=[repr(row[0]) for row in TABLE])
def test_a_pattern_excludes_what_docker_excludes(pattern: str, excluded: list[str], kept: list[str]) -> None:
    matcher = Matcher(patterns(pattern + "\n"))
    assert [path for path in excluded + kept if matcher.excludes(path)] == excluded


def test_the_last_match_decides() -> None:
    matcher = Matcher(patterns("*.md\n!README*.md\nREADME-secret.md\n"))
    paths = ["a.md", "README.md", "README-secret.md", "a.txt"]
    assert [path for path in paths if matcher.excludes(path)] == ["a.md", "README-secret.md"]


def test_an_exception_reaches_into_an_excluded_folder() -> None:
    matcher = Matcher(patterns("*\n!src\n!docs/keep/**\n"))
    assert not matcher.excludes("src/deep/a.py")
    assert matcher.excludes("docs")
    assert not matcher.excludes("docs/keep/a")
    assert matcher.may_include_below("docs")
    assert not matcher.may_include_below("other")
    assert Matcher(patterns("*\n!**/x\n")).may_include_below("anything")


def test_a_lone_exclamation_mark_is_refused_with_its_line() -> None:
    with pytest.raises(BuildError) as caught:
        patterns("a\n!\n")
    assert (caught.value.file, caught.value.line) == (".dockerignore", 2)


def test_an_open_bracket_is_refused() -> None:
    with pytest.raises(BuildError):
        Matcher(("[a",))


def test_a_byte_order_mark_is_no_part_of_the_first_pattern() -> None:
    assert patterns("\ufeffa\n") == ("a",)
