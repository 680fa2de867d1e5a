"""From a magic's line to words: the shell's quotes, and one rule for Python variables.

Interface:
- `split(line, variables)`: the words of a line, `{name}` filled in.

Rules: `{name}` is a Python variable, an error if there is none; a list or tuple alone in a word becomes several
words. `{{…}}`, `${…}`, `$VAR` and braces around anything that is not a name are never touched.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from glassdock.errors import InvalidParameter

_BRACES = re.compile(r"\{\{.*?\}\}|\$\{[^}]*\}|\{([A-Za-z_]\w*)\}", re.DOTALL)


def split(line: str, variables: Mapping[str, Any]) -> list[str]:
    """The words of `line`. Raises `InvalidParameter` for an open quote or a name that does not exist."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidParameter(
            f"the line cannot be split into words: {error}".lower(), "Close the quote, or put a \\ before it."
        ) from error
    return [filled for word in words for filled in _fill(word, variables)]


def _fill(word: str, variables: Mapping[str, Any]) -> Iterator[str]:
    alone = _BRACES.fullmatch(word)
    if alone and alone[1]:
        value = _value(alone[1], variables)
        if isinstance(value, list | tuple):
            yield from map(str, value)
            return
    yield _BRACES.sub(lambda found: str(_value(found[1], variables)) if found[1] else found[0], word)


def _value(name: str, variables: Mapping[str, Any]) -> Any:
    try:
        return variables[name]
    except KeyError:
        raise InvalidParameter(
            f"{{{name}}} names no Python variable",
            f"Set {name} in a cell first; for braces that stay braces write them apart, as in '{{ {name} }}'.",
        ) from None
