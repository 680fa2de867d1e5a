"""What the manager of containers works with: the subsystems, and what is held of a container while the daemon lives.

Interface: `Parts`, `Live`.

Rules: nothing here outlives the daemon; what does is the record (`model.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from glassdock.containers.model import Trace
from glassdock.containers.restarts import Backoff
from glassdock.errors import NotSupported
from glassdock.events import Bus
from glassdock.images.store import Store as ImageStore
from glassdock.network.manager import Manager as Networks
from glassdock.paths import Paths
from glassdock.runtime.launch import Attach, Launcher, Process
from glassdock.unionfs.overlay import Snapshotter
from glassdock.volumes import Volumes


@dataclass(slots=True)
class Live:
    """What the daemon holds of a container beside its record; gone with the daemon."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    process: Process | None = None
    oom_told: bool = False
    pending: list[Attach] = field(default_factory=list)
    next_exit: asyncio.Future[int] | None = None
    restart: asyncio.Task[None] | None = None
    health: asyncio.Task[None] | None = None
    backoff: Backoff = field(default_factory=Backoff)
    removed: asyncio.Event = field(default_factory=asyncio.Event)
    watcher: asyncio.Task[None] | None = None
    trace: Trace = field(default_factory=Trace)

    def end(self) -> asyncio.Future[int]:
        """The exit code of its next end; ask before what brings the end about."""
        if self.next_exit is None:
            self.next_exit = asyncio.get_running_loop().create_future()
        return asyncio.shield(self.next_exit)

    def tell(self, code: int) -> None:
        """Wake those who wait for the end."""
        if self.next_exit is not None and not self.next_exit.done():
            self.next_exit.set_result(code)
        self.next_exit = None


@dataclass(frozen=True, slots=True)
class Parts:
    """The subsystems that a container is made of."""

    paths: Paths
    images: ImageStore
    snapshots: Snapshotter
    networks: Networks
    launcher: Launcher | None
    events: Bus
    volumes: Volumes
    refusal: NotSupported | None = None

    def need_launcher(self) -> Launcher:
        """The launcher; raises NotSupported where this user cannot run containers."""
        if self.launcher is None:
            raise refused(self.refusal)
        return self.launcher


def refused(refusal: NotSupported | None) -> NotSupported:
    """Why there is no launcher, as an error of its own."""
    assert refusal is not None
    return NotSupported(refusal.message, refusal.remedy)
