"""From a logical line to a typed instruction.

Interface:
- `parse(line, escape)`: the instruction of a line; raises `Refused` with the reason and a hint.

Rules: one reader an instruction, in the table at the end; the words of the messages are Docker's.
Source: https://docs.docker.com/reference/dockerfile/#overview
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from glassdock.build import flags, words
from glassdock.build.instructions import (
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Pair,
    Run,
    Shell,
    Source,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from glassdock.build.lines import Line, heredoc, json_list
from glassdock.oci.image import Healthcheck

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_SPACES = re.compile(r"[\t\v\f\r ]+")


class Refused(ValueError):
    """A line is not an instruction; `hint` says what was probably meant."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def parse(line: Line, escape: str = "\\") -> Instruction:
    """The instruction that a logical line holds; raises Refused, or ValueError of a flag or the JSON form."""
    keyword, *rest = _SPACES.split(line.text.strip(), maxsplit=1)
    reader = _READERS.get(keyword.upper())
    if reader is None:
        raise Refused(f"unknown instruction: {keyword}", flags.nearest(keyword, _READERS))
    given, arguments = flags.take(rest[0] if rest else "", escape)
    source = Source(keyword.upper(), line.text, line.start, line.end, line.comments)
    request = _Request(source, given, arguments.strip(), escape, line)
    instruction = reader(request)
    if not request.flags_read:
        flags.parse(given, {})
    return instruction


