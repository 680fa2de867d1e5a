"""Execs: further programs in a container that runs, as the API knows them.

Interface:
- `Execs(held)`: `create`, `check`, `start`, `resize`, `get`, `of(container)`.
- `ExecConfig`: what is asked for; `Exec`: one exec and what became of it.

Rules: an exec is made, then started once. It lives in memory, as with Docker: after a restart of the daemon the
program goes on and nobody knows its id any more. Those that have ended are kept a while for whoever asks for the code.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Exec
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from glassdock import trace
from glassdock.containers import spec
from glassdock.containers.held import Held
from glassdock.containers.model import Container, Status
from glassdock.errors import CommandNotFound, Conflict, InvalidParameter, NotFound, StartFailed
from glassdock.runtime import execs
from glassdock.runtime.execs import ExecTask, Running
from glassdock.runtime.messages import ExitStatus

_KEPT_SECONDS = 300.0
_PREFIX = "OCI runtime exec failed: exec failed: unable to start container process: "


class ExecConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """The body of `POST /containers/{id}/exec`."""

    cmd: tuple[str, ...] | None = None
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    tty: bool = False
    env: tuple[str, ...] | None = None
    privileged: bool = False
    user: str = ""
    working_dir: str = ""
    console_size: tuple[int, int] | None = None

    @classmethod
    def parse(cls, body: bytes) -> ExecConfig:
        """The body as a value, its names in any case, as Go reads them; raises InvalidParameter."""
        names = {name.lower(): name for name in cls.__struct_encode_fields__}
        try:
            read = msgspec.json.decode(body or b"{}", type=dict[str, Any])
            return msgspec.convert({names.get(name.lower(), name): value for name, value in read.items()}, cls)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise InvalidParameter(f"invalid exec: {error}") from error


@dataclass(slots=True)
class Exec:
    """One exec. `exit_code` is None until it has ended; `running` from the start to the end."""

    id: str
    container: Container
    config: ExecConfig
    probe: bool = False
    process: Running | None = None
    started: bool = False
    failed_with: int | None = None
    watcher: asyncio.Task[None] | None = None
    made_at: float = field(default_factory=time.monotonic)

    @property
    def running(self) -> bool:
        """True while its program lives."""
        return self.process is not None and self.process.status is None

    @property
    def exit_code(self) -> int | None:
        """The program's, or what a shell says of one that could not be started."""
        if self.failed_with is not None:
            return self.failed_with
        return self.process.status.code if self.process and self.process.status else None


