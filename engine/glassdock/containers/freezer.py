"""Pause: the kernel's freezer stops every process of a container where it is.

Interface:
- `await freeze(container, tag, frozen=...)` also moves the record's state.
- `notice(container, tag)`: after the daemon's death the record's state becomes what the kernel says.

Rules: the caller holds the container's lock and saves the record. What is frozen hears no signal but on cgroup v2
SIGKILL: who sends one lets it go on.

Sources: https://docs.kernel.org/admin-guide/cgroup-v1/freezer-subsystem.html, .../cgroup-v2.html (cgroup.freeze)
"""

from __future__ import annotations

import asyncio

from glassdock import trace
from glassdock.containers import spec
from glassdock.containers.model import Container, Status, move
from glassdock.errors import Conflict, GlassdockError, NotSupported
from glassdock.runtime import cgroups


async def freeze(container: Container, tag: str, *, frozen: bool) -> None:
    """Pause, or let go on. Raises Conflict in Docker's words, NotSupported."""
    status = container.state.status
    if status is Status.RESTARTING:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if not container.state.running:
        raise Conflict(f"Container {container.id} is not running")
    if frozen and status is Status.PAUSED:
        raise Conflict(f"Container {container.id} is already paused")
    if not frozen and status is not Status.PAUSED:
        raise Conflict(f"Container {container.id} is not paused")
    if reason := cgroups.unavailable():
        raise NotSupported(f"a container cannot be paused here: {reason}", "`glassdock doctor` says what would help.")
    group = cgroups.open_cgroup(spec.cgroup_of(container.id, tag))
    with trace.span("containers.freeze", frozen=frozen):
        try:
            await asyncio.to_thread(group.freeze, frozen)
        except OSError as error:  # a TimeoutError is one
            verb = "pause" if frozen else "unpause"
            raise GlassdockError(f"Cannot {verb} container {container.id}: {error}") from error
    move(container, Status.PAUSED if frozen else Status.RUNNING)


def notice(container: Container, tag: str) -> None:
    """A daemon that was killed may have frozen or let go without writing it down."""
    if not cgroups.unavailable():
        frozen = cgroups.frozen(spec.cgroup_of(container.id, tag))
        container.state.status = Status.PAUSED if frozen else Status.RUNNING
