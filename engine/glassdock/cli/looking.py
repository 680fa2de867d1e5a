"""`top`, `port`, `diff`, `export` and `events`: Docker's flags.

Interface: click commands that give a `Call`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, BinaryIO

import click

from glassdock.cli import template
from glassdock.cli.call import Call
from glassdock.cli.containers import moment
from glassdock.cli.tables import lay_out
from glassdock.client import looking as verbs
from glassdock.errors import InvalidParameter

_HELP = {"help_option_names": ["-h", "--help"]}


@click.command(
    help="Display the running processes of a container.", context_settings={**_HELP, "ignore_unknown_options": True}
)
@click.argument("name", metavar="CONTAINER")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ps OPTIONS]")
def top(name: str, arguments: tuple[str, ...]) -> Call:
    """Parse `top`."""
    return Call(verbs.Top(name, arguments), _table)


@click.command(help="List port mappings or a specific mapping for the container.", context_settings=_HELP)
@click.argument("name", metavar="CONTAINER")
@click.argument("number", default="", metavar="[PRIVATE_PORT[/PROTO]]")
def port(name: str, number: str) -> Call:
    """Parse `port`."""
    return Call(verbs.Port(name, number), _lines)


@click.command(help="Inspect changes to files or directories on a container's filesystem.", context_settings=_HELP)
@click.argument("name", metavar="CONTAINER")
def diff(name: str) -> Call:
    """Parse `diff`."""
    return Call(verbs.Diff(name), _lines)


@click.command(help="Export a container's filesystem as a tar archive.", context_settings=_HELP)
@click.option("-o", "--output", metavar="string", help="Write to a file, instead of STDOUT")
@click.argument("name", metavar="CONTAINER")
def export(name: str, output: str | None) -> Call:
    """Parse `export`."""
    if output is None and sys.stdout.isatty():
        raise InvalidParameter("cowardly refusing to save to a terminal", "Use the -o flag or redirect.")
    return Call(verbs.Export(name, _writer(output)), lambda _: 0)


@click.command(help="Get real time events from the engine.", context_settings=_HELP)
@click.option("-f", "--filter", "filters", multiple=True, metavar="filter", help="Filter output: KEY=VALUE")
@click.option("--format", "form", metavar="string", help="Format output: json, or a Go template")
@click.option("--since", default="", metavar="string", help="Show all events created since a time, or 10m")
@click.option("--until", default="", metavar="string", help="Stream events until this time, or 10m ago")
def events(filters: tuple[str, ...], form: str | None, since: str, until: str) -> Call:
    """Parse `events`."""

    def tell(event: Mapping[str, Any]) -> None:
        click.echo(_event(event) if form is None else template.render(form, event))

    return Call(verbs.Events(moment(since), moment(until), filters, tell), lambda _: 0)


def _writer(output: str | None) -> Callable[[bytes], Any]:
    """To stdout, or to a file that is opened with the first piece."""
    if output is None:
        return sys.stdout.buffer.write
    path = output
    opened: list[BinaryIO] = []

    def write(piece: bytes) -> None:
        if not opened:
            opened.append(open(path, "wb"))  # noqa: SIM115 - open until the process ends
        opened[0].write(piece)
        opened[0].flush()

    return write


def _event(event: Mapping[str, Any]) -> str:
    """Docker's line: time, type, action, id and the attributes."""
    nanoseconds = int(event.get("timeNano") or 0)
    seconds, rest = divmod(nanoseconds, 10**9)
    local = datetime.fromtimestamp(seconds).astimezone()
    when = f"{local:%Y-%m-%dT%H:%M:%S}.{rest:09d}{local:%z}"
    actor = event.get("Actor") or {}
    pairs = ", ".join(f"{key}={value}" for key, value in sorted((actor.get("Attributes") or {}).items()))
    told = f"{when[:-2]}:{when[-2:]} {event.get('Type')} {event.get('Action')} {actor.get('ID')}"
    return f"{told} ({pairs})" if pairs else told


def _table(found: Mapping[str, Any]) -> int:
    for line in lay_out(found["Titles"], found["Processes"]):
        click.echo(line)
    return 0


def _lines(done: tuple[str, ...]) -> int:
    for line in done:
        click.echo(line)
    return 0