class Execs:
    """All execs that are known."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._all: dict[str, Exec] = {}

    def create(self, reference: str, config: ExecConfig, *, probe: bool = False) -> Exec:
        """Note what is to run. A `probe` is the engine's own: it is not recorded, and ends with the engine.

        Raises NotFound, Conflict where the container does not run, InvalidParameter.
        """
        container = self._held.get(reference)
        _must_run(container)
        if not config.cmd or not config.cmd[0]:
            raise InvalidParameter("No exec command specified")
        if any("\0" in word for word in (*config.cmd, *(config.env or ()))):
            raise InvalidParameter("a zero byte in the command or its environment")
        self._forget_old()
        made = Exec(secrets.token_hex(32), container, config, probe)
        self._all[made.id] = made
        self._event("exec_create", made)
        return made

    def get(self, identity: str) -> Exec:
        """By id; raises NotFound."""
        found = self._all.get(identity)
        if found is None or found.container.state.status is Status.REMOVING:
            raise NotFound(f"No such exec instance: {identity}")
        return found

    def of(self, container: Container) -> list[str]:
        """The ids of a container's execs that have not ended."""
        return [one.id for one in self._all.values() if one.container is container and one.exit_code is None]

    def check(self, identity: str) -> Exec:
        """The exec, which can be started; raises NotFound, Conflict."""
        made = self.get(identity)
        if made.started:
            words = "is already running" if made.running else "has already run"
            raise Conflict(f"Error: Exec command {identity} {words}")
        _must_run(made.container)
        return made

    async def start(
        self, identity: str, client: int = -1, *, size: tuple[int, int] | None = None, framed: bool | None = None
    ) -> Exec:
        """Run it, detached or with a client: the shim's end of a stream, closed here in any case.

        `framed` is how that client reads, which may differ from whether the program has a terminal.
        Raises NotFound, Conflict, and StartFailed and its kin in Docker's words.
        """
        try:
            made = self.check(identity)
        except BaseException:
            if client >= 0:
                os.close(client)
            raise
        made.started = True
        try:
            made.process = await self._begin(made, client, size, framed)
        except StartFailed as error:
            made.failed_with = 127 if isinstance(error, CommandNotFound) else 126
            raise type(error)(f"{_PREFIX}{error.message}", step=error.step, errno=error.errno) from error
        except BaseException:
            made.failed_with = 126
            raise
        self._event("exec_start", made)
        made.watcher = asyncio.create_task(self._watch(made, made.process), name=f"exec {made.id[:12]}")
        return made

    async def _begin(self, made: Exec, client: int, size: tuple[int, int] | None, framed: bool | None) -> Running:
        config, live = made.config, self._held.of(made.container)
        with trace.recording("daemon") as recording:
            try:
                with trace.span("containers.exec", command=" ".join(config.cmd or ())[:200]) as above:
                    process = await execs.begin(
                        self._held.folder(made.container) / "run",
                        _task(made, size, attached=client >= 0),
                        client,
                        stdout=config.attach_stdout,
                        stderr=config.attach_stderr,
                        framed=not config.tty if framed is None else framed,
                        leash=made.probe,
                    )
                    trace.adopt(process.spans, under=above)
            finally:
                if not made.probe:
                    live.trace.add(recording.spans)
        return process

    async def resize(self, identity: str, height: int, width: int) -> None:
        """Tell its terminal its size; raises Conflict where it does not run."""
        made = self.get(identity)
        if made.process is None or not made.running:
            raise Conflict(f"Error: Exec command {identity} is not running")
        await made.process.resize(height, width)

    async def close(self) -> None:
        """Let go of everything; the programs run on."""
        for one in self._all.values():
            if one.process:
                one.process.detach()
        watchers = [one.watcher for one in self._all.values() if one.watcher]
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    async def _watch(self, made: Exec, process: Running) -> None:
        status: ExitStatus = await process.wait()
        self._event("exec_die", made, exitCode=str(status.code))

    def detached(self, made: Exec) -> None:
        """Its client has typed its detach keys."""
        self._event("exec_detach", made)

    def forget(self, made: Exec) -> None:
        """Nobody will ask for it any more."""
        self._all.pop(made.id, None)

    def _forget_old(self) -> None:
        """Those that ended, or were never started, a while ago; and those of containers that are gone."""
        old = time.monotonic() - _KEPT_SECONDS
        for identity, one in list(self._all.items()):
            gone = one.container.state.status is Status.REMOVING
            if not one.running and (gone or one.made_at < old):
                del self._all[identity]

    def _event(self, action: str, made: Exec, **more: str) -> None:
        container, words = made.container, " ".join(made.config.cmd or ())
        told = f"{action}: {words}" if action in ("exec_create", "exec_start") else action
        self._held.event(told, container, execID=made.id, **more)


def _must_run(container: Container) -> None:
    if container.state.status is Status.PAUSED:
        raise Conflict(f"container {container.id} is paused, unpause the container before exec")
    if container.state.status is Status.RESTARTING:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if not container.state.running:
        raise Conflict(f"container {container.id} is not running")


def _task(made: Exec, size: tuple[int, int] | None, *, attached: bool) -> ExecTask:
    config, container = made.config, made.container
    names = {word.partition("=")[0] for word in config.env or ()}
    base = [word for word in spec.environment(container, tty=config.tty) if word.partition("=")[0] not in names]
    height, width = size or config.console_size or (0, 0)
    return ExecTask(
        id=made.id,
        args=config.cmd or (),
        env=(*base, *(word for word in config.env or () if "=" in word)),
        cwd=config.working_dir or container.config.working_dir or "/",
        user=config.user or "",
        privileged=config.privileged,
        stdin=config.attach_stdin and attached,
        terminal=config.tty,
        height=height,
        width=width,
    )
