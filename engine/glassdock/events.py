"""What happened to which object: the stream behind `docker events`.

Interface:
- `Bus.publish(kind, action, actor, attributes)`: tell every listener; never blocks.
- `async for event in Bus.subscribe(): ...`: what happens from now on.
- `Bus.recent`: the last 1,000 events. `Bus.listeners`: how many listen.

Rules: a slow listener loses its oldest events, never anybody else's. Times are wall-clock nanoseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `kind` is Docker's Type (container, image, network, volume), `actor` the object's id."""

    kind: str
    action: str
    actor: str
    attributes: Mapping[str, str]
    time_ns: int


@dataclass(slots=True)
class Bus:
    """Everyone who wants to know, and what was said last."""

    recent: deque[Event] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _listeners: set[asyncio.Queue[Event]] = field(default_factory=set)

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def publish(self, kind: str, action: str, actor: str, attributes: Mapping[str, str] | None = None) -> None:
        """Tell every listener. Call it from the event loop's thread."""
        event = Event(kind, action, actor, dict(attributes or {}), time.time_ns())
        self.recent.append(event)
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    async def subscribe(self) -> AsyncGenerator[Event]:
        """Yield what happens from now on, until the caller stops."""
        queue: asyncio.Queue[Event] = asyncio.Queue(maxsize=_KEPT)
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)
