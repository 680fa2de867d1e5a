"""Glassdock's own verbs: the daemon, the doctor, the state of the engine.

Interface:
- `daemon`: runs the engine in this terminal until a signal.
- `doctor`, `status`: click commands that give a `Call`.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import click

from glassdock import paths
from glassdock.cli.call import Call
from glassdock.client import system as verbs

# As glassdock.daemon.isolation has them, which no other command should have to import.
CHOICES = ("auto", "root", "range", "single", "none")
_HELP = {"help_option_names": ["-h", "--help"]}


@click.command(help="Run the engine in this terminal.", context_settings=_HELP)
@click.option("--socket", metavar="PATH", help="Where to listen; default: $GLASSDOCK_HOST or the user's own")
@click.option("--root", metavar="PATH", help="Where to keep state; default: $GLASSDOCK_ROOT or the user's own")
@click.option(
    "--registry-port",
    type=click.IntRange(0, 65535),
    default=5000,
    show_default=True,
    envvar="GLASSDOCK_REGISTRY_PORT",
    help="The course registry's port on loopback; 0 is any free one",
)
@click.option(
    "--isolation",
    type=click.Choice(CHOICES),
    default="auto",
    show_default=True,
    envvar="GLASSDOCK_ISOLATION",
    help="Whose ids containers have: root's, a range of the user's, the user's own; none: images only",
)
@click.option("--verbose", is_flag=True, help="Tell each request")
def daemon(socket: str | None, root: str | None, registry_port: int, isolation: str, verbose: bool) -> int:
    """Run the daemon; returns when it was told to stop."""
    from glassdock.daemon.main import serve

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    serve(paths.socket_path(socket), paths.root_path(root), registry_port, isolation)
    return 0


@click.command(help="Show what this machine allows, and what would help.", context_settings=_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON")
def doctor(as_json: bool) -> Call:
    """Parse `doctor`."""

    def show(report: Any) -> int:
        click.echo(json.dumps(report.to_json(), indent=2) if as_json else str(report))
        return 0

    return Call(verbs.Doctor(), show, plain=as_json)


@click.command(help="Show whether the engine runs, and what it holds.", context_settings=_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON")
def status(as_json: bool) -> Call:
    """Parse `status`."""

    def show(found: verbs.Facts) -> int:
        if as_json:
            click.echo(json.dumps(found.facts, indent=2))
        else:
            for line in status_lines(found.facts):
                click.echo(line)
        return 0 if found.facts["up"] else 3  # what `systemctl status` says of a service that is not running

    return Call(verbs.Status(), show, plain=as_json)


def status_lines(facts: Any) -> list[str]:
    """The status in a few lines, the variable things last."""
    if not facts["up"]:
        text = "The engine is not running; it starts with the next command that needs it."
        return [text, f"socket: {facts['socket']}"]
    lines = [f"Glassdock engine {facts.get('version', '')} is running."]
    lines.append(f"containers: {facts.get('containers', 0)}, {facts.get('running', 0)} running")
    shown = ("images", "networks", "registry", "socket", "root")
    lines += [f"{key}: {_value(facts[key])}" for key in shown if key in facts]
    return lines + [f"warning: {text}" for text in facts.get("warnings") or ()]


def _value(value: Any) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
