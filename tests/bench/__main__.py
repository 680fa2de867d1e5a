"""`make bench`: the figures of the engine, beside Docker where Docker has the same.

`make bench ARGS="--only lives --only exec --rounds 100"`; the sections are lives, exec, tracing, commands (by
default), and inside, idle, which take minutes.

Rules: everything on this machine, in the same run, with state and sockets of its own; everything is removed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from tests.bench import commands, execs, idle, inside, lives, tracing
from tests.bench.engines import console, contenders, glassdock

SECTIONS = ("lives", "exec", "tracing", "commands", "inside", "idle")
BESIDE_DOCKER = ("lives", "exec")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(SECTIONS), default=("lives", "exec", "tracing", "commands"))
@click.option("--rounds", default=30, show_default=True, help="Containers of each engine on each network.")
@click.option("--warmup", default=3, show_default=True, help="Rounds before, which are not counted.")
@click.option("--containers", default=1000, show_default=True, help="How many idle ones.")
@click.option("--networks", default=1, show_default=True, help="Over how many bridges the idle ones are spread.")
@click.option("--json", "as_json", type=click.Path(dir_okay=False, path_type=Path), help="Keep every time in a file.")
def main(only: tuple[str, ...], rounds: int, warmup: int, containers: int, networks: int, as_json: Path | None) -> None:
    """Time Glassdock on this machine, against Docker where that does the same."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if os.geteuid() != 0:
        raise click.ClickException("Docker's daemon needs root: sudo make bench")
    needed = ("dockerd", "ip") if set(only) & set(BESIDE_DOCKER) else ("ip",)
    if missing := [program for program in needed if shutil.which(program) is None]:
        raise click.ClickException(f"{' and '.join(missing)} not found; on Debian: apt install docker.io iproute2")
    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gdb-", dir="/tmp") as name:
        folder = Path(name)
        if set(only) & set(BESIDE_DOCKER):
            _beside_docker(folder / "both", only, rounds, warmup, kept)
        if "tracing" in only:
            with glassdock(folder / "tracing") as (engine, daemon):
                console.print(tracing.table(tracing.measure(engine, daemon, rounds)))
        if "commands" in only:
            console.print(commands.table(commands.measure(folder / "commands", rounds)))
        if "inside" in only:
            console.print(inside.table(inside.measure(folder / "inside", max(3, rounds // 5))))
        if "idle" in only:
            console.print(idle.table(idle.measure(folder / "idle", containers, networks)))
    if as_json:
        as_json.write_text(json.dumps(kept, indent=1))
    sys.stdout.flush()


def _beside_docker(folder: Path, only: tuple[str, ...], rounds: int, warmup: int, kept: dict[str, Any]) -> None:
    folder.mkdir()
    with contenders(folder) as both:
        if "lives" in only:
            kept["lives"] = lives.measure(both, rounds, warmup)
            console.print(lives.table(kept["lives"]))
        if "exec" in only:
            kept["exec"] = execs.measure(both, rounds, warmup)
            console.print(execs.table(kept["exec"]))


main()
