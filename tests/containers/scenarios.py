"""What the daemon is killed at: each verb, what comes before it, and what the next daemon may find.

Interface: `SCENARIOS[verb]`: a `Scenario`: `prepare(engine)`, `act(engine)`, `examine(engine, it)` → what is wrong.

Rules: the container is called `it`; it writes `begin`, and at SIGTERM `end` and ends with 7. After every examination
it has been stopped, or is gone.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from glassdock.containers.config import Config, CreateRequest, HostConfig, NetworkingConfig, PortBinding, RestartPolicy
from glassdock.containers.execs import ExecConfig
from glassdock.containers.limits import Update
from glassdock.containers.model import Container, Status
from glassdock.engine import Engine
from glassdock.errors import NotFound
from glassdock.oci.image import Healthcheck
from glassdock.runtime import cgroups
from glassdock.runtime.cgroup_files import read_number
from tests.runtime.lab import alive, read_log

SCRIPT = "trap 'echo end; exit 7' TERM; echo begin; while :; do sleep 0.02; done"
BRIEF = "echo begin; exit 7"
LIMIT = 128 << 20
UP = {Status.RUNNING}


async def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.005)
    return True


def said(engine: Engine, container: Container) -> str:
    path = engine.containers.log_path(container)
    return read_log(path)[0] if path.exists() else ""


def request(*argv: str, config: dict[str, Any] | None = None, **host: Any) -> CreateRequest:
    return CreateRequest(
        Config(image="tiny", cmd=argv, **(config or {})),
        HostConfig(**({"network_mode": "bridge"} | host)),
        NetworkingConfig(),
    )


async def run_it(engine: Engine, script: str = SCRIPT, **more: Any) -> Container:
    it, _ = await engine.containers.create(request("sh", "-c", script, **more), "it")
    await engine.containers.start("it")
    await until(lambda: said(engine, it).startswith("begin\n"))
    return it


@dataclass
class Scenario:
    """A verb; `possible`: in which states the next daemon may find the container, `gone` if it need not be there."""

    possible: set[Status]
    script: str = SCRIPT
    config: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    gone: bool = False

    async def prepare(self, engine: Engine) -> None:
        await run_it(engine, self.script, config=self.config, **self.host)

    async def act(self, engine: Engine) -> None:
        raise NotImplementedError

    async def examine(self, engine: Engine, it: Container) -> list[str]:
        """Whether it is as it should be, and can be started and stopped as if nothing had been."""
        wrong = [] if it.state.status in self.possible else [f"it is {it.state.status}"]
        if it.state.status is Status.PAUSED:
            await engine.containers.unpause(it.id)
        if it.state.status is Status.RUNNING and not (alive(it.state.pid) and it.endpoints and it.state.started_at):
            wrong.append(f"it runs and does not: {it.state}, {it.endpoints}")
        before, lives = said(engine, it).count("end"), said(engine, it).count("begin")
        if it.state.status is not Status.RUNNING:
            lives += 1
            await engine.containers.start(it.id)
        if not await until(lambda: said(engine, it).count("begin") >= max(lives, 1)):
            wrong.append(f"it does not begin: {said(engine, it)!r}")
        wrong += await self.alive(engine, it)
        await engine.containers.stop(it.id)
        if it.state.exit_code != 7 or said(engine, it).count("end") != before + 1:
            wrong.append(f"stopped it says {said(engine, it)!r}, code {it.state.exit_code}")
        return wrong

    async def alive(self, engine: Engine, it: Container) -> list[str]:
        """What is wrong with it while it runs again."""
        return []


class Create(Scenario):
    async def prepare(self, engine: Engine) -> None:
        pass

    async def act(self, engine: Engine) -> None:
        await engine.containers.create(request("sh", "-c", SCRIPT, **self.host), "it")


class Start(Scenario):
    async def prepare(self, engine: Engine) -> None:
        await engine.containers.create(request("sh", "-c", self.script, config=self.config, **self.host), "it")

    async def act(self, engine: Engine) -> None:
        await engine.containers.start("it")


class Publish(Start):
    async def alive(self, engine: Engine, it: Container) -> list[str]:
        (binding,) = it.host.port_bindings["80/tcp"]  # type: ignore[index, misc]
        try:
            socket.create_connection(("127.0.0.1", int(binding.host_port)), 5).close()
        except OSError as error:
            return [f"its port is not published: {error}"]
        return []


class Stop(Scenario):
    async def act(self, engine: Engine) -> None:
        await engine.containers.stop("it")

    async def examine(self, engine: Engine, it: Container) -> list[str]:
        wrong = []
        if it.state.status is Status.EXITED and it.state.exit_code != 7:
            wrong.append(f"its exit code is {it.state.exit_code}")
        return wrong + await super().examine(engine, it)


class Kill(Scenario):
    async def act(self, engine: Engine) -> None:
        await engine.containers.kill("it")

    async def examine(self, engine: Engine, it: Container) -> list[str]:
        wrong = []
        if it.state.status is Status.EXITED and it.state.exit_code != 137:
            wrong.append(f"its exit code is {it.state.exit_code}")
        return wrong + await super().examine(engine, it)


class Remove(Scenario):
    async def prepare(self, engine: Engine) -> None:
        await engine.containers.create(request("sh", "-c", BRIEF), "it")
        await engine.containers.start("it")
        await engine.containers.wait("it")

    async def act(self, engine: Engine) -> None:
        await engine.containers.remove("it")
        await engine.containers.cleared()

    async def examine(self, engine: Engine, it: Container) -> list[str]:
        right = (it.state.status, it.state.exit_code, said(engine, it)) == (Status.EXITED, 7, "begin\n")
        return [] if right else [f"it is {it.state}, and said {said(engine, it)!r}"]


class RemoveAfterwards(Start):
    """--rm"""

    async def act(self, engine: Engine) -> None:
        await engine.containers.start("it")
        await engine.containers.wait("it", "removed")
        await engine.containers.cleared()

    async def examine(self, engine: Engine, it: Container) -> list[str]:
        def gone() -> bool:
            try:
                return engine.containers.get(it.id) is not it
            except NotFound:
                return True

        return [] if await until(gone) else [f"it is still there: {it.state}"]


class Exec(Scenario):
    async def act(self, engine: Engine) -> None:
        made = engine.execs.create("it", ExecConfig(cmd=("sh", "-c", "sleep 0.01; exit 3")))
        await engine.execs.start(made.id)
        await until(lambda: made.exit_code is not None)

    async def alive(self, engine: Engine, it: Container) -> list[str]:
        made = engine.execs.create(it.id, ExecConfig(cmd=("sh", "-c", "exit 3")))
        await engine.execs.start(made.id)
        if not await until(lambda: made.exit_code == 3):
            return [f"an exec ends with {made.exit_code}"]
        return []


class Pause(Scenario):
    async def act(self, engine: Engine) -> None:
        await engine.containers.pause("it")
        await engine.containers.unpause("it")


class ChangeLimits(Scenario):
    async def act(self, engine: Engine) -> None:
        await engine.containers.update("it", Update(memory=LIMIT, memory_swap=-1))

    async def alive(self, engine: Engine, it: Container) -> list[str]:
        held = engine.containers.folder(it) / "run/shim.json"
        path = msgspec.json.decode(held.read_bytes())["cgroup"]
        tops = [top for _, top, words in cgroups.layout().v1 if "memory" in words]
        name = "memory.limit_in_bytes" if tops else "memory.max"
        found = read_number((tops or [cgroups.layout().unified])[0] + path, name, -1)
        right = found == it.host.memory if it.host.memory else found > LIMIT or found == -1
        return [] if right else [f"its limit is {it.host.memory}, the kernel's {found}"]


class Rename(Scenario):
    async def act(self, engine: Engine) -> None:
        await engine.containers.rename("it", "renamed")


class Restart(Start):
    """It ends again and again, and is started again and again."""

    async def act(self, engine: Engine) -> None:
        it = engine.containers.get("it")
        await engine.containers.start("it")
        await until(lambda: it.restart_count >= 2 and it.state.status is Status.RESTARTING)

    async def examine(self, engine: Engine, it: Container) -> list[str]:
        wrong = [] if it.state.status in self.possible else [f"it is {it.state.status}"]
        if it.state.status is Status.CREATED:
            await engine.containers.start(it.id)
        lives = said(engine, it).count("begin")
        if not await until(lambda: said(engine, it).count("begin") > lives):
            wrong.append(f"it is not started again: {it.state}")
        if not await until(lambda: it.state.exit_code == 7):
            wrong.append(f"its exit code is {it.state.exit_code}")
        return wrong


class Health(Start):
    async def act(self, engine: Engine) -> None:
        it = engine.containers.get("it")
        await engine.containers.start("it")
        await until(lambda: it.health is not None and len(it.health.log) >= 2)

    async def alive(self, engine: Engine, it: Container) -> list[str]:
        healthy = await until(lambda: it.health is not None and it.health.status == "healthy")
        return [] if healthy else [f"its health is {it.health}"]


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


_ENDED = {Status.CREATED, Status.EXITED, Status.RUNNING}
_AGAIN = {Status.CREATED, Status.RESTARTING, Status.RUNNING}
_PROBE = Healthcheck(test=("CMD", "true"), interval=10_000_000)
_PORT = {"80/tcp": (PortBinding("127.0.0.1", free_port()),)}
_SERVER = "httpd -f -p 80 & " + SCRIPT

SCENARIOS: dict[str, Scenario] = {
    "create": Create({Status.CREATED}),
    "start": Start(_ENDED),
    "publish": Publish(_ENDED, script=_SERVER, host={"port_bindings": _PORT}),
    "stop": Stop({Status.RUNNING, Status.EXITED}),
    "kill": Kill({Status.RUNNING, Status.EXITED}),
    "remove": Remove({Status.EXITED}),
    "rm": RemoveAfterwards({Status.RUNNING}, script=BRIEF, host={"auto_remove": True}, gone=True),
    "exec": Exec(UP),
    "pause": Pause({Status.RUNNING, Status.PAUSED}),
    "update": ChangeLimits(UP),
    "rename": Rename(UP),
    "restart": Restart(_AGAIN, script=BRIEF, host={"restart_policy": RestartPolicy("always")}),
    "health": Health(_ENDED, config={"healthcheck": _PROBE}),
}
