"""The verbs that look into a container, or listen to the engine.

Interface:
- `Top`, `Port`, `Diff`, `Export`, `Events`: frozen dataclasses with `do(session)`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from glassdock import errors
from glassdock.client.containers import filter_map
from glassdock.client.mapping import mapped
from glassdock.client.session import Session

_KINDS = ("C", "A", "D")


@dataclass(frozen=True, slots=True)
class Top:
    """`docker top`: the processes of a container."""

    name: str
    arguments: tuple[str, ...] = ()

    def do(self, session: Session) -> Mapping[str, Any]:
        """`Titles` and `Processes`. Raises `Conflict` where it does not run."""
        with mapped(session.address):
            found: Mapping[str, Any] = session.api.top(self.name, " ".join(self.arguments) or None)
        return found


@dataclass(frozen=True, slots=True)
class Port:
    """`docker port`: where a container's ports are published; `port` is "" for all, or PORT[/PROTOCOL]."""

    name: str
    port: str = ""

    def do(self, session: Session) -> tuple[str, ...]:
        """Docker's lines. Raises `NotFound` for a port that is not published."""
        with mapped(session.address):
            ports = session.api.inspect_container(self.name)["NetworkSettings"]["Ports"] or {}
        if not self.port:
            return tuple(f"{key} -> {place}" for key in sorted(ports) for place in _places(ports[key]))
        wanted = self.port if "/" in self.port else f"{self.port}/tcp"
        found = _places(ports.get(wanted))
        if not found:
            raise errors.NotFound(f"no public port '{wanted}' published for {self.name}")
        return found


@dataclass(frozen=True, slots=True)
class Diff:
    """`docker diff`: what a container changed in its file system."""

    name: str

    def do(self, session: Session) -> tuple[str, ...]:
        """A letter (A added, C changed, D deleted) and a path each."""
        with mapped(session.address):
            return tuple(f"{_KINDS[row['Kind']]} {row['Path']}" for row in session.api.diff(self.name) or ())


@dataclass(frozen=True, slots=True)
class Export:
    """`docker export`: a container's whole file system as a tar, piece by piece to `write`."""

    name: str
    write: Callable[[bytes], Any]

    def do(self, session: Session) -> None:
        """Write it."""
        with mapped(session.address):
            for piece in session.api.export(self.name):
                self.write(piece)


@dataclass(frozen=True, slots=True)
class Events:
    """`docker events`: what happened `since`, and what happens `until`: Unix seconds, "" for now and for ever."""

    since: str = ""
    until: str = ""
    filters: tuple[str, ...] = ()
    tell: Callable[[Mapping[str, Any]], Any] = print

    def do(self, session: Session) -> None:
        """Tell each event as it comes."""
        wanted = filter_map(self.filters)
        with mapped(session.address):
            stream = session.api.events(
                since=self.since or None, until=self.until or None, filters=wanted or None, decode=True
            )
            with contextlib.closing(stream):
                for event in stream:
                    self.tell(event)


def _places(bindings: Any) -> tuple[str, ...]:
    return tuple(f"{one['HostIp']}:{one['HostPort']}" for one in bindings or ())
