"""The last verb: a container's record goes at once, its files soon after.

Interface: `Removal(held)`: `discard(container, live, volumes)`, `cleared()`.

Rules: the caller holds the container's lock, and nothing of it runs any more. The record goes first: a crash leaves a
folder and a layer that nobody names, which the next start removes.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from glassdock.containers.held import Held
from glassdock.containers.model import Container
from glassdock.containers.parts import Live
from glassdock.runtime.remains import settle


class Removal:
    """Takes containers away, and knows which files are still going."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._clearing: set[asyncio.Task[None]] = set()

    def discard(self, container: Container, live: Live, *, volumes: bool) -> None:
        """Forget it, tell who waits, and begin to remove its files, with `volumes` those that nobody named too."""
        gone = self._held.mounting.leave(container, remove=volumes)
        self._held.store.forget(container)
        self._held.told.keep(container, live.trace)
        clearing = asyncio.create_task(asyncio.to_thread(self._clear, container.id, gone))
        self._clearing.add(clearing)
        clearing.add_done_callback(self._clearing.discard)
        close_pending(live)
        live.removed.set()
        self._held.live.pop(container.id, None)
        live.tell(container.state.exit_code)
        self._held.event("destroy", container)

    async def cleared(self) -> None:
        """Until the files of removed containers are gone too."""
        while self._clearing:
            await asyncio.gather(*self._clearing)

    def _clear(self, identity: str, volumes: list[Path]) -> None:
        """Remove the files of a container that is gone: nobody waits for this, and a crash leaves it to repair."""
        settle(self._held.store.folder(identity) / "run")
        snapshots = self._held.parts.snapshots
        snapshots.remove(identity)
        snapshots.warm()
        self._held.store.clear(identity)
        for folder in volumes:
            self._held.parts.volumes.erase(folder)


def close_pending(live: Live) -> None:
    """Let go of the clients that attached before a start that did not come."""
    for attach in live.pending:
        os.close(attach.fd)
    live.pending.clear()
