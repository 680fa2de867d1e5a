"""After the daemon's own death: records and reality are brought together.

Interface: `await repair(held, runs, removal)`, once, after the records were loaded.

Rules: what runs goes on; an end that nobody saw is noted as if it had been seen; what was half removed goes; a start
that was cut off before the record said so is taken back, because nobody knows its place. Those whose restart policy
says so come up; those with --rm that do not run go.
"""

from __future__ import annotations

import asyncio
import signal
import time

from glassdock.containers import freezer, limits, restarts, spec
from glassdock.containers.connections import Connections
from glassdock.containers.held import Held
from glassdock.containers.model import Container, Status, move
from glassdock.containers.parts import Live
from glassdock.containers.removal import Removal
from glassdock.containers.runs import Runs
from glassdock.errors import GlassdockError, NotFound
from glassdock.runtime import cgroups, launch
from glassdock.runtime.launch import ExitStatus


async def repair(held: Held, runs: Runs, removal: Removal) -> None:
    """Reconnect to shims, note ends, drop half-removed containers, start those that come up by themselves."""
    for container in held.store.all():
        live = held.of(container)
        if container.state.status is Status.REMOVING:
            removal.discard(container, live, volumes=container.host.auto_remove)
            continue
        if container.state.status is Status.RESTARTING:
            await _interrupted(held, runs, container, live)
        elif (held.folder(container) / "run").exists() or container.state.running:
            await _reconnect(held, runs, container, live)
        if held.live.get(container.id) is not live:
            continue  # its end was noted just now, and with it it went
        if container.host.auto_remove and not container.state.running:
            move(container, Status.REMOVING)
            removal.discard(container, live, volumes=True)
        elif restarts.at_boot(container):
            move(container, Status.RESTARTING)
            runs.schedule(container, live, 0.0)


async def _reconnect(held: Held, runs: Runs, container: Container, live: Live) -> None:
    try:
        found = await launch.reconnect(held.folder(container) / "run")
    except NotFound:  # its start was refused, or nobody was left to carry it out
        if not container.state.running:
            return
        found = ExitStatus(code=128 + signal.SIGKILL, oom_killed=False, finished_at_ns=time.time_ns())
    if isinstance(found, ExitStatus):
        if container.state.running:
            await runs.ended(container, live, found)
        return
    if not container.state.running:
        await found.signal(signal.SIGKILL)
        await found.wait()
        return
    container.state.pid = found.pid
    held.mounting.resume(container)
    await Connections(held).again(container)
    freezer.notice(container, held.parts.paths.tag)
    if container.limits_due:
        await _limit(held, container)
    held.save(container)
    runs.watch(container, live, found)


async def _limit(held: Held, container: Container) -> None:
    """Carry out an update that was cut off; what the kernel refuses is in the record, where `inspect` shows it."""
    try:
        group = cgroups.open_cgroup(spec.cgroup_of(container.id, held.parts.paths.tag))
        await asyncio.to_thread(group.apply, limits.resources(container.host))
    except GlassdockError as error:
        container.state.error = f"the limits of an update do not hold: {error}"
    container.limits_due = False


async def _interrupted(held: Held, runs: Runs, container: Container, live: Live) -> None:
    """It waited to be started again, or was just being started: it is started now."""
    try:
        found = await launch.reconnect(held.folder(container) / "run")
    except NotFound:
        found = None
    if isinstance(found, launch.Process):
        await found.signal(signal.SIGKILL)
        await found.wait()
    runs.schedule(container, live, 0.0)
