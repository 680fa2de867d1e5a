"""`pause`, `unpause`, `restart`, `rename` and `container prune`: Docker's flags.

Interface: click commands that give a `Call`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from glassdock.cli.call import Call
from glassdock.cli.tables import human_size
from glassdock.client import lifecycle as verbs

_NAMES = click.argument("names", nargs=-1, required=True, metavar="CONTAINER [CONTAINER...]")
_HELP = {"help_option_names": ["-h", "--help"]}


@click.command(help="Pause all processes within containers.", context_settings=_HELP)
@_NAMES
def pause(names: tuple[str, ...]) -> Call:
    """Parse `pause`."""
    return Call(verbs.Pause(names), _lines)


@click.command(help="Unpause all processes within containers.", context_settings=_HELP)
@_NAMES
def unpause(names: tuple[str, ...]) -> Call:
    """Parse `unpause`."""
    return Call(verbs.Unpause(names), _lines)


@click.command(help="Restart containers.", context_settings=_HELP)
@click.option("-s", "--signal", default="", metavar="string", help="Signal to send to the container")
@click.option("-t", "--time", "--timeout", "seconds", type=int, help="Seconds to wait before killing the container")
@_NAMES
def restart(names: tuple[str, ...], signal: str, seconds: int | None) -> Call:
    """Parse `restart`."""
    return Call(verbs.Restart(names, seconds, signal), _lines)


@click.command(help="Rename a container.", context_settings=_HELP)
@click.argument("name", metavar="CONTAINER")
@click.argument("new", metavar="NEW_NAME")
def rename(name: str, new: str) -> Call:
    """Parse `rename`."""
    return Call(verbs.Rename(name, new), lambda _: 0)


@click.command(help="Remove all stopped containers.", context_settings=_HELP)
@click.option("--filter", "filters", multiple=True, metavar="filter", help='Provide filter values (e.g. "until=…")')
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation")
def prune(filters: tuple[str, ...], force: bool) -> Call:
    """Parse `container prune`."""
    warning = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"
    if not force and not click.confirm(warning):
        raise click.Abort
    return Call(verbs.Prune(filters), _pruned)


def _pruned(answer: Mapping[str, Any]) -> int:
    gone = answer.get("ContainersDeleted") or ()
    if gone:
        click.echo("Deleted Containers:")
        for identity in gone:
            click.echo(identity)
        click.echo()
    click.echo(f"Total reclaimed space: {human_size(answer.get('SpaceReclaimed') or 0)}")
    return 0


def _lines(done: tuple[Any, ...]) -> int:
    for line in done:
        click.echo(line)
    return 0
