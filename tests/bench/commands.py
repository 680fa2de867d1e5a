"""The runtime's command line beside runc and bubblewrap: one bundle, run to its end, and an exec.

Interface: `measure(folder, rounds)` → `Row`s; `table(rows)`.

Rules: the commands take turns, so that what else the machine does hits all of them alike. Beside the time on the clock
stands the CPU time of the command and its children, which the load of the machine changes less.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from tests.runtime.lab import make_root


@dataclass(slots=True)
class Row:
    """One program at one task: milliseconds on the clock, and of CPU."""

    task: str
    program: str
    command: Sequence[str]
    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def turn(self, folder: Path) -> None:
        """Once more."""
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(self.command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        self.clock.append(1000 * (time.perf_counter() - began))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu.append(1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))


def measure(folder: Path, rounds: int) -> list[Row]:
    """Run every command in turns; a program that is not installed is left out."""
    ours = str(Path(sys.executable).parent / "glassdock-runtime")
    make_root(folder / "rootfs")
    subprocess.run([ours, "spec", "-b", folder], check=True)
    _program(folder, ["true"])
    first = {"glassdock-runtime": [ours, "--root", f"{folder}/g"], "runc": ["runc", "--root", f"{folder}/r"]}
    programs = {name: words for name, words in first.items() if shutil.which(words[0])}
    rows = [Row("run", name, [*words, "run", f"gdb-{name}"]) for name, words in programs.items()]
    if shutil.which("bwrap"):
        rows.append(Row("run", "bubblewrap", _bubblewrap(folder)))
    for _ in range(rounds):
        for row in rows:
            row.turn(folder)
    return rows + _execs(folder, programs, rounds)


def _execs(folder: Path, programs: dict[str, list[str]], rounds: int) -> list[Row]:
    _program(folder, ["sleep", "10000"])
    rows = []
    try:
        for name, words in programs.items():
            null, begin = subprocess.DEVNULL, [*words, "run", "--detach", f"gdb-{name}"]
            subprocess.run(begin, cwd=folder, check=True, stdin=null, stdout=null, stderr=null)
            rows.append(Row("exec", name, [*words, "exec", f"gdb-{name}", "true"]))
        for _ in range(rounds):
            for row in rows:
                row.turn(folder)
    finally:
        for name, words in programs.items():
            subprocess.run([*words, "delete", "--force", f"gdb-{name}"], check=True)
    return rows


def _program(folder: Path, arguments: list[str]) -> None:
    path = folder / "config.json"
    spec = json.loads(path.read_text())
    spec["process"].update(terminal=False, args=arguments, env=["PATH=/bin"])
    path.write_text(json.dumps(spec))


def _bubblewrap(folder: Path) -> list[str]:
    words = ["bwrap", "--bind", f"{folder}/rootfs", "/", "--proc", "/proc", "--dev", "/dev"]
    return [*words, "--unshare-all", "--setenv", "PATH", "/bin", "true"]


def table(rows: list[Row]) -> Table:
    """A line a command; the last column is what runc needs over what we need."""
    shown = Table(title="the runtime's command line, medians in ms")
    for heading in ("task", "program", "clock", "CPU", "runc / this"):
        shown.add_column(heading, justify="left" if heading in ("task", "program") else "right")
    theirs = {row.task: statistics.median(row.clock) for row in rows if row.program == "runc"}
    for row in rows:
        clock = statistics.median(row.clock)
        ratio = f"{theirs[row.task] / clock:.2f}" if row.task in theirs else "-"
        shown.add_row(row.task, row.program, f"{clock:.1f}", f"{statistics.median(row.cpu):.1f}", ratio)
    return shown
