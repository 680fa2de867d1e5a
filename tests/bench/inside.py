"""What a container costs the work in it: CPU, files and traffic, inside against outside.

Interface: `measure(folder, rounds)` → rows; `table(rows)`.

Rules: the same interpreter does the same work (work.py) inside and outside in turn; outside works in a folder of the
same file system as the container's writable layer. The best of each is compared: what is slower has been disturbed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track
from rich.table import Table

from tests.bench.engines import Contender, console, glassdock
from tests.bench.execs import output_of, unframed

SOURCE = Path(__file__).with_name("work.py").read_text()
NAMESPACES = ("gdbench-a", "gdbench-b")
ADDRESSES = ("10.213.48.1", "10.213.48.2")


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of work: the best time outside and inside, in `unit`, and how much more it may be, in percent."""

    kind: str
    outside: float
    inside: float
    unit: str
    allowed: float

    @property
    def slower(self) -> float:
        """Percent."""
        ratio = self.inside / self.outside if self.unit == "ms" else self.outside / self.inside
        return 100 * (ratio - 1)


def measure(folder: Path, rounds: int) -> list[Row]:
    """Every kind of work."""
    with contextlib.ExitStack() as undo:
        engine, daemon = undo.enter_context(glassdock(folder))
        engine.ask("POST", "/images/create?fromImage=python&tag=latest")
        engine.image = "python"
        container = undo.enter_context(engine.running("sleep", "100000"))
        place = daemon.root / "tmp"
        outside, inside = [], []
        for _ in track(range(rounds), "Work", console=console, transient=True):
            outside.append(_outside(place))
            inside.append(json.loads(_inside(engine, container, "local")))
        best = {kind: (min(r[kind] for r in outside), min(r[kind] for r in inside)) for kind in outside[0]}
        rows = [Row(kind.replace("_", " "), *pair, "ms", 2) for kind, pair in best.items()]
        with _veth():
            plain = max(_flow_outside() for _ in track(range(rounds), "veth", console=console, transient=True))
        bridged = max(_flow_inside(engine) for _ in track(range(rounds), "bridge", console=console, transient=True))
        return [*rows, Row("traffic over the bridge, against a veth", plain, bridged, "MiB/s", 5)]


def table(rows: list[Row]) -> Table:
    """One row a kind."""
    shown = Table(title="inside a container against outside, the best of each")
    for heading in ("work", "outside", "inside", "slower by", "target"):
        shown.add_column(heading, justify="left" if heading == "work" else "right")
    for row in rows:
        times = (f"{row.outside:.0f} {row.unit}", f"{row.inside:.0f} {row.unit}")
        shown.add_row(row.kind, *times, f"{row.slower:.1f} %", f"{row.allowed:.0f} %")
    return shown


def _command(*words: str) -> list[str]:
    return [sys.executable, "-c", SOURCE, *words]


def _outside(place: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(subprocess.check_output(_command("local"), cwd=place))
    return found


def _inside(engine: Contender, container: str, *words: str) -> str:
    return output_of(engine, container, "python", "-c", SOURCE, *words)


def _flow_inside(engine: Contender) -> float:
    """MiB a second from one container to another."""
    with engine.running("python", "-c", SOURCE, "sink", network="bridge") as sink:
        address = engine.ask("GET", f"/containers/{sink}/json")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        with engine.running("sleep", "100000", network="bridge") as other:
            _until_ready(lambda: _logs(engine, sink))
            _inside(engine, other, "source", address)
        engine.ask("POST", f"/containers/{sink}/wait")
        return float(_logs(engine, sink).split()[1])


def _logs(engine: Contender, container: str) -> str:
    engine.connection.request("GET", f"/v1.41/containers/{container}/logs?stdout=1")
    return unframed(engine.connection.getresponse().read())


def _until_ready(said: Callable[[], str]) -> None:
    while "ready" not in said():
        os.sched_yield()


def _flow_outside() -> float:
    """MiB a second over a veth between two namespaces."""
    enter = [["ip", "netns", "exec", name] for name in NAMESPACES]
    with subprocess.Popen([*enter[0], *_command("sink")], stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdout is not None
        sink.stdout.readline()
        subprocess.run([*enter[1], *_command("source", ADDRESSES[0])], check=True)
        return float(sink.stdout.readline())


@contextlib.contextmanager
def _veth() -> Iterator[None]:
    """Two namespaces and a cable."""
    with contextlib.ExitStack() as undo:
        for name in NAMESPACES:
            subprocess.run(["ip", "netns", "add", name], check=True)
            undo.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        ends = [f"name gdbv{name[-1]} netns {name}" for name in NAMESPACES]
        subprocess.run(f"ip link add {ends[0]} type veth peer {ends[1]}".split(), check=True)
        for name, address in zip(NAMESPACES, ADDRESSES, strict=True):
            end = f"gdbv{name[-1]}"
            subprocess.run(f"ip -n {name} addr add {address}/24 dev {end}".split(), check=True)
            subprocess.run(f"ip -n {name} link set {end} up".split(), check=True)
        yield
