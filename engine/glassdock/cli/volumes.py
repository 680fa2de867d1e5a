"""`volume create|ls|rm|prune` as command lines.

Interface: `create`, `ls`, `rm`, `prune`: click commands that give a `Call`; `inspect` is in `containers.py`.
"""

from __future__ import annotations

import sys

import click

from glassdock.cli.call import Call
from glassdock.cli.containers import show_names
from glassdock.cli.tables import human_size, show_rows
from glassdock.client import volumes as verbs

_HELP = {"help_option_names": ["-h", "--help"]}


@click.command(help="Create a volume.", context_settings=_HELP)
@click.option("-d", "--driver", default="local", metavar="string", help="Specify volume driver name")
@click.option("-o", "--opt", "options", multiple=True, metavar="map", help="Set driver specific options")
@click.option("--label", "labels", multiple=True, metavar="list", help="Set metadata for a volume")
@click.argument("name", required=False, default="", metavar="[VOLUME]")
def create(name: str, driver: str, options: tuple[str, ...], labels: tuple[str, ...]) -> Call:
    """Parse `volume create`."""
    return Call(verbs.Create(name, driver, _pairs(options), _pairs(labels)), show_names)


@click.command(help="List volumes.", context_settings=_HELP)
@click.option(
    "-f", "--filter", "filters", multiple=True, metavar="filter", help="Provide filter values (dangling=true)"
)
@click.option("--format", "form", metavar="string", help="Format output: table, json, or a Go template")
@click.option("-q", "--quiet", is_flag=True, help="Only display volume names")
def ls(filters: tuple[str, ...], form: str | None, quiet: bool) -> Call:
    """Parse `volume ls`."""
    return Call(verbs.List(filters), show_rows(form, whole=True, quiet=quiet), plain=bool(form or quiet))


@click.command(help="Remove one or more volumes.", context_settings=_HELP)
@click.option("-f", "--force", is_flag=True, help="Force the removal of one or more volumes")
@click.argument("names", nargs=-1, required=True, metavar="VOLUME [VOLUME...]")
def rm(names: tuple[str, ...], force: bool) -> Call:
    """Parse `volume rm`."""
    return Call(verbs.Remove(names, force), show_names)


@click.command(help="Remove unused local volumes.", context_settings=_HELP)
@click.option("-a", "--all", "everything", is_flag=True, help="Remove all unused volumes, not just anonymous ones")
@click.option("--filter", "filters", multiple=True, metavar="filter", help='Provide filter values ("label=<label>")')
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation")
def prune(everything: bool, filters: tuple[str, ...], force: bool) -> Call:
    """Parse `volume prune`."""
    which = "all" if everything else "anonymous"
    if not force and sys.stdin.isatty():
        click.confirm(
            f"WARNING! This will remove {which} local volumes not used by at least one container.\n"
            "Are you sure you want to continue?",
            abort=True,
        )

    def show(done: verbs.Pruned) -> int:
        if done.names:
            click.echo("\n".join(["Deleted Volumes:", *done.names, ""]))
        click.echo(f"Total reclaimed space: {human_size(done.space, 4)}")
        return 0

    return Call(verbs.Prune(everything, filters), show)


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    return {word.partition("=")[0]: word.partition("=")[2] for word in words}
