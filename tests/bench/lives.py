"""A container's whole life over the API: create, start, wait, remove, on a bridge and without a network.

Interface: `measure(both, rounds, warmup)` → `Times`; `table(times)`.

Rules: the engines take turns, so that whatever else the machine does hits both; medians, because one slow round says
more of the machine than of the engine, and the best beside them, which says what the engine needs by itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypeAlias

from rich.progress import track
from rich.table import Table

from tests.bench.engines import PHASES, Contender, console

# Milliseconds, and the part of Docker's time (design, section 7).
TARGETS = {"bridge": 20.0, "none": 12.0}
RATIO = 20.0

# engine, network → the phases of each round, ms
Times: TypeAlias = dict[str, dict[str, list[dict[str, float]]]]


def measure(both: Sequence[Contender], rounds: int, warmup: int) -> Times:
    """Each engine's rounds, by network."""
    times: Times = {contender.name: {network: [] for network in TARGETS} for contender in both}
    for number in track(range(-warmup, rounds), "Lives", console=console, transient=True):
        for network in TARGETS:
            for contender in both:
                spent = contender.life(network)
                if number >= 0:
                    times[contender.name][network].append(spent | {"whole": sum(spent.values())})
    return times


def table(times: Times) -> Table:
    """Medians in milliseconds and our best: the whole and its phases, and the ratio."""
    shown = Table(title="create + start + wait + remove over the API, medians in ms")
    for heading in ("network", "step", "Glassdock", "best", "Docker", "Docker / Glassdock", "target"):
        shown.add_column(heading, justify="left" if heading in ("network", "step") else "right")
    for network, target in TARGETS.items():
        for phase in ("whole", *PHASES):
            every = [spent[phase] for spent in times["Glassdock"][network]]
            ours, theirs = statistics.median(every), statistics.median(s[phase] for s in times["Docker"][network])
            whole = phase == "whole"
            goal = f"{target:.0f} ms, {RATIO:.0f} x" if whole else ""
            row = (network if whole else "", phase, f"{ours:.1f}", f"{min(every):.1f}", f"{theirs:.1f}")
            shown.add_row(
                *row, f"{theirs / ours:.1f}", goal, style="bold" if whole else None, end_section=phase == PHASES[-1]
            )
    return shown
