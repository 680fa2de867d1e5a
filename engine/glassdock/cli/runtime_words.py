"""The words of `glassdock-runtime`: a table of verbs with their options, and the parser that reads a line by it.

Interface:
- `Option`, `Verb`: rows of the table. `Line(table, globals)`: `.parse(words)` → `Call`.
- `Call`: the verb, the options given by their long names, the arguments. `Usage`: the line makes no sense.

Rules: flags as Go's `flag` reads them, for those who drive a runtime write them so: `--name value`, `--name=value`,
`-name value`. A verb with `tail` hands on everything behind its first argument as it is.

Source: https://pkg.go.dev/flag#hdr-Command_line_flag_syntax
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glassdock.errors import InvalidParameter

_TRUE = ("1", "t", "true", "True", "TRUE", "T")
_FALSE = ("0", "f", "false", "False", "FALSE", "F")


class Usage(InvalidParameter):
    """The command line cannot be understood; `verb` is the one whose help is shown."""

    def __init__(self, message: str, verb: str = "") -> None:
        super().__init__(message)
        self.verb = verb


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `names`: `bundle b`; the first is its name. `kind`: text, flag, number or list."""

    names: str
    help: str
    kind: str = "text"
    default: str = ""

    @property
    def name(self) -> str:
        """The long name."""
        return self.names.split()[0]

    def start(self) -> Any:
        """Its value where it is not given."""
        return {"flag": False, "number": None, "list": []}.get(self.kind, self.default)


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb. `place` is `module:function` below this package, imported when it is called."""

    place: str
    help: str
    arguments: str = "CONTAINER"
    options: tuple[Option, ...] = ()
    least: int = 1
    most: int = 1
    tail: bool = False


@dataclass(slots=True)
class Call:
    """A line that was understood: what is said for everything, the verb, its options and arguments."""

    verb: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    wants_help: bool = False


def parse(table: Mapping[str, Verb], general: Sequence[Option], words: Sequence[str]) -> Call:
    """Read a command line; raises Usage."""
    call = Call(settings={option.name: option.start() for option in general})
    rest, helped = _options(general, list(words), call.settings, "", stop=True)
    if not rest:
        call.wants_help = helped or not call.settings["version"]
        return call
    call.verb = rest.pop(0)
    if call.verb in ("help", "h"):
        helped, call.verb = True, rest[0] if rest else ""
    if call.verb and call.verb not in table:
        raise Usage(f"No help topic for '{call.verb}'")
    if not helped:
        verb = table[call.verb]
        call.options = {option.name: option.start() for option in verb.options}
        call.arguments, helped = _options(verb.options, rest, call.options, call.verb, stop=verb.tail)
        if not helped:
            _count(call.verb, verb, len(call.arguments))
    call.wants_help = helped
    return call


def _count(name: str, verb: Verb, given: int) -> None:
    if verb.least == verb.most and given != verb.least:
        raise Usage(f'"{name}" requires exactly {verb.least} argument(s)', name)
    if given < verb.least:
        raise Usage(f'"{name}" requires a minimum of {verb.least} argument(s)', name)
    if given > verb.most:
        raise Usage(f'"{name}" requires a maximum of {verb.most} argument(s)', name)


def _options(
    options: Sequence[Option], words: list[str], found: dict[str, Any], verb: str, *, stop: bool
) -> tuple[list[str], bool]:
    """Put the options into `found`, until the first other word with `stop`: (other words, whether help is wanted)."""
    known = {name: option for option in options for name in option.names.split()}
    others: list[str] = []
    helped = False
    while words:
        word = words.pop(0)
        if word == "--":
            break
        if word == "-" or not word.startswith("-"):
            others.append(word)
            if stop:
                break
            continue
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if name in ("help", "h") and name not in known:
            helped = True
            continue
        if name not in known:
            raise Usage(f"flag provided but not defined: -{name}", verb)
        option = known[name]
        if option.kind != "flag" and not equals:
            if not words:
                raise Usage(f"flag needs an argument: -{name}", verb)
            value = words.pop(0)
        _store(option, value if equals or option.kind != "flag" else "true", verb, found)
    return others + words, helped


def _store(option: Option, value: str, verb: str, found: dict[str, Any]) -> None:
    if option.kind == "list":
        found[option.name] = [*found[option.name], value]
    elif option.kind == "flag":
        if value not in (*_TRUE, *_FALSE):
            raise Usage(f'invalid boolean value "{value}" for -{option.name}', verb)
        found[option.name] = value in _TRUE
    elif option.kind == "number":
        try:
            found[option.name] = int(value, 0)
        except ValueError:
            raise Usage(f'invalid value "{value}" for flag -{option.name}: not a number', verb) from None
    else:
        found[option.name] = value


def help_of(name: str, verb: Verb) -> str:
    """What `glassdock-runtime VERB --help` shows."""
    usage = f"glassdock-runtime {name} [OPTIONS] {verb.arguments}".rstrip()
    lines = [*_named(f"{name} - {verb.help}", usage)]
    return "\n".join([*lines, *_rows("OPTIONS", [(_shown(option), option.help) for option in verb.options])]) + "\n"


def help_of_all(table: Mapping[str, Verb], general: Sequence[Option], about: str) -> str:
    """What `glassdock-runtime --help` shows."""
    lines = _named(f"- {about}", "glassdock-runtime [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS...]")
    lines += _rows("COMMANDS", [(name, verb.help) for name, verb in table.items()])
    lines += _rows("GLOBAL OPTIONS", [(_shown(option), option.help) for option in general])
    return "\n".join(lines) + "\n"


def _named(about: str, usage: str) -> list[str]:
    return ["NAME:", f"   glassdock-runtime {about}", "", "USAGE:", f"   {usage}"]


def _shown(option: Option) -> str:
    names = ", ".join(f"-{name}" if len(name) == 1 else f"--{name}" for name in reversed(option.names.split()))
    return names if option.kind == "flag" else f"{names} {'N' if option.kind == 'number' else 'VALUE'}"


def _rows(title: str, rows: list[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    width = max(len(left) for left, _ in rows)
    return ["", f"{title}:", *(f"   {left.ljust(width)}  {right}" for left, right in rows)]
