"""`stats` and `update` as command lines.

Interface: `stats`, `update`: click commands that give a `Call`.

Source: docker/cli `cli/command/container/stats.go`, `formatter_stats.go` and `update.go` for columns, words and flags.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from glassdock.cli import template
from glassdock.cli.call import Call
from glassdock.cli.containers import show_names
from glassdock.cli.tables import human_size, lay_out
from glassdock.client import create
from glassdock.client.limits import Stats, Update, Usage
from glassdock.errors import InvalidParameter

_HELP = {"help_option_names": ["-h", "--help"]}
_COLUMNS = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
    "Container": "CONTAINER",
}
_CLEAR = "\033[H\033[2J"


@click.command(help="Show what containers use, second by second.", context_settings=_HELP)
@click.option("-a", "--all", "everyone", is_flag=True, help="Show all containers (default shows just running)")
@click.option("--format", "form", metavar="string", help="Format output: table, json, or a Go template")
@click.option("--no-stream", is_flag=True, help="Only show the first result")
@click.option("--no-trunc", is_flag=True, help="Do not truncate output")
@click.argument("names", nargs=-1, metavar="[CONTAINER...]")
def stats(names: tuple[str, ...], everyone: bool, form: str | None, no_stream: bool, no_trunc: bool) -> Call:
    """Parse `stats`."""
    return Call(Stats(names, everyone, not no_stream), _show(form, whole=no_trunc), plain=True)


_SIZES = {"memory": "Memory", "memory_swap": "MemorySwap", "memory_reservation": "MemoryReservation"}
_NUMBERS = {
    "blkio_weight": ("BlkioWeight", "Block IO (relative weight), between 10 and 1000, or 0 to disable"),
    "cpu_period": ("CpuPeriod", "Limit CPU CFS (Completely Fair Scheduler) period"),
    "cpu_quota": ("CpuQuota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    "cpu_rt_period": ("CpuRealtimePeriod", "Limit the CPU real-time period in microseconds"),
    "cpu_rt_runtime": ("CpuRealtimeRuntime", "Limit the CPU real-time runtime in microseconds"),
    "cpu_shares": ("CpuShares", "CPU shares (relative weight)"),
    "pids_limit": ("PidsLimit", "Tune container pids limit (set -1 for unlimited)"),
}
_WORDS = {
    "cpuset_cpus": ("CpusetCpus", "CPUs in which to allow execution (0-3, 0,1)"),
    "cpuset_mems": ("CpusetMems", "MEMs in which to allow execution (0-3, 0,1)"),
}


def _flags(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, (_, text) in {**_NUMBERS, **_WORDS}.items():
        kind: type = int if name in _NUMBERS else str
        option = ("-c", "--cpu-shares") if name == "cpu_shares" else (f"--{name.replace('_', '-')}",)
        command = click.option(*option, name, type=kind, default=None, help=text)(command)
    command = click.option("--cpus", default="", metavar="decimal", help="Number of CPUs")(command)
    command = click.option("-m", "--memory", default="", metavar="bytes", help="Memory limit")(command)
    swap = "Swap limit equal to memory plus swap: -1 to enable unlimited swap"
    command = click.option("--memory-swap", default="", metavar="bytes", help=swap)(command)
    command = click.option("--memory-reservation", default="", metavar="bytes", help="Memory soft limit")(command)
    return click.option("--restart", default="", metavar="string", help="Restart policy when a container exits")(
        command
    )


@click.command(help="Change the limits and the restart policy of containers.", context_settings=_HELP)
@_flags
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER [CONTAINER...]")
def update(names: tuple[str, ...], cpus: str, restart: str, **values: Any) -> Call:
    """Parse `update`."""
    changes: dict[str, Any] = {
        word: create.size(values[name], f"--{name.replace('_', '-')}") for name, word in _SIZES.items() if values[name]
    }
    given = {**_NUMBERS, **_WORDS}
    changes |= {given[name][0]: values[name] for name in given if values[name] is not None}
    if cpus:
        changes["NanoCpus"] = create.nano_cpus(cpus)
    if restart:
        changes["RestartPolicy"] = create.restart_policy(restart)
    if not changes:
        raise InvalidParameter("you must provide one or more flags when using this command")
    return Call(Update(names, changes), show_names)


def _show(form: str | None, *, whole: bool) -> Callable[[Iterator[tuple[Usage, ...]]], int]:
    def show(found: Iterator[tuple[Usage, ...]]) -> int:
        screen = sys.stdout.isatty()
        for number, lines in enumerate(found):
            if screen and number:
                click.echo(_CLEAR, nl=False)
            for line in _lines(lines, form, whole):
                click.echo(line)
        return 0

    return show


def _lines(found: tuple[Usage, ...], form: str | None, whole: bool) -> Iterable[str]:
    rows = [_fields(one, whole) for one in found]
    if form and form != "table" and not form.startswith("table "):
        return [template.render(form, row) for row in rows]
    names = re.findall(r"\{\{\s*\.(\w+)\s*\}\}", form or "") or list(_COLUMNS)[:-1]
    return lay_out(
        [_COLUMNS.get(name, name.upper()) for name in names], [[row[name] for name in names] for row in rows]
    )


def _fields(one: Usage, whole: bool) -> dict[str, str]:
    """A line's fields under the names that `--format` uses; `--` where there are no numbers."""
    identity = one.id if whole else one.id[:12]
    row = {"ID": identity, "Container": identity, "Name": one.name}
    if not one.running:
        return row | {name: "-- / --" if name == "MemUsage" else "--" for name in _COLUMNS if name not in row}
    return row | {
        "CPUPerc": f"{one.cpu:.2f}%",
        "MemUsage": f"{_binary(one.memory)} / {_binary(one.limit)}",
        "MemPerc": f"{100 * one.memory / one.limit if one.limit else 0:.2f}%",
        "NetIO": f"{human_size(one.received)} / {human_size(one.sent)}",
        "BlockIO": f"{human_size(one.read)} / {human_size(one.written)}",
        "PIDs": str(one.pids),
    }


def _binary(size: float) -> str:
    """12.5MiB, as memory is written."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.4g}{unit}"
