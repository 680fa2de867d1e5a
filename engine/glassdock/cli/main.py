"""`glassdock`: the table of commands, and the way from a command line to an exit code.

Interface:
- `main(arguments=None)`: run a command line; returns the exit code, never raises, never shows a traceback.
- `glassdock`: the click group; `parse(arguments)`: the `Call` of a command line, for the magics.

Rules: a command's module is imported when the command is used, so that `glassdock --help` stays fast.
Source: docker/cli's wording and exit codes (125 the engine refused, 126 not executable, 127 not found).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from glassdock.cli.call import Call

_CONTAINER = {
    "attach": ("containers:attach", "Attach standard input, output and error to a running container"),
    "create": ("run:create", "Create a new container"),
    "diff": ("looking:diff", "Inspect changes to files of a container"),
    "exec": ("execs:command", "Execute a command in a running container"),
    "export": ("looking:export", "Export a container's filesystem as a tar archive"),
    "inspect": ("containers:inspect_container", "Show everything about containers"),
    "kill": ("containers:kill", "Kill running containers"),
    "logs": ("containers:logs", "Fetch the logs of a container"),
    "ls": ("containers:ps", "List containers"),
    "pause": ("lifecycle:pause", "Pause all processes within containers"),
    "port": ("looking:port", "List port mappings of a container"),
    "prune": ("lifecycle:prune", "Remove all stopped containers"),
    "rename": ("lifecycle:rename", "Rename a container"),
    "restart": ("lifecycle:restart", "Restart containers"),
    "rm": ("containers:rm", "Remove containers"),
    "run": ("run:run", "Create and run a new container from an image"),
    "start": ("containers:start", "Start stopped containers"),
    "stats": ("limits:stats", "Show what containers use, second by second"),
    "stop": ("containers:stop", "Stop running containers"),
    "top": ("looking:top", "Display the running processes of a container"),
    "unpause": ("lifecycle:unpause", "Unpause all processes within containers"),
    "update": ("limits:update", "Change the limits and the restart policy of containers"),
    "wait": ("containers:wait", "Wait until containers end, then print their exit codes"),
}
_IMAGE = {
    "build": ("images:build", "Build an image from a Dockerfile"),
    "history": ("images:history", "Show the steps that made an image"),
    "inspect": ("images:inspect_image", "Show everything about images"),
    "layers": ("images:layers", "Show what each step of an image added, changed, deleted"),
    "ls": ("images:images", "List images"),
    "pull": ("images:pull", "Bring an image from a registry"),
    "push": ("images:push", "Send an image to a registry"),
    "rm": ("images:rmi", "Remove images"),
    "tag": ("images:tag", "Give an image another name"),
}
_NETWORK = {
    "inspect": ("containers:inspect_network", "Show everything about networks"),
    "ls": ("system:networks", "List networks"),
}
_VOLUME = {
    "create": ("volumes:create", "Create a volume"),
    "inspect": ("containers:inspect_volume", "Show everything about volumes"),
    "ls": ("volumes:ls", "List volumes"),
    "prune": ("volumes:prune", "Remove unused local volumes"),
    "rm": ("volumes:rm", "Remove one or more volumes"),
}
_ENGINE = {
    "doctor": ("engine:doctor", "Show what this machine allows, and what would help"),
    "status": ("engine:status", "Show whether the engine runs, and what it holds"),
}
_TOP = {
    **{name: _CONTAINER[name] for name in _CONTAINER if name not in ("ls", "inspect", "prune")},
    **{name: _IMAGE[name] for name in ("build", "history", "pull", "push", "tag")},
    **_ENGINE,
    "container": ("main:container", "Manage containers"),
    "course": ("course:course", "Check the course, move an exercise along"),
    "daemon": ("engine:daemon", "Run the engine in this terminal"),
    "events": ("looking:events", "Get real time events from the engine"),
    "engine": ("main:engine", "Look at the engine and the machine"),
    "image": ("main:image", "Manage images"),
    "images": ("images:images", "List images"),
    "info": ("system:info", "Show what the engine says of itself"),
    "inspect": ("containers:inspect", "Show everything about objects of the engine"),
    "lab": ("lab:lab", "Open the course in JupyterLab"),
    "network": ("main:network", "Manage networks"),
    "ps": ("containers:ps", "List containers"),
    "registry": ("system:registry", "Show the course registry"),
    "rmi": ("images:rmi", "Remove images"),
    "version": ("system:version", "Show the versions of client and engine"),
    "volume": ("main:volume", "Manage volumes"),
}
_ALIASES = {"ps": "ls", "list": "ls", "remove": "rm"}


class Lazy(click.Group):
    """A group that knows its commands by a table and imports the one that is used."""

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = dict(table or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the table, sorted."""
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; Docker's other names for a group's verbs lead to the same."""
        target, _ = self.table.get(cmd_name) or self.table.get(_ALIASES.get(cmd_name, ""), ("", ""))
        if not target:
            return None
        module, _, attribute = target.partition(":")
        found = getattr(importlib.import_module(f"glassdock.cli.{module}"), attribute)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table's own words: no module is imported for the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.table[name][1]) for name in self.list_commands(ctx)])


@click.group(
    cls=Lazy,
    table=_TOP,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Containers you can see through: the verbs of docker on Glassdock's engine.",
    epilog="Run 'glassdock COMMAND --help' for more information on a command.",
)
@click.option("-H", "--host", metavar="ADDRESS", help="The engine's socket; default: $GLASSDOCK_HOST or your own.")
@click.version_option(package_name="glassdock", prog_name="glassdock", message="Glassdock version %(version)s")
def glassdock(host: str | None) -> None:
    """The root of all commands."""


@glassdock.result_callback()
def _with_host(found: Any, host: str | None) -> Any:
    return replace(found, host=host) if isinstance(found, Call) else found


def _group(name: str, table: Mapping[str, tuple[str, str]], text: str) -> Lazy:
    return Lazy(name, table=table, help=text, context_settings={"help_option_names": ["-h", "--help"]})


container = _group("container", _CONTAINER, "Manage containers.")
image = _group("image", _IMAGE, "Manage images.")
network = _group("network", _NETWORK, "Manage networks.")
volume = _group("volume", _VOLUME, "Manage volumes.")
engine = _group("engine", _ENGINE, "Look at the engine and the machine.")


def parse(arguments: Sequence[str], *, text: str | None = None) -> Any:
    """What a command line means: a `Call`, or what a command that does its own work returned.

    `text` is a notebook cell's Dockerfile. Raises `click.ClickException` for what cannot be understood. Help is
    printed, and gives None.
    """
    try:
        found = glassdock.main(list(arguments), prog_name="glassdock", standalone_mode=False, obj=text)
    except click.exceptions.NoArgsIsHelpError as nothing:
        click.echo(nothing.format_message())
        return None
    return None if found == 0 else found  # click's answer to --help is the exit code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not sys.platform.startswith("linux"):
        from glassdock.client.connect import ELSEWHERE

        click.echo(f"glassdock: {ELSEWHERE}", err=True)
        return 1
    try:
        found = parse(words)
        return _perform(found) if isinstance(found, Call) else int(found or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as error:
        from glassdock.cli.usage import explain

        told = explain(error)
        click.echo(told.text(), err=True)
        return told.code
    except BrokenPipeError:
        # The reader went away (`| head`): nothing can be told, and flushing at exit must not try either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: a sentence, never a traceback
        return _failed(error, 1)


def _perform(call: Call) -> int:
    from glassdock.cli.call import exit_code
    from glassdock.cli.terminal import Terminal, need_terminal
    from glassdock.client.run import Run
    from glassdock.client.session import Session, Silent
    from glassdock.errors import GlassdockError

    with Terminal() as terminal:
        output = Silent() if call.quiet else terminal
        session = Session(call.host, output=output, stdin=terminal.stdin, follow=terminal.follow)
        session.follow_exec = terminal.follow_exec
        try:
            if isinstance(call.verb, Run) and not call.verb.options.detach:
                need_terminal(call.verb.options.interactive, call.verb.options.tty)
            return call.show(call.verb.do(session))
        except GlassdockError as error:
            return _failed(error, exit_code(error, call))
        finally:
            session.close()


def _failed(error: Exception, code: int) -> int:
    """Tell an error in a sentence and what to do; the traceback only with GLASSDOCK_DEBUG."""
    from glassdock.errors import GlassdockError

    if os.environ.get("GLASSDOCK_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, GlassdockError):
        message, remedy = error.message, error.remedy
    else:
        message, remedy = f"{type(error).__name__}: {error}", "This is a bug: GLASSDOCK_DEBUG=1 shows where."
    click.echo(f"glassdock: {message}", err=True)
    if remedy:
        click.echo(remedy, err=True)
    return code
