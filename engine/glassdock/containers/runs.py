"""One run of a container: from the launch to its end, and on to the next where its restart policy says so.

Interface:
- `Runs(held, removal)`: `begin(container, live)` launches; `failed(...)` notes a start that was refused.
- `watch(container, live, process)`: from now on its end is noticed. `ended(...)`: the one place where a process's end
  becomes a container's, whoever caused it.
- `schedule(container, live, pause)`: start it again after a pause. `give_up(container, live)`: do not.

Rules: the caller of `begin`, `ended`, `failed` and `give_up` holds the container's lock. Half-made things are rolled
back by an ExitStack.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator

import msgspec

from glassdock import trace
from glassdock.containers import connections, files, logging, modes, restarts, spec
from glassdock.containers.connections import Connections
from glassdock.containers.health import Checks
from glassdock.containers.held import Held
from glassdock.containers.model import Container, State, Status, move
from glassdock.containers.parts import Live
from glassdock.containers.removal import Removal, close_pending
from glassdock.errors import GlassdockError, NotFound
from glassdock.images.model import Image
from glassdock.network.model import Joining
from glassdock.runtime import launch
from glassdock.runtime.launch import ExitStatus, Process


class Runs:
    """Launches containers and notices their ends."""

    def __init__(self, held: Held, removal: Removal, health: Checks) -> None:
        self._held = held
        self._health = health
        self._removal = removal
        self._connections = Connections(held)
        self._closed = False

    async def begin(self, container: Container, live: Live) -> None:
        """Launch it, as one recording of its trace; whoever waits for a failed start is told."""
        with trace.recording("daemon") as recording:
            try:
                with trace.span("containers.start", name=container.name):
                    await self._launch(container, live)
            except BaseException as error:  # whatever it is: those who wait are told, then it goes on its way
                self.failed(container, live, error)
                raise
            finally:
                live.trace.add(recording.spans)
        self._held.event("start", container)

    async def _launch(self, container: Container, live: Live) -> None:
        held, folder = self._held, self._held.folder(container)
        image = self._image(container)
        async with contextlib.AsyncExitStack() as undo, contextlib.AsyncExitStack() as done:
            joins = modes.resolve(container, held.get)
            if joins.donor is None:
                netns, shared = await self._plug_in(container, undo), folder
            else:
                shared = held.folder(joins.donor)
                container.config = msgspec.structs.replace(container.config, hostname=joins.donor.hostname)
                netns = done.enter_context(_namespace(joins.network))
            undo.callback(held.mounting.end, container)
            with trace.span("volumes.mount") if container.mounts else contextlib.nullcontext():
                await held.mounting.begin(container)
            with trace.span("containers.spec"):
                made = spec.runtime_spec(container, shared, held.parts.paths.tag, joins)
            request = launch.LaunchRequest(
                id=container.id,
                run_dir=str(folder / "run"),
                spec=made,
                root=held.parts.snapshots.mount_of(container.id),
                user=container.config.user or "",
                groups=container.host.group_add or (),
                log_path="" if container.host.log_config.type == "none" else str(held.log_path(container)),
                log=logging.options(container),
                stdin=container.config.open_stdin,
                stdin_once=container.config.stdin_once,
                init=bool(container.host.init),
            )
            with trace.span("runtime.launch", image=image.id[7:19] if image else "") as launching:
                attach, live.pending = live.pending, []
                process = await held.parts.need_launcher().launch(request, netns=netns, attach=attach)
                trace.adopt(process.spans, under=launching)
            undo.pop_all()
        self._connections.noted(container)
        self._connections.tell_all("connect", container, container.endpoints)
        container.state = State(status=container.state.status, pid=process.pid, started_at=time.time_ns())
        move(container, Status.RUNNING)
        held.save(container)
        self.watch(container, live, process)

    def watch(self, container: Container, live: Live, process: Process) -> None:
        """From now on its end is noticed."""
        live.process, live.oom_told = process, False
        process.on_oom.append(lambda: self._out_of_memory(container, live))
        self._health.begin(container, live)
        live.watcher = asyncio.create_task(self._watch(container, live, process), name=f"watch {container.name}")

    def _out_of_memory(self, container: Container, live: Live) -> None:
        live.oom_told = True
        self._held.event("oom", container)

    async def _watch(self, container: Container, live: Live, process: Process) -> None:
        status = await process.wait()
        async with live.lock:
            await self.ended(container, live, status)

    async def ended(self, container: Container, live: Live, status: ExitStatus) -> None:
        """Note the end; then it starts again, is removed, or stays, as was asked for."""
        started = container.state.started_at
        again = restarts.again(container, status.code)
        container.state = State(
            status=Status.RESTARTING if again else Status.EXITED,
            exit_code=status.code,
            oom_killed=status.oom_killed,
            started_at=started,
            finished_at=status.finished_at_ns,
        )
        container.restart_count += again
        self._health.end(container, live)
        live.process = None
        plugged, container.endpoints = container.endpoints, ()
        self._held.save(container)
        ran = max(0.0, (status.finished_at_ns - started) / 1e9)
        if status.oom_killed and not live.oom_told:
            self._held.event("oom", container)
        self._held.event("die", container, exitCode=str(status.code), execDuration=str(int(ran)))
        self._held.mounting.end(container)
        live.tell(status.code)
        # Those who waited for the end need not wait for this; whoever wants the container's lock does.
        await self._held.parts.networks.detach(container.id)
        self._connections.tell_all("disconnect", container, plugged)
        if again:
            self.schedule(container, live, live.backoff.next(ran))
        else:
            self._over(container, live)

    def failed(self, container: Container, live: Live, error: BaseException) -> None:
        """Note a start that was refused, and tell those who wait."""
        if self._closed and isinstance(error, asyncio.CancelledError):
            return  # the daemon ends: the next one finds what was left to do in the record
        container.state.error = str(error)
        container.state.exit_code = spec.exit_code_of(error)
        if container.state.status is Status.RESTARTING:  # what cannot be started is not tried for ever
            move(container, Status.EXITED)
        self._held.save(container)
        close_pending(live)
        live.tell(container.state.exit_code)
        self._over(container, live)

    def schedule(self, container: Container, live: Live, pause: float) -> None:
        """Start it again after a pause in seconds; its state says so meanwhile."""
        if not self._closed:
            live.restart = asyncio.create_task(self._again(container, live, pause), name=f"restart {container.name}")

    def give_up(self, container: Container, live: Live) -> bool:
        """Let a container that waits to be started again be; False where it does not wait."""
        if container.state.status is not Status.RESTARTING:
            return False
        if live.restart is not None:
            live.restart.cancel()
        move(container, Status.EXITED)
        container.stopped_by_hand = True
        self._held.save(container)
        live.tell(container.state.exit_code)
        return True

    async def close(self) -> None:
        """Let go of everything; containers run on, and who waits for a restart waits for the next daemon."""
        self._closed = True
        lives = self._held.live.values()
        tasks = [task for live in lives for task in (live.watcher, live.restart, live.health) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _again(self, container: Container, live: Live, pause: float) -> None:
        await asyncio.sleep(pause)
        async with live.lock:
            if container.state.status is not Status.RESTARTING:
                return
            with contextlib.suppress(GlassdockError, OSError):  # it is in the record, where `inspect` shows it
                await self.begin(container, live)

    def _over(self, container: Container, live: Live) -> None:
        """It does not run and will not by itself: with --rm it goes."""
        if container.host.auto_remove:
            move(container, Status.REMOVING)
            self._removal.discard(container, live, volumes=True)

    def _image(self, container: Container) -> Image | None:
        try:
            return self._held.parts.images.get(container.image)
        except NotFound:
            return None  # untagged and removed by force since: its layers are still held by the snapshot

    async def _plug_in(self, container: Container, undo: contextlib.AsyncExitStack) -> int | None:
        """A network of its own, and the files that say so."""
        networks = self._held.parts.networks
        first, *others = connections.joinings(container) or [Joining("")]
        with trace.span("network.attach", network=first.network):
            endpoint = await networks.attach(container.id, first, name=container.name, ports=spec.ports(container))
            undo.push_async_callback(networks.detach, endpoint)
            for asked in others:
                await networks.connect(container.id, asked)
            await networks.serve_names(container.id, container.host.dns or ())
        with trace.span("containers.files"):
            files.write(self._held.folder(container), container, networks.endpoints(container.id))
        return endpoint.netns_fd


@contextlib.contextmanager
def _namespace(pid: int) -> Iterator[int]:
    """The network namespace of a process, as a descriptor."""
    found = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield found
    finally:
        os.close(found)
