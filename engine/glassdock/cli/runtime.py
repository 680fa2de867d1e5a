"""`glassdock-runtime`: bundles become containers, with runc's commands and flags, so that containerd can drive it.

Interface: `main(arguments=None)`: run a command line; returns the exit code.

Rules: it needs no daemon. An error is one line on standard error and, with `--log`, an entry there; the exit code is 1.
Source: runc(8), https://github.com/opencontainers/runtime-tools/blob/master/docs/command-line-interface.md
"""

from __future__ import annotations

import datetime as dt
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from glassdock.errors import GlassdockError, InvalidParameter, NotFound
from glassdock.runtime import bundle, bundle_state, cgroups
from glassdock.runtime.bundle_state import Place

_SETTINGS = {"help_option_names": ["-h", "--help"]}


@dataclass(slots=True)
class Settings:
    """The global flags."""

    root: Path = Path("/run/glassdock-runtime")
    log: str = ""
    log_format: str = "text"

    def write(self, level: str, message: str) -> None:
        """An entry in the log, where there is one, as runc writes it."""
        if not self.log:
            return
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        if self.log_format == "json":
            line = msgspec.json.encode({"level": level, "msg": message, "time": now}).decode()
        else:
            line = f'time="{now}" level={level} msg={msgspec.json.encode(message).decode()}'
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def warn(self, warnings: Sequence[str]) -> None:
        """What did not go as wished, and did not stop anything."""
        for warning in warnings:
            self.write("warning", warning)


_settings = Settings()


