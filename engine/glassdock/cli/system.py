"""The verbs on the engine and its networks, as command lines.

Interface:
- `version`, `info`, `networks`, `registry`: click commands that give a `Call`.
- `show_facts(form, keys)`: print a tree of facts as lines, or through a Go template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from glassdock.cli import template
from glassdock.cli.call import Call
from glassdock.cli.tables import show_rows
from glassdock.client import system as verbs

_HELP = {"help_option_names": ["-h", "--help"]}
_FORMAT = click.option("-f", "--format", "form", metavar="string", help="Format output: json, or a Go template")
_INFO = (
    "Containers",
    "ContainersRunning",
    "ContainersStopped",
    "Images",
    "ServerVersion",
    "Driver",
    "LoggingDriver",
    "CgroupDriver",
    "CgroupVersion",
    "DefaultRuntime",
    "KernelVersion",
    "OperatingSystem",
    "Architecture",
    "NCPU",
    "MemTotal",
    "Name",
    "DockerRootDir",
)


@click.command(help="Show the versions of client and engine.", context_settings=_HELP)
@_FORMAT
def version(form: str | None) -> Call:
    """Parse `version`."""

    def show(found: verbs.Facts) -> int:
        if form:
            return show_facts(form)(found)
        for side, facts in found.facts.items():
            click.echo(f"{side}:")
            for key in ("Version", "ApiVersion", "Os", "Arch", "KernelVersion"):
                if facts.get(key):
                    click.echo(f" {key + ':':<16}{facts[key]}")
        return 0

    return Call(verbs.Version(), show, plain=bool(form))


@click.command(help="Show what the engine says of itself.", context_settings=_HELP)
@_FORMAT
def info(form: str | None) -> Call:
    """Parse `info`."""
    return Call(verbs.Info(), show_facts(form, _INFO), plain=bool(form))


@click.command("ls", help="List networks.", context_settings=_HELP)
@click.option("--format", "form", metavar="string", help="Format output: table, json, or a Go template")
@click.option("--no-trunc", is_flag=True, help="Do not truncate the output")
@click.option("-q", "--quiet", is_flag=True, help="Only display network IDs")
def networks(form: str | None, no_trunc: bool, quiet: bool) -> Call:
    """Parse `network ls`."""
    shown = show_rows(form, whole=no_trunc, quiet=quiet)
    return Call(verbs.Networks(), shown, plain=bool(form or no_trunc or quiet))


@click.command(help="Show the course registry: its address and what it keeps.", context_settings=_HELP)
@_FORMAT
def registry(form: str | None) -> Call:
    """Parse `registry`."""

    def show(found: verbs.Facts) -> int:
        if form:
            return show_facts(form)(found)
        click.echo(found.facts["address"])
        for name, tags in found.facts["repositories"].items():
            click.echo(f"  {name}: {', '.join(sorted(tags))}")
        return 0

    return Call(verbs.Registry(), show, plain=bool(form))


def show_facts(form: str | None, keys: tuple[str, ...] = ()) -> Callable[[verbs.Facts], int]:
    """A printer of facts: `keys` (all, where none are named) a line each, or the template `form`."""

    def show(found: verbs.Facts) -> int:
        if form:
            click.echo(template.render(form, found.facts))
            return 0
        for key in keys or tuple(found.facts):
            value = found.facts.get(key)
            if value not in (None, "", []):
                click.echo(f"{key}: {_short(value)}")
        for warning in found.facts.get("Warnings") or ():
            click.echo(warning, err=True)
        return 0

    return show


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
