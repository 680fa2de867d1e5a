"""The engines that are compared: each a daemon with state of its own, and a raw HTTP client that asks it.

Interface: `contenders(folder)` → (Glassdock, Docker); `glassdock(folder)` → (Glassdock, its daemon).

Rules: the same client asks both, over one kept connection, so a time is what a client waits for. The image is the
same, bit for bit: Docker pulls it from Glassdock's registry. Everything is removed at the end.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tests.support.daemon import Daemon, UnixConnection

PHASES = ("create", "start", "wait", "remove")
BRIDGE, BRIDGE_ADDRESS = "gdbench0", "10.213.47.1/24"

console = Console(highlight=False)


@dataclass(slots=True)
class Contender:
    """One engine: a connection that is kept, and the image's name there."""

    name: str
    socket: str
    image: str
    connection: UnixConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = UnixConnection(self.socket)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request over the kept connection; RuntimeError unless it succeeds."""
        payload = None if body is None else json.dumps(body)
        self.connection.request(method, f"/v1.41{path}", payload, {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{self.name}: {method} {path}: {response.status} {text.decode(errors='replace')}")
        return json.loads(text) if text.startswith(b"{") and text.count(b"\n") < 2 else None

    def life(self, network: str) -> dict[str, float]:
        """One container's whole life: ms of each phase."""
        marks = [time.perf_counter()]
        config = {"Image": self.image, "Cmd": ["true"], "HostConfig": {"NetworkMode": network}}
        container = self.ask("POST", "/containers/create", config)["Id"]
        marks.append(time.perf_counter())
        self.ask("POST", f"/containers/{container}/start")
        marks.append(time.perf_counter())
        code = self.ask("POST", f"/containers/{container}/wait")["StatusCode"]
        marks.append(time.perf_counter())
        self.ask("DELETE", f"/containers/{container}")
        marks.append(time.perf_counter())
        if code != 0:
            raise RuntimeError(f"{self.name}: the container ended with {code}")
        return {phase: 1000 * (marks[i + 1] - marks[i]) for i, phase in enumerate(PHASES)}

    @contextlib.contextmanager
    def running(self, *words: str, network: str = "none", host: dict[str, Any] | None = None) -> Iterator[str]:
        """A container that runs `words` meanwhile; its id."""
        config = {"Image": self.image, "Cmd": list(words), "HostConfig": {"NetworkMode": network, **(host or {})}}
        container = self.ask("POST", "/containers/create", config)["Id"]
        try:
            self.ask("POST", f"/containers/{container}/start")
            yield container
        finally:
            self.ask("DELETE", f"/containers/{container}?force=1")


@contextlib.contextmanager
def contenders(folder: Path) -> Iterator[tuple[Contender, Contender]]:
    """Both engines, running, with the image pulled."""
    with contextlib.ExitStack() as undo:
        ours, daemon = undo.enter_context(glassdock(folder))
        socket = undo.enter_context(dockerd(folder / "d"))
        registry = daemon.get("/glassdock/status")[1]["registry"]
        docker = Contender("Docker", socket, f"{registry}/library/busybox")
        docker.ask("POST", f"/images/create?fromImage={docker.image}&tag=latest")
        undo.callback(docker.connection.close)
        yield ours, docker


@contextlib.contextmanager
def glassdock(folder: Path) -> Iterator[tuple[Contender, Daemon]]:
    """Our engine, running, with the image pulled."""
    daemon = Daemon(folder / "g").start()
    try:
        daemon.course_images()
        ours = Contender("Glassdock", daemon.socket, "busybox")
        ours.ask("POST", f"/images/create?fromImage={ours.image}&tag=latest")
        with contextlib.closing(ours.connection):
            yield ours, daemon
    finally:
        if left := daemon.stop(120):
            console.print("[red]Glassdock left behind:[/red]", *left, sep="\n")


@contextlib.contextmanager
def dockerd(folder: Path) -> Iterator[str]:
    """Debian's dockerd on its own socket, state and bridge; the socket's path."""
    folder.mkdir()
    socket = folder / "d.sock"
    with contextlib.ExitStack() as undo:
        for words in (
            f"link add {BRIDGE} type bridge",
            f"addr add {BRIDGE_ADDRESS} dev {BRIDGE}",
            f"link set {BRIDGE} up",
        ):
            subprocess.run(["ip", *words.split()], check=True)
            if "type" in words:
                undo.callback(subprocess.run, ["ip", "link", "del", BRIDGE], check=True)
        log = undo.enter_context(open(folder / "log", "wb"))
        places = {"host": f"unix://{socket}", "data-root": f"{folder}/data", "exec-root": f"{folder}/exec"}
        options = {**places, "pidfile": f"{folder}/pid", "bridge": BRIDGE, "iptables": "false", "ip6tables": "false"}
        command = ["dockerd", *(f"--{name}={value}" for name, value in options.items())]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        undo.callback(_end, process)
        deadline = time.monotonic() + 60
        while not _answers(str(socket)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise click.ClickException(f"dockerd did not start:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield str(socket)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(socket: str) -> bool:
    connection = UnixConnection(socket, timeout=5)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