@click.group(context_settings=_SETTINGS)
@click.option("--root", type=click.Path(path_type=Path), help="Where the state of containers is kept.")
@click.option("--log", default="", metavar="FILE", help="Where errors are written as well.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option("--debug", is_flag=True, expose_value=False, help="Accepted; there is no more to say.")
@click.option("--systemd-cgroup", is_flag=True, help="Refused: cgroups are made without systemd.")
@click.option("--rootless", default="auto", expose_value=False, help="Accepted: what is allowed is found by doing it.")
@click.version_option(package_name="glassdock", message="glassdock-runtime version %(version)s\nspec: 1.2.0")
def runtime(root: Path | None, log: str, log_format: str, *, systemd_cgroup: bool) -> None:
    """Turn bundles into containers, as the Open Container Initiative's runtime specification says."""
    _settings.root, _settings.log, _settings.log_format = root or Settings().root, log, log_format
    if systemd_cgroup:
        raise InvalidParameter("--systemd-cgroup cannot be used: this runtime makes its cgroups without systemd")


def _making(command: Any) -> Any:
    """The flags that `create` and `run` share."""
    for option in (
        click.argument("identity", metavar="CONTAINER"),
        click.option("-b", "--bundle", "path", default=".", help="The bundle's folder; default: this one."),
        click.option("--console-socket", default="", help="Who gets the terminal's outer end."),
        click.option("--pid-file", default="", help="Where the number of the first process is written."),
        click.option("--no-pivot", is_flag=True, expose_value=False, help="Accepted: it is pivoted into all the same."),
        click.option("--no-new-keyring", is_flag=True, expose_value=False, help="Accepted: no keyring is made."),
        click.option("--preserve-fds", type=click.IntRange(0), default=0, help="How many more descriptors to pass."),
    ):
        command = option(command)
    return command


@runtime.command()
@_making
def create(identity: str, path: str, console_socket: str, pid_file: str, preserve_fds: int) -> None:
    """Make a container that waits for `start`."""
    _create(identity, path, console_socket, pid_file, preserve_fds)


def _create(identity: str, path: str, console_socket: str, pid_file: str, preserve_fds: int) -> int:
    found = bundle.load(path)
    console = bundle.console_of(console_socket)
    record, warnings = bundle.create(_place(identity), found, console=console, preserved=preserve_fds)
    _settings.warn(warnings)
    if pid_file:
        temporary = f"{pid_file}.{os.getpid()}"
        Path(temporary).write_text(str(record.pid), encoding="utf-8")
        os.rename(temporary, pid_file)
    return record.pid


@runtime.command()
@_making
@click.option("-d", "--detach", is_flag=True, help="Do not wait for its end.")
@click.option("--keep", is_flag=True, help="Do not delete it when it has ended.")
def run(
    identity: str, path: str, console_socket: str, pid_file: str, preserve_fds: int, *, detach: bool, keep: bool
) -> int:
    """Create, start, wait, delete; the exit code is the container's."""
    place = _place(identity)
    pid = _create(identity, path, console_socket, pid_file, preserve_fds)
    try:
        _settings.warn(bundle.start(place))
    except GlassdockError:
        bundle.delete(place, force=True)
        raise
    if detach:
        return 0
    code = _wait(pid)
    if not keep:
        _settings.warn(bundle.delete(place, force=True))
    return code


def _wait(pid: int) -> int:
    """Pass signals on until it ends; 128+n for an end by signal n."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda received, _: os.kill(pid, received))
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


@runtime.command()
@click.argument("identity", metavar="CONTAINER")
def start(identity: str) -> None:
    """Let the program of a created container begin."""
    _settings.warn(bundle.start(_place(identity)))


@runtime.command()
@click.argument("identity", metavar="CONTAINER")
def state(identity: str) -> None:
    """Show the state of a container."""
    place = _place(identity)
    _show(bundle_state.state(place, place.read()))


@runtime.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Signal all of its processes.")
@click.argument("identity", metavar="CONTAINER")
@click.argument("name", metavar="[SIGNAL]", default="SIGTERM")
def kill(identity: str, name: str, *, everything: bool) -> None:
    """Send a signal, SIGTERM if none is named."""
    bundle.kill(_place(identity), _signal(name), everything=everything)


@runtime.command()
@click.option("-f", "--force", is_flag=True, help="Kill it first if it runs; say nothing if it is not there.")
@click.argument("identity", metavar="CONTAINER")
def delete(identity: str, *, force: bool) -> None:
    """Remove a stopped container."""
    place = _place(identity)
    try:
        _settings.warn(bundle.delete(place, force=force))
    except NotFound:
        place.remove()  # a create that was cut off before it wrote anything
        if not force:
            raise


@runtime.command()
@click.argument("identity", metavar="CONTAINER")
def pause(identity: str) -> None:
    """Stop all processes where they are."""
    bundle.freeze(_place(identity), frozen=True)


@runtime.command()
@click.argument("identity", metavar="CONTAINER")
def resume(identity: str) -> None:
    """Let paused processes go on."""
    bundle.freeze(_place(identity), frozen=False)


@runtime.command()
@click.option("-f", "--format", "form", type=click.Choice(["table", "json"]), default="table")
@click.argument("identity", metavar="CONTAINER")
@click.argument("arguments", metavar="[PS OPTIONS]", nargs=-1)
def ps(identity: str, form: str, arguments: tuple[str, ...]) -> None:
    """Show the processes of a container."""
    pids = cgroups.open_cgroup(_place(identity).read().cgroup).pids()
    if form == "json":
        click.echo(msgspec.json.encode(sorted(pids)).decode())
        return
    import subprocess

    done = subprocess.run(["ps", *(arguments or ("-ef",))], capture_output=True, text=True, check=True)
    first, *rows = done.stdout.splitlines()
    column = first.split().index("PID") if "PID" in first.split() else -1
    if column < 0:
        raise InvalidParameter("ps shows no PID column with these options")
    click.echo(first)
    for row in rows:
        if int(row.split()[column]) in pids:
            click.echo(row)


@runtime.command("list")
@click.option("-f", "--format", "form", type=click.Choice(["table", "json"]), default="table")
@click.option("-q", "--quiet", is_flag=True, help="Names alone.")
def list_(form: str, *, quiet: bool) -> None:
    """Show all containers."""
    found = [bundle_state.state(place, place.read()) for place in bundle_state.places(_settings.root)]
    if quiet:
        click.echo("".join(f"{row['id']}\n" for row in found), nl=False)
    elif form == "json":
        click.echo(msgspec.json.encode(found).decode())
    else:
        names = ("id", "pid", "status", "bundle", "created")
        rows = [[name.upper() for name in names], *([str(row[name]) for name in names] for row in found)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
        for row in rows:
            click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@runtime.command()
@click.option("-b", "--bundle", "path", default=".", help="Where config.json is written.")
def spec(path: str) -> None:
    """Write a config.json to begin with."""
    from glassdock.cli.runtime_facts import example

    target = Path(path) / "config.json"
    if target.exists():
        raise InvalidParameter(f"File {target} exists. Remove it first")
    target.write_bytes(msgspec.json.format(msgspec.json.encode(example()), indent=2) + b"\n")


@runtime.command()
def features() -> None:
    """Show what this runtime can do."""
    from glassdock.cli.runtime_facts import features as found

    _show(found())


def _show(document: dict[str, Any]) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def _place(identity: str) -> Place:
    return Place(_settings.root.absolute(), identity)


def _signal(word: str) -> int:
    name = word.upper().removeprefix("SIG")
    number = int(word) if word.isdecimal() else getattr(signal, f"SIG{name}", 0)
    if not 0 < number < signal.NSIG:
        raise InvalidParameter(f"unknown signal {word!r}")
    return int(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code is returned, and no traceback is shown."""
    try:
        result = runtime.main(arguments, prog_name="glassdock-runtime", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        message = error.format_message()
    except click.Abort:
        message = "interrupted"
    except (GlassdockError, OSError) as error:
        message = str(error)
    _settings.write("error", message)
    sys.stderr.write(f"glassdock-runtime: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
