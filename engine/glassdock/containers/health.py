"""Health checks: a program that the engine runs in the container again and again to ask how it is.

Interface:
- `probe_of(config)`: the program of a container's health check, () for none.
- `Checks(held, execs)`: `begin(container, live)`, at a start from `anew`; `end(container, live)`.

Rules: a probe is an exec. The last five results are kept. A failure counts once the start period is over, or the
container was healthy before; `retries` in a row make it unhealthy. Who is not asked any more is unhealthy, as with
Docker. Only a change of the status is an event.

Source: https://docs.docker.com/reference/dockerfile/#healthcheck
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import time

from glassdock.containers.config import Config
from glassdock.containers.execs import Exec, ExecConfig, Execs
from glassdock.containers.held import Held
from glassdock.containers.model import Container, Health, HealthResult, Status
from glassdock.containers.parts import Live
from glassdock.containers.streams import pair
from glassdock.errors import GlassdockError
from glassdock.oci.image import Healthcheck

_KEPT_RESULTS, _LONGEST_OUTPUT = 5, 4096
_INTERVAL, _TIMEOUT, _START_INTERVAL, _RETRIES = 30.0, 30.0, 5.0, 3


def probe_of(config: Config) -> tuple[str, ...]:
    """The words of the program."""
    kind, *words = (config.healthcheck.test if config.healthcheck else ()) or ("",)
    if kind == "CMD":
        return tuple(words)
    if kind == "CMD-SHELL" and words:
        return (*(config.shell or ("/bin/sh", "-c")), words[0])
    return ()


class Checks:
    """The health checks of all containers."""

    def __init__(self, held: Held, execs: Execs) -> None:
        self._held = held
        self._execs = execs

    def begin(self, container: Container, live: Live, *, anew: bool = True) -> None:
        """Ask from now on; `anew`: it is `starting` again."""
        if not probe_of(container.config):
            return
        self._stop(live)
        if anew or container.health is None:
            log = container.health.log if container.health else ()
            container.health = Health(log=log)
            self._held.save(container)
        live.health = asyncio.create_task(self._ask(container), name=f"health {container.name}")

    def end(self, container: Container, live: Live) -> None:
        """Ask no more; the caller saves the record."""
        if live.health is not None:
            self._stop(live)
            if container.health is not None:
                container.health.status = "unhealthy"

    @staticmethod
    def _stop(live: Live) -> None:
        if live.health is not None:
            live.health.cancel()
            live.health = None

    async def _ask(self, container: Container) -> None:
        healthcheck = container.config.healthcheck
        assert healthcheck is not None
        while True:
            await asyncio.sleep(_pause(container, healthcheck))
            result = await self._probe(container, healthcheck)
            if container.state.status is Status.RUNNING:
                self._note(container, healthcheck, result)

    async def _probe(self, container: Container, healthcheck: Healthcheck) -> HealthResult:
        started = time.time_ns()
        config = ExecConfig(cmd=probe_of(container.config), attach_stdout=True, attach_stderr=True)
        timeout = (healthcheck.timeout or 0) / 1e9 or _TIMEOUT
        output, code = bytearray(), -1
        made: Exec | None = None
        try:
            made = self._execs.create(container.id, config, probe=True)
            async with asyncio.timeout(timeout):
                code = await self._run(made, output)
        except TimeoutError:
            text = f"Health check exceeded timeout ({_words(timeout)})" + (": " if output else "")
            output[:0] = text.encode()
        except GlassdockError as error:
            output[:] = error.message.encode()
        finally:
            if made is not None:
                _kill(made)
                self._execs.forget(made)
        shown = output[:_LONGEST_OUTPUT].decode(errors="replace") + ("..." if len(output) > _LONGEST_OUTPUT else "")
        return HealthResult(started, time.time_ns(), code, shown)

    async def _run(self, made: Exec, output: bytearray) -> int:
        ours, theirs = pair()
        reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=ours))
        try:
            await self._execs.start(made.id, theirs)
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    (length,) = struct.unpack(">4xL", await reader.readexactly(8))
                    data = await reader.readexactly(length)
                    output += data[: max(0, _LONGEST_OUTPUT + 1 - len(output))]
            assert made.process is not None
            return (await made.process.wait()).code
        finally:
            writer.close()

    def _note(self, container: Container, healthcheck: Healthcheck, result: HealthResult) -> None:
        now = container.health or Health()
        status, streak = now.status, now.failing_streak
        if result.exit_code == 0:
            status, streak = "healthy", 0
        elif status != "starting" or result.start - container.state.started_at >= (healthcheck.start_period or 0):
            streak += 1
            if streak >= (healthcheck.retries or _RETRIES):
                status = "unhealthy"
        container.health = Health(status, streak, (*now.log, result)[-_KEPT_RESULTS:])
        self._held.save(container)
        if status != now.status:
            self._held.event(f"health_status: {status}", container)


def _pause(container: Container, healthcheck: Healthcheck) -> float:
    age = time.time_ns() - container.state.started_at
    if container.health and container.health.status == "starting" and age < (healthcheck.start_period or 0):
        return (healthcheck.start_interval or 0) / 1e9 or _START_INTERVAL
    return (healthcheck.interval or 0) / 1e9 or _INTERVAL


def _kill(made: Exec) -> None:
    """End a probe that was given up; it is in the container, whose processes nobody else numbers."""
    if made.running and made.process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(made.process.pid, signal.SIGKILL)


def _words(seconds: float) -> str:
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"
