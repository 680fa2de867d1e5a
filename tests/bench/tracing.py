"""What tracing costs a start.

Interface: `measure(engine, daemon, rounds)` → `Cost`; `table(cost)`.

Rules: two percent of a start are far less than one start differs from the next, so the parts are timed by themselves,
many times, in this process: making as many spans as a start has, sending them from child to shim to daemon, taking
them over. The best of these is set against the best start.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.table import Table

from glassdock import trace
from glassdock.runtime import messages
from glassdock.runtime.messages import Report, Started
from tests.bench.engines import Contender
from tests.support.daemon import Daemon

REPEATS = 300
TARGET = 2.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one start: its spans, and ms of tracing and of all of it."""

    spans: int
    tracing: float
    start: float


def measure(engine: Contender, daemon: Daemon, rounds: int) -> Cost:
    """Start containers, count the spans of the last one, time what its spans cost."""
    starts, spans = [], 0
    for _ in range(rounds):
        with engine.running("sleep", "100000", network="bridge") as container:
            began = time.perf_counter()
            engine.ask("POST", f"/containers/{container}/restart?t=0")
            starts.append(1000 * (time.perf_counter() - began))
            _, answer = daemon.get(f"/glassdock/containers/{container}/trace")
            told = [span for span in answer["spans"] if not span["attributes"].get("prepared")]
            last = max(span["start"] for span in told if span["name"] == "containers.start")
            spans = sum(span["start"] >= last for span in told)
    return Cost(spans, min(_cost(spans) for _ in range(REPEATS)), min(starts))


def _cost(spans: int) -> float:
    """Milliseconds: all spans are made, and sent over two hops, which is more than the daemon's own need."""
    began = time.perf_counter()
    with trace.recording("bench") as recording:
        for _ in range(spans):
            with trace.span("bench.step", what="a step of a plan as the child does it"):
                pass
    report = messages.decode(messages._encoder.encode(Report(recording.spans)))
    assert isinstance(report, Report)
    started = messages.decode(messages._encoder.encode(Started(1, 1, report.spans)))
    assert isinstance(started, Started)
    with trace.recording("bench"):
        trace.adopt(started.spans)
    return 1000 * (time.perf_counter() - began)


def table(cost: Cost) -> Table:
    """One row."""
    shown = Table(title="tracing, of a start")
    for heading in ("spans", "tracing", "restart", "part", "target"):
        shown.add_column(heading, justify="right")
    part = 100 * cost.tracing / cost.start
    shown.add_row(str(cost.spans), f"{cost.tracing:.2f} ms", f"{cost.start:.1f} ms", f"{part:.1f} %", f"{TARGET:.0f} %")
    return shown
