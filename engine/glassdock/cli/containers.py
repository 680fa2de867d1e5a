"""The verbs on containers that exist, as command lines.

Interface:
- `ps`, `logs`, `stop`, `kill`, `rm`, `wait`, `start`, `attach`: click commands that give a `Call`.
- `inspect`, and `inspect_container`, `_image`, `_network`, `_volume`: the same for one kind of object.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from glassdock.cli.call import Call
from glassdock.cli.tables import show_objects, show_rows
from glassdock.client import containers as verbs
from glassdock.client.run import Attach, Ran, Start
from glassdock.errors import InvalidParameter

_NAMES = click.argument("names", nargs=-1, required=True, metavar="CONTAINER [CONTAINER...]")
_KEYS_TEXT = "Override the key sequence for detaching a container"
_DETACH_KEYS = click.option("--detach-keys", default="", metavar="string", help=_KEYS_TEXT)
_HELP = {"help_option_names": ["-h", "--help"]}


@click.command(help="List containers.", context_settings=_HELP)
@click.option("-a", "--all", is_flag=True, help="Show all containers (default shows just running)")
@click.option("-f", "--filter", "filters", multiple=True, metavar="filter", help="Filter output: KEY=VALUE")
@click.option("-n", "--last", type=int, default=-1, help="Show n last created containers (includes all states)")
@click.option("-l", "--latest", is_flag=True, help="Show the latest created container (includes all states)")
@click.option("-s", "--size", is_flag=True, help="Display total file sizes")
@click.option("--format", "form", metavar="string", help="Format output: table, json, or a Go template")
@click.option("--no-trunc", is_flag=True, help="Don't truncate output")
@click.option("-q", "--quiet", is_flag=True, help="Only display container IDs")
def ps(**values: Any) -> Call:
    """Parse `ps`."""
    form, whole, quiet = values["form"], values["no_trunc"], values["quiet"]
    last = 1 if values["latest"] else values["last"]
    verb = verbs.List(all=values["all"], filters=values["filters"], last=last, size=values["size"])
    return Call(verb, show_rows(form, whole=whole, quiet=quiet), plain=bool(form or whole or quiet))


@click.command(help="Fetch the logs of a container.", context_settings=_HELP)
@click.option("-f", "--follow", is_flag=True, help="Follow log output")
@click.option("-t", "--timestamps", is_flag=True, help="Show timestamps")
@click.option("-n", "--tail", default="all", metavar="string", help="Number of lines to show from the end of the logs")
@click.option("--since", default="", metavar="string", help='Show logs since a time ("2013-01-02T13:23:37Z") or "42m"')
@click.option("--until", default="", metavar="string", help='Show logs before a time ("2013-01-02T13:23:37Z") or "42m"')
@click.argument("name", metavar="CONTAINER")
def logs(name: str, follow: bool, timestamps: bool, tail: str, since: str, until: str) -> Call:
    """Parse `logs`."""
    return Call(verbs.Logs(name, follow, timestamps, tail, moment(since), moment(until)), _nothing)


@click.command(help="Stop running containers.", context_settings=_HELP)
@click.option("-t", "--time", "--timeout", "seconds", type=int, help="Seconds to wait before killing the container")
@_NAMES
def stop(names: tuple[str, ...], seconds: int | None) -> Call:
    """Parse `stop`."""
    return Call(verbs.Stop(names, seconds), show_names)


@click.command(help="Kill running containers.", context_settings=_HELP)
@click.option("-s", "--signal", default="KILL", metavar="string", help="Signal to send to the container")
@_NAMES
def kill(names: tuple[str, ...], signal: str) -> Call:
    """Parse `kill`."""
    return Call(verbs.Kill(names, signal), show_names)


@click.command(help="Remove containers.", context_settings=_HELP)
@click.option("-f", "--force", is_flag=True, help="Force the removal of a running container (uses SIGKILL)")
@click.option("-v", "--volumes", is_flag=True, help="Remove anonymous volumes associated with the container")
@_NAMES
def rm(names: tuple[str, ...], force: bool, volumes: bool) -> Call:
    """Parse `rm`."""
    return Call(verbs.Remove(names, force, volumes), show_names)


@click.command(help="Wait until containers end, then print their exit codes.", context_settings=_HELP)
@_NAMES
def wait(names: tuple[str, ...]) -> Call:
    """Parse `wait`."""
    return Call(verbs.Wait(names), show_names)


@click.command(help="Start stopped containers.", context_settings=_HELP)
@click.option("-a", "--attach", "follow", is_flag=True, help="Attach STDOUT/STDERR and forward signals")
@click.option("-i", "--interactive", is_flag=True, help="Attach the container's STDIN")
@_DETACH_KEYS
@_NAMES
def start(names: tuple[str, ...], follow: bool, interactive: bool, detach_keys: str) -> Call:
    """Parse `start`."""
    return Call(Start(names, follow, interactive, detach_keys), _ended)


@click.command(help="Attach standard input, output and error to a running container.", context_settings=_HELP)
@click.option("--no-stdin", is_flag=True, help="Do not attach STDIN")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Proxy all received signals to the process")
@_DETACH_KEYS
@click.argument("name", metavar="CONTAINER")
def attach(name: str, no_stdin: bool, sig_proxy: bool, detach_keys: str) -> Call:
    """Parse `attach`."""
    return Call(Attach(name, stdin=not no_stdin, proxy=sig_proxy, detach_keys=detach_keys), _ended)


def _inspect(kind: str, text: str) -> Callable[..., Any]:
    @click.command("inspect", help=text, context_settings=_HELP)
    @click.option("-f", "--format", "form", metavar="string", help="Format output with a Go template")
    @click.option("--type", "only", metavar="string", default=kind, hidden=bool(kind), help="Only objects of the type")
    @click.argument("names", nargs=-1, required=True, metavar="NAME|ID [NAME|ID...]")
    def command(names: tuple[str, ...], form: str | None, only: str) -> Call:
        return Call(verbs.Inspect(names, only), show_objects(form), plain=form is not None)

    return command


inspect = _inspect("", "Show everything about objects of the engine.")
inspect_container = _inspect("container", "Show everything about containers.")
inspect_image = _inspect("image", "Show everything about images.")
inspect_network = _inspect("network", "Show everything about networks.")
inspect_volume = _inspect("volume", "Show everything about volumes.")


def show_names(done: tuple[Any, ...]) -> int:
    """Docker's answer to a verb on names: a line each."""
    for line in done:
        click.echo(line)
    return 0


def _nothing(_: None) -> int:
    return 0


def _ended(done: Ran | tuple[str, ...]) -> int:
    return (done.exit_code or 0) if isinstance(done, Ran) else show_names(done)


def moment(text: str) -> str:
    """Unix seconds of a point in time: "42m" ago, an ISO date, or seconds as they are."""
    units = {"s": 1, "m": 60, "h": 3600}
    if not text or text.replace(".", "", 1).isdigit():
        return text
    try:
        if text[-1] in units and text[:-1].replace(".", "", 1).isdigit():
            return f"{time.time() - float(text[:-1]) * units[text[-1]]:.9f}"
        return f"{datetime.fromisoformat(text).timestamp():.9f}"
    except ValueError:
        remedy = 'Write "10m" or "2026-01-31T12:00:00Z".'
        raise InvalidParameter(f'invalid value "{text}": not a time', remedy) from None
