"""The instructions of a Dockerfile as typed values, exactly as written: no variable is replaced yet.

Interface: one frozen class an instruction (`From`, `Run`, `Copy`, ...), each with its `source` (keyword, text, lines).

Rules: everything in the reference has a place here, also what the builder does not do yet.
Source: https://docs.docker.com/reference/dockerfile/#overview
"""

from __future__ import annotations

from dataclasses import dataclass

from glassdock.build.flags import Mount
from glassdock.build.lines import Heredoc
from glassdock.oci.image import Healthcheck


@dataclass(frozen=True, slots=True)
class Source:
    """Where an instruction stands: `text` is the line as written with its continuations joined."""

    keyword: str
    text: str
    start: int
    end: int
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: the words of the JSON form, or one text for the shell."""

    words: tuple[str, ...]
    shell: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """A name and its value, both unexpanded."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class From:
    """The beginning of a stage."""

    source: Source
    image: str
    name: str
    platform: str


@dataclass(frozen=True, slots=True)
class Run:
    """A command whose changes make a layer."""

    source: Source
    command: Command
    heredocs: tuple[Heredoc, ...]
    mounts: tuple[Mount, ...]
    network: str
    security: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY, or ADD where `add`. `documents` are sources given inline; `unpack` and `keep_git_dir` None if not said."""

    source: Source
    add: bool
    sources: tuple[str, ...]
    documents: tuple[Heredoc, ...]
    destination: str
    from_: str
    chown: str
    chmod: str
    link: bool
    parents: bool
    excludes: tuple[str, ...]
    checksum: str
    keep_git_dir: bool | None
    unpack: bool | None


@dataclass(frozen=True, slots=True)
class Env:
    """Variables of the image."""

    source: Source
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """Labels of the image."""

    source: Source
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Arg:
    """Variables of the build; the value is None where there is no default."""

    source: Source
    names: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Workdir:
    """The working directory from here on."""

    source: Source
    path: str


@dataclass(frozen=True, slots=True)
class User:
    """Who runs from here on."""

    source: Source
    user: str


@dataclass(frozen=True, slots=True)
class Cmd:
    """The default command, or the arguments of the entry point."""

    source: Source
    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """The program that a container is."""

    source: Source
    command: Command


@dataclass(frozen=True, slots=True)
class Expose:
    """Ports, as written."""

    source: Source
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """Paths that are volumes in every container."""

    source: Source
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shell:
    """The shell of the shell forms from here on."""

    source: Source
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopSignal:
    """What asks the container to end."""

    source: Source
    signal: str


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How to find out whether the container works."""

    source: Source
    check: Healthcheck


@dataclass(frozen=True, slots=True)
class Maintainer:
    """The author (LABEL has replaced it)."""

    source: Source
    author: str


@dataclass(frozen=True, slots=True)
class OnBuild:
    """An instruction for builds that start from this image; `expression` as the image's config keeps it."""

    source: Source
    expression: str
    trigger: Instruction


Instruction = (
    From | Run | Copy | Env | Label | Arg | Workdir | User | Cmd | Entrypoint | Expose | Volume | Shell | StopSignal
    | HealthCheck | Maintainer | OnBuild
)  # fmt: skip
