"""The verbs that move a container from one state to another, beside those of `run.py` and `containers.py`.

Interface:
- `Pause`, `Unpause`, `Restart`, `Rename`, `Prune`: frozen dataclasses with `do(session)`.

Rules: as in `containers.py`: a verb on several names goes on after a failure and raises the first one at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glassdock.client.containers import each, filter_map
from glassdock.client.extras import post
from glassdock.client.mapping import mapped
from glassdock.client.session import Session


@dataclass(frozen=True, slots=True)
class Pause:
    """`docker pause`: stop all processes where they are."""

    names: tuple[str, ...]

    def do(self, session: Session) -> tuple[str, ...]:
        """The names that were paused."""
        return each(self.names, session, lambda name: session.api.pause(name))


@dataclass(frozen=True, slots=True)
class Unpause:
    """`docker unpause`: let them go on."""

    names: tuple[str, ...]

    def do(self, session: Session) -> tuple[str, ...]:
        """The names that go on."""
        return each(self.names, session, lambda name: session.api.unpause(name))


@dataclass(frozen=True, slots=True)
class Restart:
    """`docker restart`: stop and start; `time` None is the container's own grace."""

    names: tuple[str, ...]
    time: int | None = None
    signal: str = ""

    def do(self, session: Session) -> tuple[str, ...]:
        """The names that were restarted."""
        params = {"t": "" if self.time is None else str(self.time), "signal": self.signal}
        asked = {key: value for key, value in params.items() if value}
        return each(self.names, session, lambda name: post(session.client, f"containers/{name}/restart", asked).close())


@dataclass(frozen=True, slots=True)
class Rename:
    """`docker rename`."""

    name: str
    new: str

    def do(self, session: Session) -> None:
        """Give it the other name. Raises `Conflict` where that is taken."""
        with mapped(session.address):
            session.api.rename(self.name, self.new)


@dataclass(frozen=True, slots=True)
class Prune:
    """`docker container prune`: remove all containers that do not run."""

    filters: tuple[str, ...] = ()

    def do(self, session: Session) -> Mapping[str, Any]:
        """The API's answer: `ContainersDeleted`, `SpaceReclaimed`."""
        with mapped(session.address):
            found: Mapping[str, Any] = session.api.prune_containers(filter_map(self.filters))
        return found
