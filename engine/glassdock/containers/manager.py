"""The verbs of a container: create, start, stop, kill, wait, remove, attach.

Interface: `Manager` (one an engine); each verb takes a reference (id, prefix, name) and says in Docker's words
what is wrong with it.

Rules: one verb at a time a container (`_lock`); half-made things are rolled back by an ExitStack; the end of a
process is handled in one place (`_ended`), whoever caused it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import time
from pathlib import Path

from glassdock import trace
from glassdock.containers import config as configs
from glassdock.containers import files, freezer, spec
from glassdock.containers.config import CreateRequest
from glassdock.containers.model import Container, EndpointRecord, State, Status, Trace, move
from glassdock.containers.parts import Live, Parts
from glassdock.containers.store import Store
from glassdock.containers.streams import Streams, pair
from glassdock.containers.told import Told
from glassdock.errors import Conflict, InvalidParameter, NotFound, NotModified
from glassdock.images.model import Image
from glassdock.network.model import Endpoint
from glassdock.runtime import launch
from glassdock.runtime.launch import Attach, ExitStatus, Process

_STOP_GRACE = 10  # seconds between the stop signal and SIGKILL, as Docker's


class Manager:
    """Every container of the engine, and the verbs on them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = Store(parts.paths)
        self._live: dict[str, Live] = {}
        self._clearing: set[asyncio.Task[None]] = set()
        self._told = Told()

    # ---- looking

    def get(self, reference: str) -> Container:
        """The record; raises NotFound."""
        return self._store.get(reference)

    def all(self) -> list[Container]:
        """All records, newest first."""
        return self._store.all()

    def folder(self, container: Container) -> Path:
        """The container's own folder: record, log, hosts, run/."""
        return self._store.folder(container.id)

    def log_path(self, container: Container) -> Path:
        """Docker's json-file log."""
        return self.folder(container) / f"{container.id}-json.log"

    def trace(self, reference: str) -> tuple[Container, Trace]:
        """What was recorded of the container's life so far; also of one of the last that were removed."""
        try:
            container = self.get(reference)
        except NotFound:
            return self._told.find(reference)
        return container, self._of(container).trace

    def using(self, image_id: str) -> list[Container]:
        """The containers that were made from an image."""
        return [container for container in self.all() if container.image == image_id]

    # ---- the life of a container

    async def create(self, request: CreateRequest, name: str = "") -> tuple[Container, list[str]]:
        """Make a container, do not start it; returns it and warnings. NotFound where the image is not here."""
        with trace.recording("daemon") as recording, trace.span("containers.create", image=request.config.image):
            self._parts.need_launcher()
            with trace.span("images.find", reference=request.config.image):
                image = self._parts.images.get(request.config.image)
            container = Container(
                id=secrets.token_hex(32),
                name=self._store.check_name(name) if name else self._store.new_name(),
                created=time.time_ns(),
                image=image.id,
                config=configs.merge(request.config, image.config.config),
                host=request.host,
                networking=request.networking,
            )
            spec.check(container)
            with contextlib.ExitStack() as undo:
                # The layer first: a crash before the record leaves a layer that nobody names, which repair removes.
                with trace.span("unionfs.prepare", layers=len(image.layers)):
                    self._parts.snapshots.prepare(container.id, image.chain_id)
                    undo.callback(self._parts.snapshots.remove, container.id)
                with trace.span("containers.record", id=container.id[:12]):
                    self._store.add(container)
                undo.pop_all()
        self._of(container).trace.spans += recording.spans
        self._event("create", container)
        return container, spec.warnings(container)

    async def start(self, reference: str) -> Container:
        """Run it; raises NotModified where it runs already, StartFailed where the kernel or the image refuses."""
        container = self.get(reference)
        live = self._of(container)
        async with live.lock:
            if container.state.running:
                raise NotModified(f"container {container.name} is already running")
            if container.state.status not in (Status.CREATED, Status.EXITED):
                raise Conflict(f"container {container.name} is {container.state.status}, it cannot be started")
            with trace.recording("daemon") as recording:
                try:
                    with trace.span("containers.start", name=container.name):
                        await self._launch(container, live)
                except BaseException as error:  # whatever it is: those who wait are told, then it goes on its way
                    self._failed(container, live, error)
                    raise
                finally:
                    live.trace.spans += recording.spans
        self._event("start", container)
        return container

    async def _launch(self, container: Container, live: Live) -> None:
        folder = self.folder(container)
        image = self._image(container)
        async with contextlib.AsyncExitStack() as undo:
            with trace.span("network.attach", network=spec.network_of(container)):
                endpoint = await self._join_network(container)
                undo.push_async_callback(self._parts.networks.detach, endpoint)
            with trace.span("containers.files"):
                files.write(folder, container, endpoint)
            with trace.span("containers.spec"):
                made = spec.runtime_spec(container, folder, self._parts.paths.tag)
            request = launch.LaunchRequest(
                id=container.id,
                run_dir=str(folder / "run"),
                spec=made,
                root=self._parts.snapshots.mount_of(container.id),
                user=container.config.user or "",
                groups=container.host.group_add or (),
                log_path="" if container.host.log_config.type == "none" else str(self.log_path(container)),
                stdin=container.config.open_stdin,
                stdin_once=container.config.stdin_once,
            )
            with trace.span("runtime.launch", image=image.id[7:19] if image else "") as launching:
                attach, live.pending = live.pending, []
                process = await self._parts.need_launcher().launch(request, netns=endpoint.netns_fd, attach=attach)
                trace.adopt(process.spans, under=launching)
            undo.pop_all()
        live.process = process
        container.endpoints = (EndpointRecord.of(endpoint),)
        container.state = State(status=container.state.status, pid=process.pid, started_at=time.time_ns())
        move(container, Status.RUNNING)
        live.ended.clear()
        self._store.save(container)
        live.watcher = asyncio.create_task(self._watch(container, live, process), name=f"watch {container.name}")

    async def _watch(self, container: Container, live: Live, process: Process) -> None:
        status = await process.wait()
        async with live.lock:
            await self._ended(container, live, status)
        if container.host.auto_remove:
            with contextlib.suppress(NotFound):
                await self.remove(container.id)

    async def _ended(self, container: Container, live: Live, status: ExitStatus) -> None:
        """The one place where a process's end becomes a container's."""
        started = container.state.started_at
        container.state = State(
            status=Status.EXITED,
            exit_code=status.code,
            oom_killed=status.oom_killed,
            started_at=started,
            finished_at=status.finished_at_ns,
        )
        await self._parts.networks.detach(container.id)
        live.process = None
        container.endpoints = ()
        self._store.save(container)
        if status.oom_killed:
            self._event("oom", container)
        self._event("die", container, exitCode=str(status.code))
        self._tell(live, status.code)

    async def stop(self, reference: str, *, grace: float | None = None, signal_name: str = "") -> None:
        """Ask it to end, and after the grace kill it; raises NotModified where it does not run."""
        container = self.get(reference)
        live = self._of(container)
        if live.process is None or not container.state.running:
            raise NotModified(f"container {container.name} is not running")
        if grace is None:
            grace = _STOP_GRACE if container.config.stop_timeout is None else container.config.stop_timeout
        await self._signal(container, live, spec.signal_number(signal_name or container.config.stop_signal or "TERM"))
        try:
            await asyncio.wait_for(live.ended.wait(), None if grace < 0 else grace)
        except TimeoutError:
            await self._signal(container, live, signal.SIGKILL)
            await live.ended.wait()
        self._event("stop", container)

    async def kill(self, reference: str, signal_name: str = "KILL") -> None:
        """Send a signal to its first process; raises Conflict where it does not run."""
        container = self.get(reference)
        number = spec.signal_number(signal_name)
        live = self._of(container)
        if live.process is None or not container.state.running:
            raise Conflict(f"cannot kill container: {reference}: container {container.id} is not running")
        await self._signal(container, live, number)
        self._event("kill", container, signal=str(number))
        if number == signal.SIGKILL:
            await live.ended.wait()

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
        live.trace.spans += recording.spans

    async def pause(self, reference: str) -> None:
        """Stop all its processes where they are; raises Conflict where it does not run, or is paused."""
        await self._freeze(reference, "pause")

    async def unpause(self, reference: str) -> None:
        """Let them go on; raises Conflict where it is not paused."""
        await self._freeze(reference, "unpause")

    async def _freeze(self, reference: str, verb: str) -> None:
        container = self.get(reference)
        async with self._of(container).lock:
            await freezer.freeze(container, self._parts.paths.tag, frozen=verb == "pause")
            self._store.save(container)
        self._event(verb, container)

    async def restart(self, reference: str, *, grace: float | None = None) -> None:
        """Stop and start."""
        with contextlib.suppress(NotModified):
            await self.stop(reference, grace=grace)
        await self.start(reference)

    async def wait(self, reference: str, condition: str = "not-running") -> int:
        """The exit code, once `condition` holds: not-running, next-exit or removed."""
        container = self.get(reference)
        live = self._of(container)
        if condition == "removed":
            await live.removed.wait()
        elif condition == "next-exit":
            if live.next_exit is None:
                live.next_exit = asyncio.get_running_loop().create_future()
            return await asyncio.shield(live.next_exit)
        elif condition in ("", "not-running"):
            if container.state.running:
                await live.ended.wait()
        else:
            raise InvalidParameter(f"invalid condition: {condition!r}", "Use not-running, next-exit or removed.")
        return container.state.exit_code

    async def remove(self, reference: str, *, force: bool = False) -> None:
        """Remove it and its writable layer; a running one only by `force`."""
        container = self.get(reference)
        live = self._of(container)
        if container.state.running:
            if not force:
                raise Conflict(
                    f'cannot remove container "/{container.name}": container is running: '
                    "stop the container before removing or force remove",
                    f"`stop {container.name}` first, or remove it with --force.",
                )
            await self._signal(container, live, signal.SIGKILL)
            await live.ended.wait()
        async with live.lock:
            if live.removed.is_set():
                raise NotFound(f"No such container: {reference}")
            move(container, Status.REMOVING)
            await self._discard(container, live)

    async def _discard(self, container: Container, live: Live) -> None:
        self._store.forget(container)
        self._told.keep(container, live.trace)
        clearing = asyncio.create_task(asyncio.to_thread(self._clear, container.id))
        self._clearing.add(clearing)
        clearing.add_done_callback(self._clearing.discard)
        self._close_pending(live)
        live.removed.set()
        self._live.pop(container.id, None)
        if live.next_exit is not None and not live.next_exit.done():
            live.next_exit.set_result(container.state.exit_code)
        self._event("destroy", container)

    def _clear(self, identity: str) -> None:
        """Remove the files of a container that is gone: nobody waits for this, and a crash leaves it to repair."""
        self._parts.snapshots.remove(identity)
        self._parts.snapshots.warm()
        self._store.clear(identity)

    async def cleared(self) -> None:
        """Until the files of removed containers are gone too."""
        while self._clearing:
            await asyncio.gather(*self._clearing)

    async def rename(self, reference: str, name: str) -> None:
        """Give it another name."""
        container = self.get(reference)
        old = container.name
        self._store.rename(container, name)
        self._event("rename", container, oldName=f"/{old}")

    async def attach(self, reference: str, streams: Streams) -> int:
        """A socket to the container's streams (a file descriptor); before the start it is kept for the start."""
        container = self.get(reference)
        live = self._of(container)
        if live.process is not None:
            connected = await live.process.attach(stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr)
            return connected.detach()
        ours, theirs = pair()
        live.pending.append(Attach(fd=theirs, stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr))
        return ours

    async def resize(self, reference: str, height: int, width: int) -> None:
        """Tell the terminal its size; raises Conflict where nothing runs."""
        container = self.get(reference)
        process = self._of(container).process
        if process is None:
            raise Conflict(f"container {container.id} is not running")
        await process.resize(height, width)

    # ---- after the daemon's own death

    def load(self) -> list[Container]:
        """Read the records of an earlier daemon; before `repair`."""
        return self._store.load()

    async def repair(self) -> None:
        """Bring records and reality together at start: reconnect to shims, note ends, drop half-removed ones."""
        for container in self.all():
            live = self._of(container)
            if container.state.status is Status.REMOVING:
                await self._discard(container, live)
            elif (self.folder(container) / "run").exists() or container.state.running:
                await self._reconnect(container, live)

    async def _reconnect(self, container: Container, live: Live) -> None:
        try:
            found = await launch.reconnect(self.folder(container) / "run")
        except NotFound:  # its start was refused, or nobody was left to carry it out
            if not container.state.running:
                return
            found = ExitStatus(code=128 + signal.SIGKILL, oom_killed=False, finished_at_ns=time.time_ns())
        if isinstance(found, ExitStatus):
            if container.state.running:
                await self._ended(container, live, found)
                if container.host.auto_remove:
                    await self.remove(container.id)
            return
        if not container.state.running:  # its start was cut off before the record said so: nobody knows its place
            await found.signal(signal.SIGKILL)
            await found.wait()
            if container.host.auto_remove:
                await self.remove(container.id)
            return
        live.process = found
        container.state.pid = found.pid
        live.watcher = asyncio.create_task(self._watch(container, live, found), name=f"watch {container.name}")

    async def close(self) -> None:
        """Let go of everything; containers run on."""
        watchers = [live.watcher for live in self._live.values() if live.watcher]
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await self.cleared()
        for live in self._live.values():
            self._close_pending(live)

    # ---- helpers

    def _of(self, container: Container) -> Live:
        return self._live.setdefault(container.id, Live())

    def _image(self, container: Container) -> Image | None:
        try:
            return self._parts.images.get(container.image)
        except NotFound:
            return None  # untagged and removed by force since: its layers are still held by the snapshot

    async def _join_network(self, container: Container) -> Endpoint:
        return await self._parts.networks.attach(
            container.id,
            network=spec.network_of(container),
            name=container.name,
            mac=spec.mac_of(container),
            ip=spec.address_of(container),
            ports=spec.ports(container),
        )

    def _failed(self, container: Container, live: Live, error: BaseException) -> None:
        container.state.error = str(error)
        container.state.exit_code = spec.exit_code_of(error)
        self._store.save(container)
        self._close_pending(live)
        self._tell(live, container.state.exit_code)
        if container.host.auto_remove:
            asyncio.get_running_loop().create_task(self._remove_failed(container.id))

    async def _remove_failed(self, identity: str) -> None:
        with contextlib.suppress(NotFound):
            await self.remove(identity)

    @staticmethod
    def _tell(live: Live, code: int) -> None:
        live.ended.set()
        if live.next_exit is not None and not live.next_exit.done():
            live.next_exit.set_result(code)
        live.next_exit = None

    @staticmethod
    def _close_pending(live: Live) -> None:
        for attach in live.pending:
            os.close(attach.fd)
        live.pending.clear()

    def _event(self, action: str, container: Container, **more: str) -> None:
        attributes = {**(container.config.labels or {}), "image": container.config.image, "name": container.name}
        self._parts.events.publish("container", action, container.id, {**attributes, **more})
