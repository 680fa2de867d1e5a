"""Words of a Dockerfile: quotes, escapes and variables.

Interface:
- `expand(text, variables, rules)`: the text with its variables replaced and its quotes removed.
- `quoted_words(text, escape)`: split at spaces outside quotes; quotes and escapes stay.
- `matches(pattern)`: the regular expression of a shell pattern with `*` and `?`.

All forms: `$x ${x} ${x:-w} ${x-w} ${x:+w} ${x+w} ${x:?w} ${x?w} ${x#p} ${x##p} ${x%p} ${x%%p} ${x/p/r} ${x//p/r}`.

Rules: single quotes keep everything; in double quotes `$` works and the escape character escapes itself, `"` and `$`;
elsewhere it escapes any character. Errors are ValueError: the caller knows file and line.
Source: https://docs.docker.com/reference/dockerfile/#environment-replacement
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SPECIAL = "@*#?-$!0"


@dataclass(frozen=True, slots=True)
class Rules:
    """How to read a word: `quotes` False takes quotes as ordinary characters, `keep_...` leaves things as written."""

    escape: str = "\\"
    quotes: bool = True
    keep_quotes: bool = False
    keep_escapes: bool = False
    keep_unset: bool = False


DEFAULT = Rules()
HEREDOC = Rules(quotes=False)


@dataclass(frozen=True, slots=True)
class Expanded:
    """`text` in one piece and as space-separated `words`; the names that were `used` and those that were `unset`."""

    text: str
    words: tuple[str, ...]
    used: frozenset[str]
    unset: frozenset[str]


def expand(text: str, variables: Mapping[str, str], rules: Rules = DEFAULT) -> Expanded:
    """Replace variables and remove quotes; raises ValueError for an open quote or a bad substitution."""
    reader = _Reader(text, variables, rules)
    pieces = reader.until("", keep_escapes=rules.keep_escapes)
    return Expanded(_text(pieces), _words(pieces), frozenset(reader.used), frozenset(reader.unset))


def quoted_words(text: str, escape: str = "\\") -> list[str]:
    """Split at white space outside quotes; what was quoted or escaped still is."""
    words: list[str] = []
    word, quote, index = "", "", 0
    started = False
    while index < len(text):
        char = text[index]
        index += 1
        if not quote and char.isspace():
            if started:
                words.append(word)
            word, started = "", False
            continue
        started = True
        if char == escape and quote != "'":
            if index == len(text):
                started = bool(word)  # a lone escape character at the end says nothing
                break
            char += text[index]
            index += 1
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        word += char
    return [*words, word] if started else words


def matches(pattern: str) -> re.Pattern[str]:
    """The regular expression of a shell pattern; an escaped `*`, `?` or backslash stands for itself."""
    out, index = "", 0
    while index < len(pattern):
        char = pattern[index]
        index += 1
        if char == "*":
            out += ".*"
        elif char == "?":
            out += "."
        elif char == "\\":
            escaped = pattern[index : index + 1]
            index += 1
            if escaped not in ("}", "/", "*", "?", "\\"):
                raise ValueError(f"invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")
            out += re.escape(escaped)
        else:
            out += re.escape(char)
    return re.compile(out, re.DOTALL)


_Piece = tuple[str, bool]  # the text, and whether its spaces belong to the word


def _text(pieces: list[_Piece]) -> str:
    return "".join(text for text, _ in pieces)


def _words(pieces: list[_Piece]) -> tuple[str, ...]:
    words = [""]
    for text, whole in pieces:
        if whole:
            words[-1] += text
            continue
        for char in text:
            if not char.isspace():
                words[-1] += char
            elif words[-1]:
                words.append("")
    return tuple(word for word in words if word)


@dataclass(slots=True)
class _Reader:
    """A position in a word."""

    source: str
    variables: Mapping[str, str]
    rules: Rules
    at: int = 0
    used: set[str] = field(default_factory=set)
    unset: set[str] = field(default_factory=set)

    def peek(self) -> str:
        return self.source[self.at : self.at + 1]

    def take(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def until(self, stop: str, *, keep_escapes: bool) -> list[_Piece]:
        """Read up to the character `stop`, which is consumed, or to the end where it is empty."""
        pieces: list[_Piece] = []
        while char := self.peek():
            if char == stop:
                self.at += 1
                return pieces
            if char == "$":
                pieces.append((self.dollar(), False))
            elif char in "'\"" and self.rules.quotes:
                pieces.append((self.single_quoted() if char == "'" else self.double_quoted(), True))
            elif self.source.startswith("<<", self.at):
                pieces.append((self.heredoc_mark(), True))
            elif char == self.rules.escape:
                self.at += 1
                following = self.take()
                pieces.append(((char if keep_escapes else "") + following, True))
            else:
                self.at += 1
                pieces.append((char, False))
        if stop:
            raise ValueError(f"syntax error: missing '{stop}'" + (" in ${}" if stop == "/" else ""))
        return pieces

    def heredoc_mark(self) -> str:
        start = self.at
        self.at += 2
        while self.peek() and self.peek() in " \t\r":
            self.at += 1
        return self.source[start : self.at]

    def single_quoted(self) -> str:
        end = self.source.find("'", self.at + 1)
        if end < 0:
            raise ValueError("unexpected end of statement while looking for matching single-quote")
        inside = self.source[self.at + 1 : end]
        self.at = end + 1
        return f"'{inside}'" if self.rules.keep_quotes else inside

    def double_quoted(self) -> str:
        self.at += 1
        out = ""
        while char := self.peek():
            if char == '"':
                self.at += 1
                return f'"{out}"' if self.rules.keep_quotes else out
            if char == "$":
                out += self.dollar()
                continue
            self.at += 1
            following = self.peek()
            if char == self.rules.escape and following and following in ('"', "$", self.rules.escape):
                self.at += 1
                char = char + following if self.rules.keep_escapes else following
            elif char == self.rules.escape and not following:
                break
            out += char
        raise ValueError("unexpected end of statement while looking for matching double-quote")

    def dollar(self) -> str:
        start = self.at
        self.at += 1
        if self.peek() != "{":
            name = self.name()
            if not name:
                return "$"
            value = self.lookup(name)
            return value if value is not None else self._unset_as(start)
        self.at += 1
        if not self.peek():
            raise ValueError("syntax error: missing '}'")
        if self.peek() in "{}:":
            raise ValueError("syntax error: bad substitution")
        name = self.name()
        if self.peek() == "}":
            self.at += 1
            value = self.lookup(name)
        else:
            value = self.modified(name)
        return value if value is not None else self._unset_as(start)

    def _unset_as(self, start: int) -> str:
        return self.source[start : self.at] if self.rules.keep_unset else ""

    def name(self) -> str:
        """Letters, digits and underscores; or a number; or one of the shell's special parameters."""
        first = self.peek()
        if first.isdigit():
            found = re.compile(r"\d+").match(self.source, self.at)
        elif first and first in _SPECIAL:
            self.at += 1
            return first
        else:
            found = re.compile(r"\w+").match(self.source, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found.group()

    def lookup(self, name: str) -> str | None:
        value = self.variables.get(name)
        (self.unset if value is None else self.used).add(name)
        return value

    def modified(self, name: str) -> str | None:
        """What stands after the name in `${name...}`; None where the variable is unset and stays as written."""
        operator = self.take()
        empty_is_unset = operator == ":"
        if empty_is_unset:
            operator = self.take()
        shown = ":" * empty_is_unset + operator
        allowed = "-+?" if empty_is_unset else "-+?#%/"
        if not operator:
            raise ValueError("syntax error: missing '}'")
        if operator not in allowed:
            raise ValueError(f"unsupported modifier ({shown}) in substitution")
        if operator == "/":
            return self.replaced(name)
        word = _text(self.until("}", keep_escapes=operator in "#%"))
        value = self.lookup(name)
        if value is None and self.rules.keep_unset:
            return None
        if operator in "#%":
            return _trimmed(value or "", operator, word)
        missing = value is None or (empty_is_unset and not value)
        if operator == "-":
            return word if missing else value
        if operator == "+":
            return "" if missing else word
        if missing:
            state = "unset" if value is None else "empty"
            raise ValueError(f"{name}: {word or f'is not allowed to be {state}'}")
        return value

    def replaced(self, name: str) -> str | None:
        every = self.peek() == "/"
        self.at += every
        pattern = matches(_text(self.until("/", keep_escapes=True)))
        replacement = _text(self.until("}", keep_escapes=True))
        value = self.lookup(name)
        if value is None:
            return None if self.rules.keep_unset else ""
        return pattern.sub(lambda _: replacement, value, count=0 if every else 1)


def _trimmed(value: str, operator: str, pattern: str) -> str:
    """`value` without its shortest (`#`, `%`) or longest (`##`, `%%`) matching beginning or end."""
    longest = pattern.startswith(operator)
    expression = matches(pattern.removeprefix(operator))
    lengths = range(len(value), -1, -1) if longest else range(len(value) + 1)
    for length in lengths:
        if operator == "#" and expression.fullmatch(value, 0, length):
            return value[length:]
        if operator == "%" and expression.fullmatch(value, len(value) - length):
            return value[: len(value) - length]
    return value
