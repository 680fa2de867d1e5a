"""Flags of instructions: `COPY --from=builder --chown=1:1 ...`.

Interface:
- `take(text, escape)`: the flags at the beginning of an instruction's arguments, and the rest.
- `parse(given, allowed)`: their values by name.
- `mount(value)`: the fields of `RUN --mount=type=cache,target=/x`.
- `nearest(word, choices)`: "did you mean" for a word that is none of the choices.

Rules: flags end at the first word without two dashes, or at `--`. Errors are `FlagError` (a ValueError with a hint).
Source: https://docs.docker.com/reference/dockerfile/#run---mount
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MOUNT_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_MOUNT_KEYS = {
    "type": "type", "from": "from", "source": "source", "src": "source", "target": "target", "dst": "target",
    "destination": "target", "readonly": "readonly", "ro": "readonly", "readwrite": "readwrite", "rw": "readwrite",
    "id": "id", "sharing": "sharing", "required": "required", "size": "size", "mode": "mode", "uid": "uid",
    "gid": "gid", "env": "env",
}  # fmt: skip
_MOUNT_SWITCHES = ("readonly", "readwrite", "required")


class FlagError(ValueError):
    """A flag cannot be understood; `hint` says what was probably meant."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount of a RUN: its type and its other fields as written (variables are replaced when the step is planned)."""

    type: str
    fields: Mapping[str, str] = field(default_factory=dict)


def nearest(word: str, choices: Iterable[str]) -> str:
    """`did you mean X?`, or nothing where no choice is near."""
    by_lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), by_lower, 1, 0.6)
    return f"did you mean {by_lower[found[0]]}?" if found else ""


def take(text: str, escape: str) -> tuple[list[str], str]:
    """Split `--a=b --c rest of it` into its flags, unquoted, and the rest."""
    given: list[str] = []
    rest = text.lstrip()
    while rest.startswith("--"):
        word, rest = _word(rest, escape)
        rest = rest.lstrip()
        if word == "--":
            break
        given.append(word)
    return given, rest


def _word(text: str, escape: str) -> tuple[str, str]:
    word, quote, index = "", "", 0
    while index < len(text):
        char = text[index]
        index += 1
        if char == escape:
            word += text[index : index + 1]
            index += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif not quote and char.isspace():
            break
        else:
            word += char
    return word, text[index:]


def parse(given: Iterable[str], allowed: Mapping[str, str]) -> dict[str, list[str]]:
    """The values of each flag; `allowed` maps a name to `text`, `list` (may repeat) or `switch` (true or false)."""
    values: dict[str, list[str]] = {}
    for flag in given:
        name, equals, value = flag[2:].partition("=")
        kind = allowed.get(name)
        if kind is None:
            raise FlagError(f"unknown flag: --{name}", nearest(name, allowed).replace("mean ", "mean --"))
        if name in values and kind != "list":
            raise FlagError(f"duplicate flag specified: --{name}")
        if kind == "switch":
            value = value.lower() if equals else "true"
            if value not in ("true", "false"):
                raise FlagError(f"expecting boolean value for flag --{name}, not: {value}")
        elif not equals:
            raise FlagError(f"missing a value on flag: --{name}")
        values.setdefault(name, []).append(value)
    return values


def mount(value: str) -> Mount:
    """Read `type=bind,source=a,target=/b,ro`."""
    fields: dict[str, str] = {}
    for item in next(csv.reader([value]), []):
        key, equals, content = item.partition("=")
        name = _MOUNT_KEYS.get(key.lower())
        if name is None:
            raise FlagError(f"unexpected key '{key}' in '{item}'", nearest(key, _MOUNT_KEYS))
        if not equals and name not in _MOUNT_SWITCHES:
            raise FlagError(f"invalid field '{item}' must be a key=value pair")
        if name == "from" and "$" in content.rstrip("$"):
            raise FlagError("'from' doesn't support variable expansion, define alias stage instead")
        fields[name] = content if equals else "true"
    kind = fields.pop("type", "bind").lower()
    if kind not in MOUNT_TYPES and "$" not in kind:
        raise FlagError(f'unsupported mount type "{kind}"', nearest(kind, MOUNT_TYPES))
    return Mount(kind, fields)
