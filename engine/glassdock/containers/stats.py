"""What containers use, second by second, for as many watchers as like.

Interface:
- `Collector`: `watch(reference)` gives a `Reading` a second until the container is removed; `read(container)` one, now.
- `Reading`: the moment, the group's numbers, the machine's processor time, the traffic of each interface.

Rules: a container that is watched is read once a second, however many watch; nobody watches: nothing is read. A
container that does not run has a reading without numbers, as Docker's. A watcher that is slow misses readings.

Sources: proc_stat(5), proc_pid_net(5), https://docs.docker.com/reference/api/engine/version/v1.47/#operation/ContainerStats
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from glassdock.containers import connections, spec
from glassdock.containers.model import Container
from glassdock.errors import NotFound, NotSupported
from glassdock.runtime import cgroups
from glassdock.runtime.cgroups import Stats

_EVERY = 1.0
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# proc_net_dev: the columns behind an interface's name, in Docker's words.
_COLUMNS = {"rx_bytes": 0, "rx_packets": 1, "rx_errors": 2, "rx_dropped": 3}
_COLUMNS |= {"tx_bytes": 8, "tx_packets": 9, "tx_errors": 10, "tx_dropped": 11}


@dataclass(frozen=True, slots=True)
class Reading:
    """One look. `stats` is None where the container does not run; times are nanoseconds."""

    taken: int = 0
    stats: Stats | None = None
    machine_time: int = 0
    processors: int = 0
    networks: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Feed:
    """A container that is watched; `next` becomes the next reading, or None when it has been removed."""

    task: asyncio.Task[None]
    next: asyncio.Future[Reading | None]
    watchers: int = 0


class Collector:
    """Reads the containers that somebody watches."""

    def __init__(self, find: Callable[[str], Container], tag: str) -> None:
        self._find = find
        self._tag = tag
        self._feeds: dict[str, _Feed] = {}

    def read(self, container: Container) -> Reading:
        """What it uses now."""
        if not container.state.running:
            return Reading()
        try:
            group = cgroups.open_cgroup(spec.cgroup_of(container.id, self._tag))
            stats = group.stats() if group.exists() else None
        except NotSupported:
            stats = Stats()  # no cgroup at all: what is known without one is told
        if stats is None:
            return Reading()  # it ends at this moment
        networks = {} if connections.network_of(container) == "host" else interfaces(container.state.pid)
        return Reading(time.time_ns(), stats, machine_time(), os.cpu_count() or 1, networks)

    async def watch(self, reference: str) -> AsyncGenerator[Reading, None]:
        """A reading at once, then one a second, until the container is removed. Raises NotFound."""
        identity = self._find(reference).id
        feed = self._feeds.get(identity)
        if feed is None:
            loop = asyncio.get_running_loop()
            task = loop.create_task(self._follow(identity), name=f"stats {identity[:12]}")
            feed = self._feeds[identity] = _Feed(task, loop.create_future())
        feed.watchers += 1
        try:
            while (reading := await asyncio.shield(feed.next)) is not None:
                yield reading
        finally:
            feed.watchers -= 1
            if not feed.watchers:
                feed.task.cancel()
                if self._feeds.get(identity) is feed:
                    del self._feeds[identity]

    async def close(self) -> None:
        """End all watching."""
        tasks = [feed.task for feed in self._feeds.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, identity: str) -> None:
        """Read once a second; however this ends, those who wait are told."""
        feed = self._feeds[identity]
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                reading = await asyncio.to_thread(self.read, self._find(identity))
                told, feed.next = feed.next, loop.create_future()
                told.set_result(reading)
                due = max(due + _EVERY, loop.time())
                await asyncio.sleep(due - loop.time())
        except NotFound:
            pass  # removed: the end of the stream
        finally:
            if not feed.next.done():
                feed.next.set_result(None)


def machine_time() -> int:
    """The time that all processors together have spent since the boot, idle time included, in nanoseconds."""
    with open("/proc/stat", encoding="utf-8") as file:
        words = file.readline().split()
    return sum(int(word) for word in words[1:8]) * _TICK


def interfaces(pid: int) -> dict[str, dict[str, int]]:
    """The traffic of each interface but the loopback in the network namespace of the process."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="utf-8") as file:
            lines = file.readlines()[2:]
    except OSError:
        return {}  # it has ended meanwhile
    found: dict[str, dict[str, int]] = {}
    for line in lines:
        name, _, rest = line.strip().partition(":")
        numbers = rest.split()
        if name != "lo":
            found[name] = {word: int(numbers[column]) for word, column in _COLUMNS.items()}
    return found
