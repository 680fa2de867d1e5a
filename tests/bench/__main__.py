"""`make bench`: create, start, wait and remove a container through the API, Glassdock against Docker.

Both engines run on this machine at the same time, on sockets and state of their own; the same raw HTTP client asks
both in turn, so that whatever else the machine does hits both. The image is the same, bit for bit: Docker pulls it
from Glassdock's registry. Everything is removed at the end.

Rules: times are what a client waits for, over one kept connection, in milliseconds; medians, because one slow round
says more of the machine than of the engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.support.daemon import Daemon, UnixConnection

PHASES = ("create", "start", "wait", "remove")
# Milliseconds, and the part of Docker's time (design, section 7).
TARGETS = {"bridge": 20.0, "none": 12.0}
RATIO = 20.0
BRIDGE, BRIDGE_ADDRESS = "gdbench0", "10.213.47.1/24"

console = Console(highlight=False)


@dataclass(slots=True)
class Contender:
    """One engine: a connection that is kept, the image's name there, and the times of each phase, by network."""

    name: str
    socket: str
    image: str
    times: dict[str, list[dict[str, float]]] = field(default_factory=lambda: {network: [] for network in TARGETS})
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

    def round(self, network: str, *, keep: bool) -> None:
        """One container's whole life; its times are kept unless this is warm-up."""
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
        if keep:
            spent = {phase: 1000 * (marks[i + 1] - marks[i]) for i, phase in enumerate(PHASES)}
            self.times[network].append(spent | {"whole": 1000 * (marks[-1] - marks[0])})

    def median(self, network: str, phase: str = "whole") -> float:
        """The median of one phase, in ms."""
        return statistics.median(times[phase] for times in self.times[network])


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
        command = [
            *(
                "dockerd",
                "--host",
                f"unix://{socket}",
                "--data-root",
                f"{folder}/data",
                "--exec-root",
                f"{folder}/exec",
            ),
            *("--pidfile", f"{folder}/pid", "--iptables=false", "--ip6tables=false", "--bridge", BRIDGE),
        ]
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


@contextlib.contextmanager
def contenders(folder: Path) -> Iterator[tuple[Contender, Contender]]:
    """Both engines, running, with the image pulled."""
    with contextlib.ExitStack() as undo:
        ours = Daemon(folder / "g").start()
        undo.callback(_stop, ours)
        theirs = undo.enter_context(dockerd(folder / "d"))
        ours.course_images()
        registry = ours.get("/glassdock/status")[1]["registry"]
        glassdock = Contender("Glassdock", ours.socket, "busybox")
        docker = Contender("Docker", theirs, f"{registry}/library/busybox")
        for contender in (glassdock, docker):
            contender.ask("POST", f"/images/create?fromImage={contender.image}&tag=latest")
            undo.callback(contender.connection.close)
        yield glassdock, docker


def _stop(daemon: Daemon) -> None:
    if left := daemon.stop():
        console.print("[red]Glassdock left behind:[/red]", *left, sep="\n")


def table(glassdock: Contender, docker: Contender) -> Table:
    """Medians in milliseconds: the whole and its phases, and the ratio."""
    shown = Table(title="create + start + wait + remove over the API, medians in ms")
    for heading in ("network", "step", "Glassdock", "Docker", "Docker / Glassdock", "target"):
        shown.add_column(heading, justify="left" if heading in ("network", "step") else "right")
    for network, target in TARGETS.items():
        for phase in ("whole", *PHASES):
            ours, theirs = glassdock.median(network, phase), docker.median(network, phase)
            whole = phase == "whole"
            goal = f"{target:.0f} ms, {RATIO:.0f} x" if whole else ""
            row = (network if whole else "", phase, f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.1f}", goal)
            shown.add_row(*row, style="bold" if whole else None, end_section=phase == PHASES[-1])
    return shown


@click.command()
@click.option("--rounds", default=30, show_default=True, help="Containers of each engine on each network.")
@click.option("--warmup", default=3, show_default=True, help="Rounds before, which are not counted.")
@click.option(
    "--json", "as_json", type=click.Path(dir_okay=False, path_type=Path), help="Keep every time in this file."
)
def main(rounds: int, warmup: int, as_json: Path | None) -> None:
    """Time Glassdock against Docker on this machine, in the same run."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if os.geteuid() != 0:
        raise click.ClickException("Docker's daemon needs root: sudo make bench")
    if missing := [program for program in ("dockerd", "ip") if shutil.which(program) is None]:
        raise click.ClickException(f"{' and '.join(missing)} not found; on Debian: apt install docker.io iproute2")
    with tempfile.TemporaryDirectory(prefix="gdb-", dir="/tmp") as name, contenders(Path(name)) as both:
        for number in track(range(-warmup, rounds), "Measuring", console=console, transient=True):
            for network in TARGETS:
                for contender in both:
                    contender.round(network, keep=number >= 0)
        console.print(table(*both))
        if as_json:
            as_json.write_text(json.dumps({contender.name: contender.times for contender in both}, indent=1))
    sys.stdout.flush()


main()
