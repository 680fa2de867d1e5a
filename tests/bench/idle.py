"""Many idle containers on one bridge: how long until they run, what they cost, and whether the next one is slower.

Interface: `measure(folder, count, networks)` → `Idle`; `table(found)`.

Rules: Glassdock alone, with a state folder of its own. A container's share of the engine is the proportional set size
(proc_pid_smaps(5)) of its shim, with an equal part of daemon and launcher. Everything is removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track
from rich.table import Table

from tests.bench.engines import Contender, console, glassdock

LIVES = 15
BATCH = 100
# Seconds for a thousand, MiB of the engine's memory each, and the life of one more against the first.
SECONDS, MEMORY, SLOWER = 30.0, 1.0, 1.5


@dataclass(frozen=True, slots=True)
class Idle:
    """Milliseconds of a life before and after, seconds until all ran, each batch's, MiB of the shims and the rest."""

    count: int
    networks: int
    before: float
    after: float
    seconds: float
    batches: tuple[float, ...]
    shims: float
    others: float


def measure(folder: Path, count: int, networks: int = 1) -> Idle:
    """Start `count` containers that sleep, spread over `networks` bridges."""
    with contextlib.ExitStack() as undo:
        engine, daemon = undo.enter_context(glassdock(folder))
        names = ["bridge"]
        for number in range(1, networks):
            engine.ask("POST", "/networks/create", {"Name": f"bench{number}"})
            names.append(f"bench{number}")
        before = _life(engine, names[0])
        running: list[str] = []
        undo.callback(_remove, engine, running)
        batches = []
        for first in track(range(0, count, BATCH), "Starting", console=console, transient=True):
            began = time.perf_counter()
            for number in range(first, min(count, first + BATCH)):
                host = {"NetworkMode": names[number % networks]}
                config = {"Image": engine.image, "Cmd": ["sleep", "100000"], "HostConfig": host}
                running.append(engine.ask("POST", "/containers/create", config)["Id"])
                engine.ask("POST", f"/containers/{running[-1]}/start")
            batches.append(time.perf_counter() - began)
        after = _life(engine, names[0])
        sizes = dict(_sizes(str(daemon.root)))
        shims = [size for name, size in sizes.items() if name[1] == "glassdock-shim"]
        return Idle(
            count, networks, before, after, sum(batches), tuple(batches), sum(shims), sum(sizes.values()) - sum(shims)
        )


def table(found: Idle) -> Table:
    """One row a figure, with its target."""
    shown = Table(title=f"{found.count:,} idle containers on {found.networks} bridge(s)")
    for heading in ("figure", "measured", "target"):
        shown.add_column(heading, justify="left" if heading == "figure" else "right")
    each = 1000 * found.seconds / found.count
    shown.add_row("until all ran", f"{found.seconds:.1f} s", f"{SECONDS * found.count / 1000:.0f} s")
    first, last = (1000 * batch / min(BATCH, found.count) for batch in (found.batches[0], found.batches[-1]))
    shown.add_row("each; of the first and the last batch", f"{each:.1f} ms; {first:.1f}, {last:.1f} ms", "")
    slower = found.after / found.before
    shown.add_row("one life before, after", f"{found.before:.1f}, {found.after:.1f} ms: {slower:.2f} x", f"{SLOWER} x")
    shown.add_row("a shim", f"{found.shims / found.count:.2f} MiB", "")
    shown.add_row("the engine, each", f"{(found.shims + found.others) / found.count:.2f} MiB", f"{MEMORY:.0f} MiB")
    return shown


def _life(engine: Contender, network: str) -> float:
    """The median of a container's whole life, in ms."""
    return statistics.median(sum(engine.life(network).values()) for _ in range(LIVES))


def _remove(engine: Contender, running: list[str]) -> None:
    for container in track(running, "Removing", console=console, transient=True):
        engine.ask("DELETE", f"/containers/{container}?force=1")


def _sizes(root: str) -> Iterator[tuple[tuple[int, str], float]]:
    """((process, name), MiB) of the engine's processes: those that have its state folder in their command line."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            folder = Path("/proc", entry)
            if root.encode() not in (folder / "cmdline").read_bytes():
                continue
            rows = (folder / "smaps_rollup").read_text().splitlines()
            size = sum(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
            yield (int(entry), (folder / "comm").read_text().strip()), size / 1024
