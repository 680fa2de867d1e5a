"""One command in a snapshot, without a record: a build's RUN.

Interface: `StepRequest`, `Runner.run(request)` → exit code; `end_leftovers(paths)` at start.

Rules: the same runtime, the same defaults, the same network as a container's; when it returns, only the snapshot's
writable layer has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from glassdock import trace
from glassdock.containers import files, mountpoints, spec
from glassdock.containers.config import Config, HostConfig, NetworkingConfig
from glassdock.containers.model import Container
from glassdock.containers.parts import refused
from glassdock.errors import NotFound, NotSupported
from glassdock.network.manager import Manager as Networks
from glassdock.network.model import Joining
from glassdock.paths import Paths
from glassdock.runtime import launch
from glassdock.runtime.launch import Attach, Launcher, LaunchRequest, Process
from glassdock.runtime.remains import settle
from glassdock.unionfs.mounts import Mount

Output = Callable[[int, bytes], None]


@dataclass(frozen=True, slots=True)
class StepRequest:
    """A command in a root; `on_output` gets (1 stdout or 2 stderr, bytes) as they come."""

    root: Mount
    argv: tuple[str, ...]
    on_output: Output
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    network: str = "bridge"
    host: HostConfig = field(default_factory=HostConfig)


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs steps with the engine's launcher and networks."""

    paths: Paths
    networks: Networks
    launcher: Launcher | None
    refusal: NotSupported | None = None

    async def run(self, request: StepRequest) -> int:
        """Run to the end; raises StartFailed and its kin where it cannot start. Cancelled: killed, then gone."""
        if self.launcher is None:
            raise refused(self.refusal)
        identity = secrets.token_hex(32)
        container = Container(
            id=identity,
            name=identity[:12],
            created=0,
            image="",
            config=Config(cmd=request.argv, env=request.env, working_dir=request.cwd, user=request.user),
            host=request.host,
            networking=NetworkingConfig(),
            mounts=mountpoints.asked(Config(), request.host, lambda _: ()),
        )
        folder = Path(tempfile.mkdtemp(prefix="step-", dir=self.paths.tmp))
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(shutil.rmtree, folder)
            # The shim tells the end first; its folder and the snapshot are nobody's only after that.
            undo.push_async_callback(asyncio.to_thread, settle, folder / "run")
            endpoint = await self.networks.attach(identity, Joining(request.network))
            undo.push_async_callback(self.networks.detach, endpoint)
            files.write(folder, container, [endpoint])
            made = LaunchRequest(
                id=identity,
                run_dir=str(folder / "run"),
                spec=spec.runtime_spec(container, folder, self.paths.tag),
                root=request.root,
                user=request.user,
            )
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            ours.setblocking(False)
            with trace.span("runtime.launch") as launching:
                process = await self.launcher.launch(
                    made, netns=endpoint.netns_fd, attach=[Attach(fd=theirs.detach(), stdout=True, stderr=True)]
                )
                trace.adopt(process.spans, under=launching)
            try:
                await _copy(ours, request.on_output)
                return (await process.wait()).code
            except asyncio.CancelledError:
                await process.signal(9)
                await process.wait()
                raise


async def end_leftovers(paths: Paths) -> None:
    """At start, before anything is cleared: end the steps of a daemon that was killed; nobody waits for them."""
    for folder in sorted(paths.tmp.glob("step-*")):
        try:
            found = await launch.reconnect(folder / "run")
        except NotFound:
            continue  # it had not been started
        if isinstance(found, Process):
            await found.signal(signal.SIGKILL)
            await found.wait()
        await asyncio.to_thread(settle, folder / "run")


async def _copy(stream: socket.socket, on_output: Output) -> None:
    reader, writer = await asyncio.open_connection(sock=stream)
    try:
        while True:
            head = await reader.readexactly(8)
            kind, length = struct.unpack(">BxxxL", head)
            on_output(kind, await reader.readexactly(length))
    except asyncio.IncompleteReadError:
        return  # the shim closes the stream after the last byte of output
    finally:
        writer.close()
