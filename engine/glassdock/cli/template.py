"""The part of Go's templates that `--format` needs.

Interface:
- `render(text, value)`: `{{.A.B}}`, `{{json .A}}`, `{{index .A "key"}}`, `{{len .A}}`, `{{join .A ","}}`,
  `{{upper .A}}`, `{{lower .A}}`, `{{range .A}}…{{end}}`, `{{if .A}}…{{else}}…{{end}}`, `{{println .A}}`.

Rules: a field that is not there is an `InvalidParameter` that names the fields that are. What Go prints for lists
and maps is printed the same: `[a b]`, `map[k:v]`.
Source: https://pkg.go.dev/text/template
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from glassdock.errors import InvalidParameter

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|[^\s|]+|\|')
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    "len": lambda value: len(value or ()),
    "join": lambda values, glue: glue.join(str(value) for value in values or ()),
    "upper": lambda value: str(value).upper(),
    "lower": lambda value: str(value).lower(),
    "title": lambda value: str(value).title(),
    "print": lambda *values: "".join(_show(value) for value in values),
    "println": lambda *values: " ".join(_show(value) for value in values) + "\n",
    "split": lambda value, glue: str(value).split(glue),
    "eq": lambda first, second: first == second,
    "ne": lambda first, second: first != second,
    "not": lambda value: not value,
}


def render(text: str, value: Any) -> str:
    """`text` with its actions carried out on `value`; "json" alone is the whole value.

    Raises `InvalidParameter` for what cannot be parsed or is not there.
    """
    if text == "json":
        return str(_FUNCTIONS["json"](value))
    unescaped = text.replace("\\t", "\t").replace("\\n", "\n")
    pieces = iter(_ACTION.split(unescaped))
    body, closer = _body(pieces)
    if closer:
        raise InvalidParameter(f"template parsing error: unexpected {{{{{closer}}}}}")
    return "".join(part(value) for part in body)


_Part = Callable[[Any], str]


def _body(pieces: Iterator[str]) -> tuple[list[_Part], str]:
    """The parts up to the `end` or `else` that closes this body, which is returned too."""
    parts: list[_Part] = []
    for literal in pieces:
        parts.append(_literal(literal))
        action = next(pieces, None)
        if action is None:
            break
        word, _, rest = action.partition(" ")
        if word in ("end", "else"):
            return parts, word
        parts.append(_block(word, rest, pieces) if word in ("range", "if", "with") else _action(action))
    return parts, ""


def _block(word: str, condition: str, pieces: Iterator[str]) -> _Part:
    inside, closer = _body(pieces)
    otherwise: list[_Part] = []
    if closer == "else":
        otherwise, closer = _body(pieces)
    if closer != "end":
        raise InvalidParameter("template parsing error: unexpected EOF", f"Close {{{{{word}}}}} with {{{{end}}}}.")

    def part(value: Any) -> str:
        found = _evaluate(condition, value)
        if not found:
            return "".join(item(value) for item in otherwise)
        if word == "if":
            return "".join(item(value) for item in inside)
        rows = [found] if word == "with" else list(found.values() if isinstance(found, Mapping) else found)
        return "".join(item(row) for row in rows for item in inside)

    return part


def _literal(text: str) -> _Part:
    return lambda _: text


def _action(text: str) -> _Part:
    return lambda value: _show(_evaluate(text, value))


def _evaluate(text: str, value: Any) -> Any:
    """A pipeline: the result of each command is the last argument of the next."""
    result: list[Any] = []
    words: list[str] = []
    for word in [*_WORD.findall(text), "|"]:
        if word == "|":
            result = [_command(words, value, result)]
            words = []
        else:
            words.append(word)
    return result[0]


def _command(words: list[str], value: Any, piped: list[Any]) -> Any:
    if not words:
        raise InvalidParameter("template parsing error: missing value for command")
    name, arguments = words[0], [_operand(word, value) for word in words[1:]] + piped
    if name == "index":
        found = arguments[0]
        for key in arguments[1:]:
            found = found[key] if isinstance(found, list) else (found or {}).get(key, "")
        return found
    if name in _FUNCTIONS:
        try:
            return _FUNCTIONS[name](*arguments)
        except (TypeError, AttributeError) as error:
            raise InvalidParameter(f"template: error calling {name}: {error}") from error
    return _operand(name, value)


def _operand(word: str, value: Any) -> Any:
    if word.startswith('"'):
        return json.loads(word)
    if word.startswith("`"):
        return word.strip("`")
    if word.lstrip("-").isdigit():
        return int(word)
    if not word.startswith("."):
        raise InvalidParameter(
            f'template parsing error: function "{word}" not defined', "A field begins with a dot: {{.Id}}."
        )
    for name in filter(None, word.split(".")):
        if not isinstance(value, Mapping) or name not in value:
            there = ", ".join(sorted(value)) if isinstance(value, Mapping) else "none"
            raise InvalidParameter(f'template: can\'t evaluate field {name}: "{word}"', f"Fields here: {there}.")
        value = value[name]
    return value


def _show(value: Any) -> str:
    """As Go prints a value."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + " ".join(_show(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{_show(item)}" for key, item in sorted(value.items())) + "]"
    return str(value)
