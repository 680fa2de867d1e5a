"""What containers use, and changing what they may use: `docker stats` and `docker update`.

Interface:
- `Stats(names, everyone, stream)`: a verb; `do` gives a tuple of `Usage` a second, or one alone.
- `Update(names, changes)`: a verb; `changes` is the body of the request.

Rules: the numbers are differences between two looks, a second apart; the engine is asked for single looks, so that
containers may come and go between them.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#operation/ContainerStats; how a share of the
processors is computed is docker/cli's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from glassdock import errors
from glassdock.client.containers import each
from glassdock.client.mapping import mapped
from glassdock.client.session import Session

_EVERY = 1.0
_Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """One container's line; percentages are of one processor and of the limit, the rest bytes and counts.

    `running` is false where there are no numbers.
    """

    id: str
    name: str
    running: bool = False
    cpu: float = 0.0
    memory: int = 0
    limit: int = 0
    received: int = 0
    sent: int = 0
    read: int = 0
    written: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """`docker stats`: of these containers, of those that run, or of `everyone`."""

    names: tuple[str, ...] = ()
    everyone: bool = False
    stream: bool = True

    def do(self, session: Session) -> Iterator[tuple[Usage, ...]]:
        """A tuple a second in the order of the names; raises NotFound for a name that there is not."""
        before = self._look(session)
        while True:
            time.sleep(_EVERY)
            now = self._look(session)
            yield tuple(usage(raw, before.get(identity)) for identity, raw in now.items())
            if not self.stream:
                return
            before = now

    def _look(self, session: Session) -> dict[str, _Raw]:
        """The engine's numbers by the container's id. A container that has gone since is gone."""
        base = f"{session.api.base_url}/v{session.api.api_version}/containers"
        names = self.names
        if not names:
            with mapped(session.address):
                names = tuple(row["Id"] for row in session.api.containers(all=self.everyone))
        found: dict[str, _Raw] = {}
        for name in names:
            with mapped(session.address):
                response = session.api.get(f"{base}/{name}/stats", params={"stream": "0", "one-shot": "1"})
            if response.status_code == 404 and not self.names:
                continue
            if response.status_code >= 400:
                raise errors.from_body(response.status_code, response.json())
            raw = response.json()
            found[raw["id"]] = raw
        return found


@dataclass(frozen=True, slots=True)
class Update:
    """`docker update`: limits and restart policy in the API's words, for each of the names."""

    names: tuple[str, ...]
    changes: Mapping[str, Any]

    def do(self, session: Session) -> tuple[str, ...]:
        """The names that were changed; the engine's warnings are noted."""

        def change(name: str) -> None:
            url = f"{session.api.base_url}/v{session.api.api_version}/containers/{name}/update"
            response = session.api.post(url, json=dict(self.changes))
            if response.status_code >= 400:
                raise errors.from_body(response.status_code, response.json())
            for warning in response.json().get("Warnings") or ():
                session.output.note(f"WARNING: {warning}")

        return each(self.names, session, change)


def usage(raw: _Raw, before: _Raw | None) -> Usage:
    """A line of two looks; without an earlier one nothing was used meanwhile."""
    name = str(raw["name"]).lstrip("/")
    memory = raw["memory_stats"]
    if "usage" not in memory:
        return Usage(raw["id"], name)
    networks = (raw.get("networks") or {}).values()
    moved = raw["blkio_stats"]["io_service_bytes_recursive"] or ()
    details = memory.get("stats") or {}
    # What the kernel would give back at once is not counted, as docker's client does.
    idle = details.get("total_inactive_file", details.get("inactive_file", 0))
    return Usage(
        id=raw["id"],
        name=name,
        running=True,
        cpu=_share(raw["cpu_stats"], before["cpu_stats"]) if before else 0.0,
        memory=memory["usage"] - (idle if idle < memory["usage"] else 0),
        limit=memory["limit"],
        received=sum(one["rx_bytes"] for one in networks),
        sent=sum(one["tx_bytes"] for one in networks),
        read=sum(one["value"] for one in moved if one["op"].lower() == "read"),
        written=sum(one["value"] for one in moved if one["op"].lower() == "write"),
        pids=raw["pids_stats"].get("current", 0),
    )


def _share(now: _Raw, before: _Raw) -> float:
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now["system_cpu_usage"] - before.get("system_cpu_usage", 0)
    if used <= 0 or passed <= 0 or "system_cpu_usage" not in before:
        return 0.0
    return float(used / passed * now["online_cpus"] * 100)
