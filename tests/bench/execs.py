"""One more program in a container that runs: `docker exec`, both engines in turn.

Interface: `measure(both, rounds, warmup)` → ms of each round by engine; `table(times)`; `output_of(...)`.

Rules: a round makes the exec, starts it and reads its output to the end.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Sequence

from rich.progress import track
from rich.table import Table

from tests.bench.engines import Contender, console
from tests.support.daemon import UnixConnection

TARGET, RATIO = 10.0, 8.0


def measure(both: Sequence[Contender], rounds: int, warmup: int) -> dict[str, list[float]]:
    """Milliseconds of each round."""
    times: dict[str, list[float]] = {contender.name: [] for contender in both}
    with contextlib.ExitStack() as undo:
        running = {contender.name: undo.enter_context(contender.running("sleep", "100000")) for contender in both}
        for number in track(range(-warmup, rounds), "Execs", console=console, transient=True):
            for contender in both:
                began = time.perf_counter()
                if output_of(contender, running[contender.name], "echo", "done") != "done\n":
                    raise RuntimeError(f"{contender.name}: the exec did not answer")
                if number >= 0:
                    times[contender.name].append(1000 * (time.perf_counter() - began))
    return times


def output_of(contender: Contender, container: str, *words: str) -> str:
    """Run one more program in the container; what it wrote to stdout. RuntimeError where it ends with a code."""
    wanted = {"Cmd": words, "AttachStdout": True, "AttachStderr": True}
    identity = contender.ask("POST", f"/containers/{container}/exec", wanted)["Id"]
    connection = UnixConnection(contender.socket)
    with contextlib.closing(connection):
        body = json.dumps({"Detach": False, "Tty": False})
        connection.request("POST", f"/v1.41/exec/{identity}/start", body, {"Content-Type": "application/json"})
        return unframed(connection.getresponse().read())


def unframed(data: bytes) -> str:
    """Docker's frames: a stream's number, three zeros, the length, the bytes."""
    text = b""
    while data:
        end = 8 + int.from_bytes(data[4:8], "big")
        text, data = text + data[8:end], data[end:]
    return text.decode()


def table(times: dict[str, list[float]]) -> Table:
    """One row: medians, and the ratio."""
    shown = Table(title="exec of `echo` in a running container, medians in ms")
    for heading in ("Glassdock", "best", "Docker", "Docker / Glassdock", "target"):
        shown.add_column(heading, justify="right")
    ours, theirs = statistics.median(times["Glassdock"]), statistics.median(times["Docker"])
    goal = f"{TARGET:.0f} ms, {RATIO:.0f} x"
    shown.add_row(f"{ours:.1f}", f"{min(times['Glassdock']):.1f}", f"{theirs:.1f}", f"{theirs / ours:.1f}", goal)
    return shown
