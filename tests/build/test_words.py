"""Words: every variable form, quotes and escapes, against what the Dockerfile reference and POSIX say."""

from __future__ import annotations

import random
import re
import subprocess

import pytest

from glassdock.build.words import HEREDOC, Rules, expand, quoted_words

VARIABLES = {"HOME": "/root", "EMPTY": "", "FILE": "archive.tar.gz", "PATHS": "a/b/a/c", "名": "字"}

FORMS = [
    ("plain", "plain"),
    ("$HOME/x", "/root/x"),
    ("${HOME}x", "/rootx"),
    ("$HOMEx", ""),
    ("$UNSET.", "."),
    ("$名", "字"),
    ("a$", "a$"),
    ("$.", "$."),
    ("$1x", "x"),
    ("${12:-none}", "none"),
    ("$@a$*", "a"),
    (r"\$HOME", "$HOME"),
    (r"\\$HOME", r"\/root"),
    (r"\${HOME}", "${HOME}"),
    ("'$HOME'", "$HOME"),
    ('"$HOME"', "/root"),
    ('"it\'s $HOME"', "it's /root"),
    (r'"a\"b"', 'a"b'),
    (r'"a\tb"', r"a\tb"),
    (r"a\tb", "atb"),
    (r"'a\tb'", r"a\tb"),
    ("trailing\\", "trailing"),
    ("a'b c'd", "ab cd"),
    ("${UNSET:-word}", "word"),
    ("${EMPTY:-word}", "word"),
    ("${EMPTY-word}", ""),
    ("${UNSET-word}", "word"),
    ("${HOME:-word}", "/root"),
    ("${UNSET:-$HOME/x}", "/root/x"),
    ("${UNSET:-${ALSO:-deep}}", "deep"),
    ("${UNSET:-'a b'}", "a b"),
    (r"${UNSET:-a\}b}", "a}b"),
    ("${HOME:+set}", "set"),
    ("${EMPTY:+set}", ""),
    ("${EMPTY+set}", "set"),
    ("${UNSET+set}", ""),
    ("${HOME:?}", "/root"),
    ("${EMPTY?}", ""),
    ("${FILE#*.}", "tar.gz"),
    ("${FILE##*.}", "gz"),
    ("${FILE%.*}", "archive.tar"),
    ("${FILE%%.*}", "archive"),
    ("${FILE#nothing}", "archive.tar.gz"),
    ("${FILE#????}", "ive.tar.gz"),
    ("${FILE%$UNSET}", "archive.tar.gz"),
    ("${FILE/a/A}", "Archive.tar.gz"),
    ("${FILE//a/A}", "Archive.tAr.gz"),
    ("${FILE/.*/}", "archive"),
    (r"${PATHS//\//:}", "a:b:a:c"),
    ("${PATHS/a/$HOME}", "/root/b/a/c"),
    ("${UNSET/a/b}", ""),
    ("${HOME}}", "/root}"),
    ("<<EOF", "<<EOF"),
]


@pytest.mark.parametrize(("text", "expected"), FORMS, ids=[text for text, _ in FORMS])
def test_a_form_expands_as_documented(text: str, expected: str) -> None:
    assert expand(text, VARIABLES).text == expected


WRONG = [
    ("'open", "single-quote"),
    ('"open', "double-quote"),
    ('"open\\', "double-quote"),
    ("${}", "bad substitution"),
    ("${:-x}", "bad substitution"),
    ("${{HOME}", "bad substitution"),
    ("${HOME", "missing '}'"),
    ("${HOME:-x", "missing '}'"),
    ("${HOME:", "missing '}'"),
    ("${HOME:=x}", "unsupported modifier (:=)"),
    ("${HOME:x}", "unsupported modifier (:x)"),
    ("${.}", "unsupported modifier (.)"),
    ("${HOME:#x}", "unsupported modifier (:#)"),
    ("${HOME/x}", "missing '/' in ${}"),
    ("${UNSET:?}", "UNSET: is not allowed to be unset"),
    ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
    ("${UNSET?give it}", "UNSET: give it"),
    (r"${FILE#\a}", "invalid escape"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG, ids=[text for text, _ in WRONG])
def test_a_wrong_form_says_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        expand(text, VARIABLES)


def test_the_names_that_were_used_and_unset_are_told() -> None:
    expanded = expand("$HOME ${UNSET:-x} ${EMPTY}", VARIABLES)
    assert sorted(expanded.used) == ["EMPTY", "HOME"]
    assert sorted(expanded.unset) == ["UNSET"]


def test_words_are_split_after_expansion_unless_quoted() -> None:
    assert expand("a $X 'b c' \"$X\" d\\ e", {"X": "1 2"}).words == ("a", "1", "2", "b c", "1 2", "d e")


def test_the_backtick_escapes_where_it_was_chosen() -> None:
    rules = Rules(escape="`")
    assert expand(r"c:\dir `$HOME", VARIABLES, rules).text == r"c:\dir $HOME"


def test_a_heredoc_keeps_its_quotes() -> None:
    assert expand("say \"hi\" 'to' $HOME", VARIABLES, HEREDOC).text == "say \"hi\" 'to' /root"


def test_unset_variables_can_stay_as_written() -> None:
    assert expand("$A ${B} ${C:-d} $HOME", VARIABLES, Rules(keep_unset=True)).text == "$A ${B} ${C:-d} /root"


def test_quoted_words_keep_quotes_and_escapes() -> None:
    assert quoted_words(r"""A=1 B="x y" C='a "b' D=e\ f E=""") == ["A=1", 'B="x y"', "C='a \"b'", r"D=e\ f", "E="]
    assert quoted_words(r"""B="say \"x y\"" """) == [r'B="say \"x y\""']


def test_forms_agree_with_the_shell() -> None:
    """Random forms of plain characters: a POSIX shell is the judge."""
    chance = random.Random(4)
    texts = []
    for _ in range(300):
        name = chance.choice(["FILE", "EMPTY", "UNSET", "PATHS"])
        operator = chance.choice([":-", "-", ":+", "+", "#", "##", "%", "%%"])
        word = "".join(chance.choice("ab./*?ctz") for _ in range(chance.randrange(5)))
        texts.append(f"x${{{name}{operator}{word}}}y")
    script = "set -f\n" + "\n".join(f'printf "%s\\n" "{text}"' for text in texts)
    environment = {"FILE": VARIABLES["FILE"], "EMPTY": "", "PATHS": VARIABLES["PATHS"]}
    done = subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=True)
    ours = [expand(text, environment).text for text in texts]
    assert dict(zip(texts, ours, strict=True)) == dict(zip(texts, done.stdout.splitlines(), strict=True))
