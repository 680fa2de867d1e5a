""".dockerignore: which files of the context a build does not see.

Interface:
- `patterns(text)`: the patterns of a file.
- `Matcher(patterns)`: `excludes(path)` for a path relative to the context; `may_include_below(path)` to prune a walk.

Rules: the last pattern that matches decides; `!` brings back. `*` and `?` stop at a slash, `**` does not; a pattern
that matches a folder matches all that is in it. `#` begins a comment in the first column only.
Source: https://docs.docker.com/build/concepts/context/#dockerignore-files
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field

from glassdock.errors import BuildError

FILE = ".dockerignore"


def patterns(text: str) -> tuple[str, ...]:
    """The patterns in the order of the file, cleaned: no slash in front, no `.` or `..` inside."""
    found: list[str] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        pattern = "" if line.startswith("#") else line.strip()
        mark = "!" if pattern.startswith("!") else ""
        pattern = pattern.removeprefix("!").strip()
        if not pattern:
            if mark:
                raise BuildError('illegal exclusion pattern: "!"', file=FILE, line=number)
            continue
        cleaned = posixpath.normpath(pattern)
        found.append(mark + (cleaned.lstrip("/") or "/"))
    return tuple(found)


def component(pattern: str) -> str:
    """The regular expression of a pattern in which `*` and `?` stop at a slash and `**` does not."""
    out, index = "", 0
    if re.fullmatch(r"\*\*[^/*?\[\\]+", pattern):
        return ".*" + re.escape(pattern[2:])  # Docker takes a leading `**` without a slash for any beginning
    while index < len(pattern):
        char = pattern[index]
        index += 1
        if pattern.startswith("**", index - 1):
            index += 1
            slash = pattern.startswith("/", index)
            index += slash
            out += ".*" if index >= len(pattern) else "(?:.*/)?"
        elif char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[":
            text, index = _brackets(pattern, index)
            out += text
        elif char == "\\" and index < len(pattern):
            out += re.escape(pattern[index])
            index += 1
        else:
            out += re.escape(char)
    return out


def _brackets(pattern: str, index: int) -> tuple[str, int]:
    """A class such as `[a-z]` or `[^a]`; `index` is behind the opening bracket. Never matches a slash."""
    negated = pattern.startswith("^", index)
    index += negated
    inside = ""
    while index < len(pattern) and (pattern[index] != "]" or not inside):
        char = pattern[index]
        index += 1
        if char == "\\":
            char += pattern[index : index + 1]
            index += 1
        inside += "\\" + char if char in "[]&|~" else char
    if index >= len(pattern):
        raise BuildError(f"syntax error in pattern {pattern!r}: the bracket is not closed")
    return f"(?!/)[{'^' * negated}{inside}]", index + 1


@dataclass(frozen=True, slots=True)
class _Pattern:
    includes: bool
    expression: re.Pattern[str]
    literal: str  # what comes before the first special character


@dataclass(slots=True)
class Matcher:
    """Patterns, ready to be asked."""

    texts: tuple[str, ...]
    _patterns: list[_Pattern] = field(init=False)

    def __post_init__(self) -> None:
        self._patterns = [self._compile(text) for text in self.texts]

    @staticmethod
    def _compile(text: str) -> _Pattern:
        body = text.removeprefix("!")
        try:
            expression = re.compile(component(body) + "(?:/.*)?", re.DOTALL)
        except re.error as error:
            raise BuildError(f"syntax error in pattern {text!r}: {error}", file=FILE) from error
        literal = re.split(r"[*?\[\\]", body, maxsplit=1)[0]
        return _Pattern(text.startswith("!"), expression, literal)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def excludes(self, path: str) -> bool:
        """Whether the build must not see `path` (relative, slashes, no dot in front)."""
        for pattern in reversed(self._patterns):
            if pattern.expression.fullmatch(path):
                return not pattern.includes
        return False

    def may_include_below(self, folder: str) -> bool:
        """Whether an excluded folder can hold something that a `!` brings back."""
        inside = folder + "/"
        return any(
            pattern.includes and (pattern.literal.startswith(inside) or inside.startswith(pattern.literal))
            for pattern in self._patterns
        )
