"""Logical lines of a Dockerfile: directives, comments, continuations, heredocs.

Interface:
- `read(text)`: a `Document` of parser directives and logical lines.
- `heredoc(word)`: the heredoc that a word such as `<<-"EOF"` opens, or None.

Rules: directives come first, before comments and empty lines. A comment may stand inside a continued line, and is
dropped; so is an empty line (BuildKit's check NoEmptyContinuation warns). The body of a heredoc is taken verbatim.
What cannot be read is a `Problem`, and reading goes on after it.
Source: https://docs.docker.com/reference/dockerfile/#format
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from glassdock.build import flags, words

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_HEREDOC = re.compile(r"(\d*)<<(-?)\s*([^<]*)", re.DOTALL)
_KNOWN_DIRECTIVES = ("check", "escape", "syntax")
_TAKES_HEREDOC = ("add", "copy", "run")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a Dockerfile; lines count from 1; `hint` says what was probably meant."""

    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"dockerfile parse error on line {self.line}: {self.message}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that works and should not be written so; `rule` is the name of BuildKit's check."""

    line: int
    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Heredoc:
    """An inline document. `expand`: variables are replaced (its name was not quoted). `body` has its tabs still."""

    name: str
    expand: bool
    strip_tabs: bool
    descriptor: int | None = None
    body: str = ""

    @property
    def content(self) -> str:
        """The body as the reader of the document gets it."""
        return re.sub(r"^\t+", "", self.body, flags=re.MULTILINE) if self.strip_tabs else self.body


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction as written, its continuations joined; `start` and `end` are lines of the file, from 1."""

    start: int
    end: int
    text: str
    comments: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(slots=True)
class Document:
    """What a file consists of."""

    directives: Mapping[str, str]
    lines: list[Line] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def escape(self) -> str:
        """The character that escapes and continues lines."""
        return self.directives.get("escape", "\\")


def read(text: str) -> Document:
    """Split a Dockerfile into logical lines."""
    physical = text.removeprefix("\ufeff").split("\n")
    if physical and not physical[-1]:
        physical.pop()
    document = Document({})
    start = _read_directives(physical, document)
    _LineReader(physical, document, start).read()
    return document


def heredoc(word: str) -> Heredoc | None:
    """What `<<EOF`, `3<<EOF`, `<<-EOF` or `<<"EOF"` opens; None if the word opens nothing."""
    found = _HEREDOC.fullmatch(word)
    if not found or not found[3]:
        return None
    try:
        plain = words.expand(found[3], {}, words.Rules(keep_unset=True)).words
        raw = words.expand(found[3], {}, words.Rules(keep_unset=True, keep_quotes=True)).words
    except ValueError:
        return None
    if len(plain) != 1:
        return None
    return Heredoc(plain[0], plain == raw, found[2] == "-", int(found[1]) if found[1] else None)


def json_list(text: str) -> list[str] | None:
    """The words of the JSON form, None if it is not JSON; raises ValueError if it holds more than strings."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        raise ValueError("when using JSON array syntax, arrays must be comprised of strings only")
    return [str(item) for item in value]


def _read_directives(physical: list[str], document: Document) -> int:
    """Read the directives at the top; returns the index of the first line that is none."""
    directives: dict[str, str] = {}
    index = 0
    for index, line in enumerate([*physical, ""]):
        found = _DIRECTIVE.fullmatch(line.strip())
        name = found[1].lower() if found else ""
        if not found or name not in _KNOWN_DIRECTIVES:
            break
        if name in directives:
            document.problems.append(Problem(index + 1, f"only one {name} parser directive can be used"))
        elif name == "escape" and found[2] not in ("\\", "`"):
            message = f"invalid ESCAPE '{found[2]}'. Must be ` or \\"
            document.problems.append(Problem(index + 1, message))
        else:
            directives[name] = found[2]
    document.directives = directives
    return index


@dataclass(slots=True)
class _LineReader:
    physical: list[str]
    document: Document
    at: int
    comments: list[str] = field(default_factory=list)

    def read(self) -> None:
        escape = re.escape(self.document.escape)
        continued = re.compile(rf"(?<!{escape}){escape}[ \t]*$")
        while self.at < len(self.physical):
            line = self._next().lstrip()
            if line.startswith("#"):
                comment = line[1:].strip()
                self.comments = [*self.comments, comment] if comment else []
            elif line.strip() and continued.sub("", line).strip():
                self._instruction(line, continued)
            else:
                self.comments = []

    def _next(self) -> str:
        self.at += 1
        return self.physical[self.at - 1].rstrip("\r")

    def _instruction(self, line: str, continued: re.Pattern[str]) -> None:
        start, text = self.at, ""
        while True:
            joined = continued.sub("", line)
            text += joined
            if joined == line or not self._continuation():
                break
            line = self._next()
        heredocs = self._heredocs(text, start)
        self.document.lines.append(Line(start, self.at, text.strip(), tuple(self.comments), heredocs))
        self.comments = []

    def _continuation(self) -> bool:
        """Skip comments and empty lines inside a continued line; False at the end of the file."""
        warned = False
        while self.at < len(self.physical):
            line = self.physical[self.at].strip()
            if line and not line.startswith("#"):
                return True
            if not line and not warned:
                warned = True
                message = "Empty continuation line"
                self.document.findings.append(Finding(self.at + 1, "NoEmptyContinuation", message))
            self.at += 1
        return False

    def _heredocs(self, text: str, start: int) -> tuple[Heredoc, ...]:
        if "<<" not in text or not _takes_heredocs(text, self.document.escape):
            return ()
        rules = words.Rules(keep_quotes=True, keep_escapes=True, keep_unset=True)
        try:
            found = [heredoc(word) for word in words.expand(text, {}, rules).words]
        except ValueError:
            return ()
        return tuple(self._body(opened, start) for opened in found if opened)

    def _body(self, opened: Heredoc, start: int) -> Heredoc:
        body: list[str] = []
        while self.at < len(self.physical):
            line = self._next()
            if (line.lstrip("\t") if opened.strip_tabs else line) == opened.name:
                return replace(opened, body="".join(body))
            body.append(self.physical[self.at - 1] + "\n")
        hint = f"a line that holds only {opened.name} ends it"
        self.document.problems.append(Problem(start, "unterminated heredoc", hint))
        return opened


def _takes_heredocs(text: str, escape: str) -> bool:
    keyword, *rest = text.split(None, 1)
    if not rest or keyword.lower() not in (*_TAKES_HEREDOC, "onbuild"):
        return False
    if keyword.lower() == "onbuild":
        return _takes_heredocs(rest[0], escape)
    try:
        return json_list(flags.take(rest[0], escape)[1]) is None
    except ValueError:
        return False
