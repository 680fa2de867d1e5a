"""The verbs of a container: create, start, stop, kill, wait, remove, attach.

Interface: `Manager` (one an engine); each verb takes a reference (id, prefix, name) and says in Docker's words
what is wrong with it.

Rules: one verb at a time a container (its lock); half-made things are rolled back by an ExitStack. What a run is, and
what becomes of it at its end, is `runs.py`'s; what the next daemon makes of it, `repair.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import time
from pathlib import Path

from glassdock import trace
from glassdock.containers import config as configs
from glassdock.containers import connections, freezer, limits, modes, mounting, mountpoints, repair, restarts, spec
from glassdock.containers.config import CreateRequest, HostConfig
from glassdock.containers.connections import Connections
from glassdock.containers.execs import Execs
from glassdock.containers.health import Checks
from glassdock.containers.held import Held
from glassdock.containers.limits import Update
from glassdock.containers.model import Container, Status, Trace, move
from glassdock.containers.parts import Live, Parts
from glassdock.containers.removal import Removal, close_pending
from glassdock.containers.runs import Runs
from glassdock.containers.streams import Streams, pair
from glassdock.errors import Conflict, GlassdockError, InvalidParameter, NotFound, NotModified
from glassdock.runtime import cgroups
from glassdock.runtime.cgroup_support import support
from glassdock.runtime.launch import Attach

_STOP_GRACE = 10  # seconds between the stop signal and SIGKILL, as Docker's


class Manager:
    """Every container of the engine, and the verbs on them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._held = Held(parts)
        self._store = self._held.store
        self._removal = Removal(self._held)
        self.execs = Execs(self._held)
        self.connections = Connections(self._held)
        self._health = Checks(self._held, self.execs)
        self._runs = Runs(self._held, self._removal, self._health)

    # ---- looking

    def get(self, reference: str) -> Container:
        """The record; raises NotFound."""
        return self._held.get(reference)

    def all(self) -> list[Container]:
        """All records, newest first."""
        return self._store.all()

    def folder(self, container: Container) -> Path:
        """The container's own folder: record, log, hosts, run/."""
        return self._held.folder(container)

    def log_path(self, container: Container) -> Path:
        """Docker's json-file log."""
        return self._held.log_path(container)

    def event(self, action: str, container: Container, **more: str) -> None:
        """Tell the engine's events of a verb that others do on a container: export, archive-path, commit."""
        self._held.event(action, container, **more)

    def trace(self, reference: str) -> tuple[Container, Trace]:
        """What was recorded of the container's life so far; also of one of the last that were removed."""
        try:
            container = self.get(reference)
        except NotFound:
            return self._held.told.find(reference)
        return container, self._held.of(container).trace

    def using(self, image_id: str) -> list[Container]:
        """The containers that were made from an image."""
        return [container for container in self.all() if container.image == image_id]

    def lent(self, container: Container) -> contextlib.AbstractAsyncContextManager[None]:
        """Its volumes, mounted while somebody looks at its files."""
        return self._held.mounting.lent(container)

    # ---- the life of a container

    async def create(self, request: CreateRequest, name: str = "") -> tuple[Container, list[str]]:
        """Make a container, do not start it; returns it and warnings. NotFound where the image is not here."""
        with trace.recording("daemon") as recording, trace.span("containers.create", image=request.config.image):
            self._parts.need_launcher()
            with trace.span("images.find", reference=request.config.image):
                image = self._parts.images.get(request.config.image)
            host, discarded = limits.fit(request.host, support())
            container = Container(
                id=secrets.token_hex(32),
                name=self._store.check_name(name) if name else self._store.new_name(),
                created=time.time_ns(),
                image=image.id,
                config=configs.merge(request.config, image.config.config),
                host=host,
                networking=request.networking,
            )
            container.mounts = mountpoints.asked(container.config, host, lambda name: self._held.get(name).mounts)
            connections.settled(container, self._parts.networks.get)
            spec.check(container)
            modes.settle(container, self._held.get)
            with contextlib.ExitStack() as undo:
                # The layer first: a crash before the record leaves a layer that nobody names, which repair removes.
                with trace.span("unionfs.prepare", layers=len(image.layers)):
                    self._parts.snapshots.prepare(container.id, image.chain_id)
                    undo.callback(self._parts.snapshots.remove, container.id)
                if any(point.type == "volume" for point in container.mounts):
                    await self._held.mounting.make(container, undo)
                    self._store.check_name(container.name)  # somebody else may have taken it meanwhile
                with trace.span("containers.record", id=container.id[:12]):
                    self._store.add(container)
                undo.pop_all()
        self._held.of(container).trace.add(recording.spans)
        self._held.event("create", container)
        return container, [*discarded, *spec.warnings(container), *mounting.warnings(container)]

    async def start(self, reference: str) -> Container:
        """Run it; raises NotModified where it runs already, StartFailed where the kernel or the image refuses."""
        container = self.get(reference)
        live = self._held.of(container)
        async with live.lock:
            if container.state.status is Status.PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead", f"`unpause {container.name}`.")
            if container.state.running:
                raise NotModified(f"container {container.name} is already running")
            if container.state.status not in (Status.CREATED, Status.EXITED):
                raise Conflict("container is marked for removal and cannot be started")
            container.restart_count, container.stopped_by_hand = 0, False
            live.backoff = restarts.Backoff()
            await self._runs.begin(container, live)
        return container

    async def stop(self, reference: str, *, grace: float | None = None, signal_name: str = "") -> None:
        """Ask it to end, and after the grace kill it; raises NotModified where it does not run."""
        container = self.get(reference)
        live = self._held.of(container)
        async with live.lock:
            waiting = self._runs.give_up(container, live)
        if not waiting:
            if live.process is None or not container.state.running:
                raise NotModified(f"container {container.name} is not running")
            if grace is None:
                grace = _STOP_GRACE if container.config.stop_timeout is None else container.config.stop_timeout
            await self._end(container, live, grace, spec.signal_number(signal_name or _stop_signal(container)))
        self._held.event("stop", container)

    async def _end(self, container: Container, live: Live, grace: float, number: int) -> None:
        """Send the stop signal, and after the grace SIGKILL; a negative grace has no end."""
        self._by_hand(container)
        ending = live.end()
        await self._send(container, live, number)
        try:
            await asyncio.wait_for(ending, None if grace < 0 else grace)
        except TimeoutError:
            ending = live.end()
            if live.process is not None:
                await self._send(container, live, signal.SIGKILL)
                await ending

    async def kill(self, reference: str, signal_name: str = "KILL") -> None:
        """Send a signal to its first process; raises Conflict where it does not run."""
        container = self.get(reference)
        number = spec.signal_number(signal_name)
        live = self._held.of(container)
        async with live.lock:
            if self._runs.give_up(container, live):
                return
        if live.process is None or not container.state.running:
            raise Conflict(f"cannot kill container: {reference}: container {container.id} is not running")
        own = container.config.stop_signal
        if not own or number in (signal.SIGKILL, spec.signal_number(own)):
            self._by_hand(container)
        ending = live.end()
        await self._send(container, live, number)
        if number == signal.SIGKILL:
            await ending

    def _by_hand(self, container: Container) -> None:
        """It is meant to end: no policy starts it again."""
        container.stopped_by_hand = True
        self._held.save(container)

    async def _send(self, container: Container, live: Live, number: int) -> None:
        """Send a signal and tell of it, as Docker does also for those of a stop."""
        await self._signal(container, live, number)
        self._held.event("kill", container, signal=str(number))

    async def _signal(self, container: Container, live: Live, number: int) -> None:
        if live.process is None:
            return  # it ended between the look and the signal, which is what the signal was for
        with (
            trace.recording("daemon") as recording,
            trace.span("containers.signal", signal=number),
            contextlib.suppress(Conflict),  # the shim knows of the end already, we hear of it next
        ):
            await live.process.signal(number)
        if container.state.status is Status.PAUSED:  # what is frozen does not hear
            await self.unpause(container.id)
        live.trace.add(recording.spans)

    async def pause(self, reference: str) -> None:
        """Stop all its processes where they are; raises Conflict where it does not run, or is paused."""
        await self._freeze(reference, "pause")

    async def unpause(self, reference: str) -> None:
        """Let them go on; raises Conflict where it is not paused."""
        await self._freeze(reference, "unpause")

    async def _freeze(self, reference: str, verb: str) -> None:
        container = self.get(reference)
        live = self._held.of(container)
        async with live.lock:
            await freezer.freeze(container, self._parts.paths.tag, frozen=verb == "pause")
            if verb == "pause":
                self._health.end(container, live)
            else:
                self._health.begin(container, live, anew=False)
            self._held.save(container)
        self._held.event(verb, container)

    async def restart(self, reference: str, *, grace: float | None = None, signal_name: str = "") -> None:
        """Stop and start."""
        with contextlib.suppress(NotModified):
            await self.stop(reference, grace=grace, signal_name=signal_name)
        container = await self.start(reference)
        self._held.event("restart", container)

    async def wait(self, reference: str, condition: str = "not-running") -> int:
        """The exit code, once `condition` holds: not-running, next-exit or removed."""
        container = self.get(reference)
        live = self._held.of(container)
        if condition == "removed":
            await live.removed.wait()
        elif condition == "next-exit":
            return await live.end()
        elif condition in ("", "not-running"):
            if container.state.running:
                return await live.end()
        else:
            raise InvalidParameter(f"invalid condition: {condition!r}", "Use not-running, next-exit or removed.")
        return container.state.exit_code

    async def remove(self, reference: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it and its writable layer, with `volumes` those that nobody named; a running one only by `force`."""
        container = self.get(reference)
        live = self._held.of(container)
        if container.state.running:
            if not force:
                status = container.state.status
                raise Conflict(
                    f'cannot remove container "/{container.name}": container is {status}: '
                    + (
                        "unpause and then stop the container before removing or force remove"
                        if status is Status.PAUSED
                        else "stop the container before removing or force remove"
                    ),
                    f"`stop {container.name}` first, or remove it with --force.",
                )
            await self._kill_for_good(container, live)
        async with live.lock:
            if live.removed.is_set():
                raise NotFound(f"No such container: {reference}")
            move(container, Status.REMOVING)
            self._removal.discard(container, live, volumes=volumes)

    async def _kill_for_good(self, container: Container, live: Live) -> None:
        async with live.lock:
            if self._runs.give_up(container, live):
                return
        self._by_hand(container)
        ending = live.end()
        if live.process is not None:
            await self._send(container, live, signal.SIGKILL)
            await ending

    async def cleared(self) -> None:
        """Until the files of removed containers are gone too."""
        await self._removal.cleared()

    async def rename(self, reference: str, name: str) -> None:
        """Give it another name."""
        container = self.get(reference)
        old = container.name
        self._store.rename(container, name)
        self.connections.renamed(container)
        self._held.event("rename", container, oldName=f"/{old}")

    async def update(self, reference: str, asked: Update) -> list[str]:
        """Other limits, at once where it runs, and another restart policy; returns warnings.

        Raises InvalidParameter, Conflict where old and new contradict each other or the kernel refuses.
        """
        container = self.get(reference)
        restarts.check(asked.restart_policy, auto_remove=False)
        fitted, warnings = limits.fit(asked, support(), update=True)
        async with self._held.of(container).lock:
            try:
                if container.state.status in (Status.REMOVING, Status.DEAD):
                    raise Conflict('container is marked for removal and cannot be "update"')
                host = limits.changed(container.host, fitted)
                cgroups.check(limits.resources(host))
                warnings += await self._limit(container, host)
                if container.state.running and cgroups.unavailable() and fitted.pids_limit is not None:
                    warnings.append("Without a cgroup the PIDs limit holds from the next start on.")
            except GlassdockError as error:
                raise type(error)(f"Cannot update container {container.id}: {error}") from error
        self._held.event("update", container)
        return warnings

    async def _limit(self, container: Container, host: HostConfig) -> list[str]:
        """Write the limits down before the kernel has them: a daemon that dies between the two leaves no riddle."""
        before, container.host = container.host, host
        container.limits_due = container.state.status in (Status.RUNNING, Status.PAUSED) and not cgroups.unavailable()
        self._held.save(container)
        if not container.limits_due:
            return []
        try:
            group = cgroups.open_cgroup(spec.cgroup_of(container.id, self._parts.paths.tag))
            return await asyncio.to_thread(group.apply, limits.resources(host))
        except BaseException:
            container.host = before
            raise
        finally:
            container.limits_due = False
            self._held.save(container)

    async def attach(self, reference: str, streams: Streams) -> int:
        """A socket to the container's streams (a file descriptor); before the start it is kept for the start."""
        container = self.get(reference)
        live = self._held.of(container)
        if container.state.status is Status.PAUSED:
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        if container.state.status is Status.RESTARTING:
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
        self._held.event("attach", container)
        if live.process is not None:
            connected = await live.process.attach(stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr)
            return connected.detach()
        ours, theirs = pair()
        live.pending.append(Attach(fd=theirs, stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr))
        return ours

    async def resize(self, reference: str, height: int, width: int) -> None:
        """Tell the terminal its size; raises Conflict where nothing runs."""
        container = self.get(reference)
        process = self._held.of(container).process
        if process is None:
            raise Conflict(f"container {container.id} is not running")
        await process.resize(height, width)
        self._held.event("resize", container, height=str(height), width=str(width))

    # ---- after the daemon's own death

    def load(self) -> list[Container]:
        """Read the records of an earlier daemon; before `repair`."""
        found = self._store.load()
        self._parts.volumes.load()
        names = {
            container.id: {point.name for point in container.mounts if point.type == "volume"} for container in found
        }
        self._parts.volumes.repair(names)
        return found

    async def repair(self) -> None:
        """Bring records and reality together at start."""
        await repair.repair(self._held, self._runs, self._removal)
        self._parts.volumes.settle()

    async def close(self) -> None:
        """Let go of everything; containers run on."""
        await self.execs.close()
        await self._runs.close()
        await self.cleared()
        for live in self._held.live.values():
            close_pending(live)


def _stop_signal(container: Container) -> str:
    return container.config.stop_signal or "TERM"
