"""Behind the path of a start: the threads that talk to the kernel, the places kept ready, the cables that go.

Interface:
- `Yard(home)`: `path` is the thread for what somebody waits for; `on_path(work, ...)`, `behind(work, ...)`.
- `refill_soon(seconds)`: make places for `bridges` and without a cable; `alone()` takes one of the latter.
- `retire(bridged, cable, descriptor)`: unplug now, destroy soon; `empty(bridged)`; `rest()` until nothing is going on.

Rules: whoever talks to the kernel waits for its lock, so it does so in a thread that is at home (`home.py`). What could
not be done behind the path is told in `problems`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from glassdock.errors import GlassdockError
from glassdock.network import namespaces
from glassdock.network.bridged import Bridged
from glassdock.network.namespaces import Place

QUIET = 0.03  # seconds after an attach before the background may take the processor
_ALONE = 3  # places without a cable kept ready; how many with one, each bridge says

T = TypeVar("T")


class Yard:
    """Threads, places ahead of need, cables behind it; `enter` takes a thread home."""

    def __init__(self, enter: Callable[[], None]) -> None:
        self.bridges: dict[str, Bridged] = {}
        self.background: set[asyncio.Task[None]] = set()
        self.timer: asyncio.TimerHandle | None = None
        self.problems: list[str] = []
        self._alone: deque[Place] = deque()
        self._graves: dict[str, list[int]] = {}
        self._filling: asyncio.Task[None] | None = None
        # One thread for what somebody waits for, two for what nobody does: making and destroying.
        self._path = ThreadPoolExecutor(1, "network", enter)
        self._yard = ThreadPoolExecutor(2, "network-yard", enter)

    async def on_path(self, work: Callable[..., T], *arguments: object) -> T:
        """Do what somebody waits for."""
        return await asyncio.get_running_loop().run_in_executor(self._path, work, *arguments)

    async def behind(self, work: Callable[..., T], *arguments: object) -> T:
        """Do what nobody waits for."""
        return await asyncio.get_running_loop().run_in_executor(self._yard, work, *arguments)

    def alone(self) -> Place | None:
        """A place without a cable, where one is ready."""
        return self._alone.popleft() if self._alone else None

    def problem(self, text: str) -> None:
        """Tell what could not be done, once."""
        if text not in self.problems:
            self.problems.append(text)

    def refill_soon(self, seconds: float = QUIET) -> None:
        """Make what is missing, once it is quiet."""
        if self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(seconds, self._begin_refill)

    def _begin_refill(self) -> None:
        self.timer = None
        if self._filling is None or self._filling.done():
            self._filling = self._spawn(self._refill())

    async def _refill(self) -> None:
        try:
            for bridged in list(self.bridges.values()):
                while len(bridged.ready) < bridged.wanted:
                    bridged.ready.append(await self.behind(bridged.make))
            while len(self._alone) < _ALONE:
                self._alone.append(await self.behind(namespaces.make))
        except GlassdockError:
            return  # a bridge is full: whoever comes next makes a place on the path, and is told so
        except OSError as error:
            self.problem(f"no places ahead of need: {error}")

    async def retire(self, bridged: Bridged, cable: str, descriptor: int | None) -> None:
        """Unplug a cable now; destroy it and its namespace soon, together with others that wait for the same."""
        waiting = self._graves.setdefault(bridged.network.id, [])
        if not waiting:
            self._spawn(self._dig(bridged))
        waiting.append(-1 if descriptor is None else descriptor)
        await self.on_path(bridged.unplug, cable)

    async def _dig(self, bridged: Bridged) -> None:
        await asyncio.sleep(QUIET)
        descriptors = [found for found in self._graves.pop(bridged.network.id) if found >= 0]
        try:
            await self.behind(bridged.destroy, descriptors)
        except OSError as error:
            self.problem(f"cables of network {bridged.network.name} are left over: {error}")

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task

    async def rest(self) -> None:
        """Until nothing is going on."""
        while self.background:
            await asyncio.gather(*self.background)

    async def empty(self, bridged: Bridged) -> None:
        """Destroy the places that are kept ready."""
        places = list(bridged.ready)
        bridged.ready.clear()
        for place in places:
            await self.behind(bridged.unplug, place.cable)
            place.door.close()
        await self.behind(bridged.destroy, [place.fd for place in places])

    async def stop(self) -> None:
        """Nothing is begun any more, what was is done, and the places that were ready are gone."""
        if self.timer is not None:
            self.timer.cancel()
        await self.rest()
        while self._alone:
            self._alone.popleft().close()

    def close(self) -> None:
        """Let the threads go."""
        self._path.shutdown()
        self._yard.shutdown()
