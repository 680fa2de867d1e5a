"""The record of a container, and the states it moves through.

Interface: `Container`, `State`, `Status`, `MOVES` (the state machine as a table), `move(container, status)`.

Rules: a record is what survives the daemon; whatever runs is held by `manager.py`. Times are wall-clock
nanoseconds, 0 for never.
"""

from __future__ import annotations

import enum
import socket
from dataclasses import dataclass, field

import msgspec

from glassdock.containers.config import Config, HostConfig, NetworkingConfig, words
from glassdock.containers.mountpoints import Point
from glassdock.errors import Conflict
from glassdock.network.model import Endpoint, PortBinding
from glassdock.trace import Span

_MOST_SPANS = 4000


class Status(enum.StrEnum):
    """Docker's words for where a container is in its life."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


MOVES: dict[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.RUNNING, Status.REMOVING}),
    Status.RUNNING: frozenset({Status.EXITED, Status.PAUSED, Status.RESTARTING}),
    Status.PAUSED: frozenset({Status.RUNNING, Status.EXITED, Status.RESTARTING}),
    Status.RESTARTING: frozenset({Status.RUNNING, Status.EXITED}),
    Status.EXITED: frozenset({Status.RUNNING, Status.RESTARTING, Status.REMOVING}),
    Status.REMOVING: frozenset({Status.DEAD}),
    Status.DEAD: frozenset({Status.REMOVING}),
}


class State(msgspec.Struct):
    """Where it is now; `exit_code` and `error` are of the last run."""

    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: int = 0
    finished_at: int = 0

    @property
    def running(self) -> bool:
        """As Docker counts it: while its process lives, and while it waits to be started again."""
        return self.status in (Status.RUNNING, Status.PAUSED, Status.RESTARTING)


class HealthResult(msgspec.Struct, frozen=True):
    """One probe of a health check: 0 is good; -1 could not be run, or took too long."""

    start: int
    end: int
    exit_code: int
    output: str


class Health(msgspec.Struct):
    """How it is: `starting`, `healthy`, `unhealthy`; the last results, oldest first."""

    status: str = "starting"
    failing_streak: int = 0
    log: tuple[HealthResult, ...] = ()


class EndpointRecord(msgspec.Struct, frozen=True):
    """How the container is plugged in, for `inspect` and for repair after a crash."""

    network_id: str
    network_name: str
    address: str = ""
    prefix: int = 0
    gateway: str = ""
    mac: str = ""
    ports: tuple[PortBinding, ...] = ()

    @classmethod
    def of(cls, endpoint: Endpoint) -> EndpointRecord:
        """What is kept of an endpoint."""
        return cls(
            network_id=endpoint.network_id,
            network_name=endpoint.network_name,
            address=endpoint.address,
            prefix=endpoint.prefix,
            gateway=endpoint.gateway,
            mac=endpoint.mac,
            ports=endpoint.ports,
        )


class Container(msgspec.Struct):
    """One container: what was asked, what it was made from, where it is now. `config` is already merged."""

    id: str
    name: str
    created: int
    image: str
    config: Config
    host: HostConfig
    networking: NetworkingConfig
    state: State = msgspec.field(default_factory=State)
    endpoints: tuple[EndpointRecord, ...] = ()
    health: Health | None = None
    restart_count: int = 0
    stopped_by_hand: bool = False
    mounts: tuple[Point, ...] = ()
    limits_due: bool = False  # `host` has limits that may not have reached the kernel yet

    @property
    def argv(self) -> tuple[str, ...]:
        """Entrypoint and command in one."""
        return (*words(self.config.entrypoint), *words(self.config.cmd))

    @property
    def hostname(self) -> str:
        """The name the container has for itself; on the machine's network it is the machine's, as with Docker."""
        own = socket.gethostname() if self.host.network_mode == "host" else self.id[:12]
        return self.config.hostname or own


@dataclass(slots=True)
class Trace:
    """The spans of a container's life so far, oldest first; of a long one the last 4,000 or so."""

    spans: list[Span] = field(default_factory=list)

    def add(self, spans: list[Span]) -> None:
        """Take in what one verb did; the oldest verbs go, whole."""
        self.spans += spans
        if len(self.spans) > _MOST_SPANS:
            rest = self.spans[len(self.spans) - _MOST_SPANS :]
            roots = [place for place, span in enumerate(rest) if not span.parent]
            self.spans[:] = rest[roots[0] :] if roots else rest


def move(container: Container, status: Status) -> None:
    """Change the state; raises Conflict where the table has no such move."""
    if status not in MOVES[container.state.status]:
        raise Conflict(f"container {container.name} is {container.state.status}, it cannot become {status}")
    container.state.status = status
