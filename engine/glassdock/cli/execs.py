"""`exec`: Docker's flags for one more program in a container.

Rules: everything after the container belongs to the program.
"""

from __future__ import annotations

from typing import Any

import click

from glassdock.cli.call import Call
from glassdock.cli.run import options_of_environment
from glassdock.client.execs import Exec, Executed

_SETTINGS = {"allow_interspersed_args": False, "help_option_names": ["--help"]}


@click.command("exec", context_settings=_SETTINGS, help="Execute a command in a running container.")
@click.option("-d", "--detach", is_flag=True, help="Detached mode: run command in the background")
@click.option("--detach-keys", default="", metavar="string", help="Override the key sequence for detaching a container")
@click.option("-e", "--env", multiple=True, metavar="list", help="Set environment variables")
@click.option("--env-file", multiple=True, metavar="list", help="Read in a file of environment variables")
@click.option("-i", "--interactive", is_flag=True, help="Keep STDIN open even if not attached")
@click.option("--privileged", is_flag=True, help="Give extended privileges to the command")
@click.option("-t", "--tty", is_flag=True, help="Allocate a pseudo-TTY")
@click.option("-u", "--user", default="", metavar="string", help="Username or UID (format: <name|uid>[:<group|gid>])")
@click.option("-w", "--workdir", default="", metavar="string", help="Working directory inside the container")
@click.option("--stdin", metavar="text", help="Glassdock: what the program reads from its STDIN; implies -i")
@click.argument("name", metavar="CONTAINER")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND [ARG...]")
def command(**values: Any) -> Call:
    """Parse `exec`."""
    text = values.pop("stdin")
    values["env"] = options_of_environment(values.pop("env_file"), values["env"])
    if text is not None:
        values |= {"stdin": text.encode(), "interactive": True}
    return Call(Exec(**values), _code)


def _code(done: Executed) -> int:
    return done.exit_code or 0