@dataclass(slots=True)
class _Request:
    """A line on its way to becoming an instruction."""

    source: Source
    given: list[str]
    rest: str
    escape: str
    line: Line
    flags_read: bool = False

    def flags(self, **allowed: str) -> _Flags:
        self.flags_read = True
        return _Flags(flags.parse(self.given, {name.replace("_", "-"): kind for name, kind in allowed.items()}))

    def some(self) -> str:
        if not self.rest:
            raise Refused(f"{self.source.keyword} requires at least one argument")
        return self.rest

    def one(self) -> str:
        if not self.rest:
            raise Refused(f"{self.source.keyword} requires exactly one argument")
        return self.rest

    def command(self) -> Command:
        listed = json_list(self.rest)
        return Command((self.rest,), True) if listed is None else Command(tuple(listed), False)

    def list(self) -> list[str]:
        listed = json_list(self.rest)
        return _SPACES.split(self.rest) if listed is None else listed

    def pairs(self) -> tuple[Pair, ...]:
        keyword = self.source.keyword
        found = words.quoted_words(self.some(), self.escape)
        if "=" not in found[0]:
            name, *value = _SPACES.split(self.rest, maxsplit=1)
            if not value:
                raise Refused(f"{keyword} must have two arguments", f"{keyword} {name}=value")
            return (Pair(name, value[0]),)
        for word in found:
            if "=" not in word:
                raise Refused(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
            if word.startswith("="):
                raise Refused(f"{keyword} names can not be blank")
        return tuple(Pair(*word.split("=", 1)) for word in found)


@dataclass(frozen=True, slots=True)
class _Flags:
    values: Mapping[str, list[str]]

    def text(self, name: str) -> str:
        return self.values.get(name, [""])[0]

    def list(self, name: str) -> tuple[str, ...]:
        return tuple(self.values.get(name, ()))

    def switch(self, name: str) -> bool:
        return self.text(name) == "true"

    def maybe(self, name: str) -> bool | None:
        return self.switch(name) if name in self.values else None


def _from(request: _Request) -> From:
    given = request.flags(platform="text")
    arguments = _SPACES.split(request.rest)
    if not request.rest or len(arguments) not in (1, 3) or (len(arguments) == 3 and arguments[1].lower() != "as"):
        raise Refused("FROM requires either one or three arguments", "FROM image, or FROM image AS name")
    name = arguments[2].lower() if len(arguments) == 3 else ""
    if name and not _STAGE_NAME.fullmatch(name):
        reason = "name can't start with a number or contain symbols"
        raise Refused(f'invalid name for build stage: "{arguments[2]}", {reason}')
    return From(request.source, arguments[0], name, given.text("platform"))


def _run(request: _Request) -> Run:
    given = request.flags(mount="list", network="text", security="text", device="list")
    request.some()
    mounts = tuple(flags.mount(value) for value in given.list("mount"))
    for name, allowed in (("network", ("default", "none", "host")), ("security", ("sandbox", "insecure"))):
        if given.text(name) and given.text(name) not in allowed:
            raise Refused(f'{name} mode "{given.text(name)}" is not supported', f"one of {', '.join(allowed)}")
    command = request.command()
    if not command.words:
        raise Refused("RUN requires at least one argument")
    return Run(
        request.source, command, request.line.heredocs, mounts, given.text("network"), given.text("security"),
        given.list("device"),
    )  # fmt: skip


def _copy(request: _Request) -> Copy:
    add = request.source.keyword == "ADD"
    only_add = {"checksum": "text", "keep_git_dir": "switch", "unpack": "switch"}
    only_copy = {"from": "text", "parents": "switch"}
    extra = only_add if add else only_copy
    given = request.flags(chown="text", chmod="text", link="switch", exclude="list", **extra)
    arguments = request.list() if request.rest else []
    if len(arguments) < 2:
        reason = "at least two arguments, but only one was provided. Destination could not be determined"
        raise Refused(f"{request.source.keyword} requires {reason}")
    *sources, destination = arguments
    if heredoc(destination):
        raise Refused(f"{request.source.keyword} cannot accept a heredoc as a destination")
    if "$" in given.text("from"):
        hint = "name a stage with FROM ${IMAGE} AS name, and copy from it"
        raise Refused("variable expansion is not supported for --from", hint)
    opened = [heredoc(word) for word in sources]
    bodies = {document.name: document for document in request.line.heredocs}
    documents = tuple(bodies[document.name] for document in opened if document and document.name in bodies)
    plain = tuple(word for word, document in zip(sources, opened, strict=True) if not document)
    return Copy(
        request.source, add, plain, documents, destination, given.text("from"), given.text("chown"),
        given.text("chmod"), given.switch("link"), given.switch("parents"), given.list("exclude"),
        given.text("checksum"), given.maybe("keep-git-dir"), given.maybe("unpack"),
    )  # fmt: skip


def _arg(request: _Request) -> Arg:
    names: list[tuple[str, str | None]] = []
    request.some()
    for word in words.quoted_words(request.rest, request.escape):
        name, equals, value = word.partition("=")
        if not name:
            raise Refused("ARG names can not be blank")
        names.append((name, value if equals else None))
    return Arg(request.source, tuple(names))


def _volume(request: _Request) -> Volume:
    request.some()
    paths = tuple(path.strip() for path in request.list())
    if not all(paths):
        raise Refused("VOLUME specified can not be an empty string")
    return Volume(request.source, paths)


def _shell(request: _Request) -> Shell:
    listed = json_list(request.some())
    if listed is None:
        raise Refused("SHELL requires the arguments to be in JSON form", 'SHELL ["/bin/sh", "-c"]')
    if not listed:
        raise Refused("SHELL requires at least one argument")
    return Shell(request.source, tuple(listed))


def _healthcheck(request: _Request) -> HealthCheck:
    texts = ("interval", "timeout", "start_period", "start_interval", "retries")
    given = request.flags(**dict.fromkeys(texts, "text"))
    kind, *rest = _SPACES.split(request.some(), maxsplit=1)
    request.rest = rest[0] if rest else ""
    if kind.upper() == "NONE":
        if request.rest:
            raise Refused("HEALTHCHECK NONE takes no arguments")
        return HealthCheck(request.source, Healthcheck(test=("NONE",)))
    if kind.upper() != "CMD":
        raise Refused(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    command = request.command()
    if not request.rest or not command.words:
        raise Refused("Missing command after HEALTHCHECK CMD")
    retries = given.text("retries") or "0"
    if not re.fullmatch(r"[+-]?\d+", retries) or int(retries) < 0:
        raise Refused(f"--retries must be a number that is not negative ({retries})")
    test = ("CMD-SHELL" if command.shell else "CMD", *command.words)
    times = {name: _nanoseconds(name, given.text(name.replace("_", "-"))) for name in texts[:-1]}
    return HealthCheck(request.source, Healthcheck(test=test, retries=int(retries), **times))


def _nanoseconds(name: str, text: str) -> int:
    """Read Go's duration (`1m30s`, `500ms`); 0 is the default, and less than 1 ms is refused."""
    units = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    part = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)"
    if text in ("", "0"):
        return 0
    if not re.fullmatch(f"(?:{part})+", text):
        raise Refused(f'time: invalid duration "{text}"', f"--{name.replace('_', '-')}=1m30s")
    total = sum(float(number) * units[unit] for number, unit in re.findall(part, text))
    if 0 < total < 10**6:
        raise Refused(f'Interval "{name.replace("_", "-")}" cannot be less than 1ms')
    return round(total)


def _onbuild(request: _Request) -> OnBuild:
    line = request.line
    trigger = request.some().split(None, 1)[0].upper()
    if trigger == "ONBUILD":
        raise Refused("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise Refused(f"{trigger} isn't allowed as an ONBUILD trigger")
    instruction = parse(Line(line.start, line.end, request.rest, (), line.heredocs), request.escape)
    bodies = "".join(f"\n{document.body}{document.name}" for document in line.heredocs)
    return OnBuild(request.source, request.rest + bodies, instruction)


_READERS: Mapping[str, Callable[[_Request], Instruction]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": lambda request: Cmd(request.source, request.command()),
    "COPY": _copy,
    "ENTRYPOINT": lambda request: Entrypoint(request.source, request.command()),
    "ENV": lambda request: Env(request.source, request.pairs()),
    "EXPOSE": lambda request: Expose(request.source, tuple(_SPACES.split(request.some()))),
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": lambda request: Label(request.source, request.pairs()),
    "MAINTAINER": lambda request: Maintainer(request.source, request.one()),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda request: StopSignal(request.source, request.one()),
    "USER": lambda request: User(request.source, request.one()),
    "VOLUME": _volume,
    "WORKDIR": lambda request: Workdir(request.source, request.one()),
}

KEYWORDS = tuple(_READERS)
