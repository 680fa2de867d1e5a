"""`run` and `create`: Docker's flags for a new container.

Interface:
- `run`, `create`: click commands that give a `Call`.
- `options_of(values)`: the flags' values as `client.create.Options`, files of variables and labels read.

Rules: everything after the image belongs to the container. Flags are Docker's; those under "Glassdock" in the
help are ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import click

from glassdock.cli.call import Call
from glassdock.client.create import Options
from glassdock.client.run import Create, Ran, Run
from glassdock.errors import InvalidParameter

_TEXT: dict[str, tuple[tuple[str, ...], str]] = {
    "name": (("--name",), "Assign a name to the container"),
    "workdir": (("-w", "--workdir"), "Working directory inside the container"),
    "user": (("-u", "--user"), "Username or UID (format: <name|uid>[:<group|gid>])"),
    "entrypoint": (("--entrypoint",), "Overwrite the default ENTRYPOINT of the image"),
    "hostname": (("-h", "--hostname"), "Container host name"),
    "domainname": (("--domainname",), "Container NIS domain name"),
    "network": (("--network", "--net"), "Connect the container to a network: bridge, host, none, a name"),
    "ip": (("--ip",), "IPv4 address (e.g., 172.30.100.104)"),
    "mac_address": (("--mac-address",), "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    "memory": (("-m", "--memory"), "Memory limit (e.g., 64m)"),
    "memory_swap": (("--memory-swap",), "Memory and swap together: '-1' for unlimited swap"),
    "cpus": (("--cpus",), "Number of CPUs (e.g., 0.5)"),
    "cpuset_cpus": (("--cpuset-cpus",), "CPUs in which to allow execution (0-3, 0,1)"),
    "ipc": (("--ipc",), "IPC mode to use"),
    "pid": (("--pid",), "PID namespace to use"),
    "uts": (("--uts",), "UTS namespace to use"),
    "userns": (("--userns",), "User namespace to use"),
    "shm_size": (("--shm-size",), "Size of /dev/shm"),
    "restart": (("--restart",), "Restart policy to apply when the container ends"),
    "stop_signal": (("--stop-signal",), "Signal to stop the container"),
    "log_driver": (("--log-driver",), "Logging driver for the container"),
    "cgroupns": (("--cgroupns",), "Cgroup namespace to use (host|private)"),
    "runtime": (("--runtime",), "Runtime to use for this container"),
    "memory_reservation": (("--memory-reservation",), "Memory soft limit"),
    "cpuset_mems": (("--cpuset-mems",), "MEMs in which to allow execution (0-3, 0,1)"),
    "health_cmd": (("--health-cmd",), "Command to run to check health"),
    "health_interval": (("--health-interval",), "Time between running the check (ms|s|m|h) (default 0s)"),
    "health_timeout": (("--health-timeout",), "Maximum time to allow one check to run (ms|s|m|h) (default 0s)"),
    "health_start_period": (
        ("--health-start-period",),
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)",
    ),
    "health_start_interval": (
        ("--health-start-interval",),
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    ),
}
_LISTS: dict[str, tuple[tuple[str, ...], str]] = {
    "attach": (("-a", "--attach"), "Attach to STDIN, STDOUT or STDERR"),
    "env": (("-e", "--env"), "Set environment variables"),
    "env_file": (("--env-file",), "Read in a file of environment variables"),
    "label": (("-l", "--label"), "Set meta data on a container"),
    "label_file": (("--label-file",), "Read in a line delimited file of labels"),
    "publish": (("-p", "--publish"), "Publish a container's port to the host: [ADDRESS:]HOST:CONTAINER"),
    "expose": (("--expose",), "Expose a port or a range of ports"),
    "volumes": (("-v", "--volume"), "Bind mount a volume: SOURCE:TARGET[:ro]"),
    "volumes_from": (("--volumes-from",), "Mount volumes from the specified container(s)"),
    "mounts": (("--mount",), "Attach a filesystem mount to the container"),
    "tmpfs": (("--tmpfs",), "Mount a tmpfs directory"),
    "network_alias": (("--network-alias",), "Add network-scoped alias for the container"),
    "dns": (("--dns",), "Set custom DNS servers"),
    "dns_search": (("--dns-search",), "Set custom DNS search domains"),
    "add_host": (("--add-host",), "Add a custom host-to-IP mapping (host:ip)"),
    "cap_add": (("--cap-add",), "Add Linux capabilities"),
    "cap_drop": (("--cap-drop",), "Drop Linux capabilities"),
    "group_add": (("--group-add",), "Add additional groups to join"),
    "devices": (("--device",), "Add a host device to the container"),
    "security_opt": (("--security-opt",), "Security options"),
    "log_opts": (("--log-opt",), "Log driver options"),
    "annotations": (("--annotation",), "Add an annotation to the container (passed through to the OCI runtime)"),
    "device_cgroup_rules": (("--device-cgroup-rule",), "Add a rule to the cgroup allowed devices list"),
    "dns_options": (("--dns-option",), "Set DNS options"),
    "sysctls": (("--sysctl",), "Sysctl options"),
    "ulimits": (("--ulimit",), "Ulimit options"),
}
_FLAGS: dict[str, tuple[tuple[str, ...], str]] = {
    "interactive": (("-i", "--interactive"), "Keep STDIN open even if not attached"),
    "tty": (("-t", "--tty"), "Allocate a pseudo-TTY"),
    "remove": (("--rm",), "Remove the container and its anonymous volumes when it ends"),
    "read_only": (("--read-only",), "Mount the container's root filesystem as read only"),
    "privileged": (("--privileged",), "Give extended privileges to this container"),
    "publish_all": (("-P", "--publish-all"), "Publish all exposed ports to random ports"),
    "no_healthcheck": (("--no-healthcheck",), "Disable any container-specified HEALTHCHECK"),
    "oom_kill_disable": (("--oom-kill-disable",), "Disable OOM Killer"),
    "init": (("--init",), "Run an init inside the container that forwards signals and reaps processes"),
}
_NUMBERS: dict[str, tuple[tuple[str, ...], str]] = {
    "cpu_shares": (("-c", "--cpu-shares"), "CPU shares (relative weight)"),
    "cpu_period": (("--cpu-period",), "Limit CPU CFS (Completely Fair Scheduler) period"),
    "cpu_quota": (("--cpu-quota",), "Limit CPU CFS (Completely Fair Scheduler) quota"),
    "blkio_weight": (("--blkio-weight",), "Block IO (relative weight), between 10 and 1000, or 0 to disable"),
    "memory_swappiness": (("--memory-swappiness",), "Tune container memory swappiness (0 to 100)"),
    "oom_score_adj": (("--oom-score-adj",), "Tune host's OOM preferences (-1000 to 1000)"),
    "health_retries": (("--health-retries",), "Consecutive failures needed to report unhealthy"),
    "pids_limit": (("--pids-limit",), "Tune container pids limit (set -1 for unlimited)"),
    "stop_timeout": (("--stop-timeout",), "Timeout (in seconds) to stop a container"),
}


def _container_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of a new container, its image and its command."""
    function = click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND] [ARG...]")(function)
    function = click.argument("image", metavar="IMAGE")(function)
    for name, (words, text) in _TEXT.items():
        function = click.option(*words, name, metavar="string", help=text)(function)
    for name, (words, text) in _LISTS.items():
        function = click.option(*words, name, metavar="list", multiple=True, help=text)(function)
    for name, (words, text) in _FLAGS.items():
        function = click.option(*words, name, is_flag=True, help=text)(function)
    for name, (words, text) in _NUMBERS.items():
        function = click.option(*words, name, metavar="int", type=int, help=text)(function)
    pull = click.Choice(["always", "missing", "never"])
    function = click.option("--pull", type=pull, default="missing", help="Pull image before running")(function)
    replace = "Glassdock: remove a container of the same name first"
    return click.option("--replace", is_flag=True, help=replace)(function)


_SETTINGS = {"allow_interspersed_args": False, "help_option_names": ["--help"]}


@click.command(context_settings=_SETTINGS, help="Create and run a new container from an image.")
@_container_options
@click.option("-d", "--detach", is_flag=True, help="Run container in background and print container ID")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Proxy received signals to the process")
@click.option("--detach-keys", default="", metavar="string", help="Override the key sequence for detaching")
@click.option("--cidfile", metavar="string", help="Write the container ID to the file")
@click.option("--stdin", metavar="text", help="Glassdock: what the container reads from its STDIN; implies -i")
@click.option("--check", is_flag=True, help="Glassdock: a non-zero exit code is an error")
@click.option("--record", is_flag=True, help="Glassdock: show the spans of this run, from client to exec")
def run(**values: Any) -> Call:
    """Parse `run`."""
    text, cidfile = values.pop("stdin"), values.pop("cidfile")
    check, record, pull, replace = (values.pop(name) for name in ("check", "record", "pull", "replace"))
    proxy, keys = values.pop("sig_proxy"), values.pop("detach_keys")
    if text is not None:
        values["interactive"] = True
    if values["remove"] and values["restart"] and values["restart"] != "no":
        raise click.UsageError("conflicting options: cannot specify both --restart and --rm")
    options = options_of(values)
    stdin = None if text is None else text.encode()
    verb = Run(
        options, pull=pull, replace=replace, check=check, record=record, stdin=stdin, proxy=proxy, detach_keys=keys
    )

    def show(ran: Ran) -> int:
        if cidfile:
            with open(cidfile, "x") as file:
                file.write(ran.id)
        if record:
            from glassdock.client.recording import lines, merge

            for line in lines(merge(ran.spans, ran.engine_spans)):
                click.echo(line, err=True)
        if ran.exit_code is None and not ran.detached:
            click.echo(ran.id)
        return ran.exit_code or 0

    return Call(verb, show, failure=125)


@click.command(context_settings=_SETTINGS, help="Create a new container.")
@_container_options
def create(**values: Any) -> Call:
    """Parse `create`."""
    pull, replace = values.pop("pull"), values.pop("replace")
    verb = Create(options_of(values), pull=pull, replace=replace)

    def show(ran: Ran) -> int:
        for warning in ran.warnings:
            click.echo(f"WARNING: {warning}", err=True)
        click.echo(ran.id)
        return 0

    return Call(verb, show)


def _in_order(command: click.Command) -> None:
    """Flags by their long names in the help, as Docker lists them; then the arguments."""
    flags = [param for param in command.params if isinstance(param, click.Option)]
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    command.params = [*sorted(flags, key=lambda flag: max(flag.opts, key=len)), *arguments]


_in_order(run)
_in_order(create)


def options_of(values: dict[str, Any]) -> Options:
    """The flags as `Options`. Raises `InvalidParameter` for a file that cannot be read."""
    env = options_of_environment(values.pop("env_file"), values.pop("env"))
    labels = [*_lines(values.pop("label_file"), "--label-file"), *values.pop("label")]
    made: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    made["env"] = env
    made["labels"] = {word.partition("=")[0]: word.partition("=")[2] for word in labels}
    made["attach"] = tuple(word.lower() for word in values["attach"])
    return Options(**made)


def options_of_environment(files: Iterable[str], words: Iterable[str]) -> tuple[str, ...]:
    """The variables of `--env-file` and `-e`, in this order. Raises `InvalidParameter` for an unreadable file."""
    return tuple(_variables([*_lines(files, "--env-file"), *words]))


def _variables(words: Iterable[str]) -> Iterable[str]:
    """`KEY=VALUE` as it is; `KEY` with this environment's value, left out where there is none."""
    for word in words:
        if "=" in word:
            yield word
        elif word in os.environ:
            yield f"{word}={os.environ[word]}"


def _lines(files: Iterable[str], option: str) -> Iterable[str]:
    for name in files:
        try:
            with open(name) as file:
                lines = file.read().splitlines()
        except OSError as error:
            raise InvalidParameter(f"{option}: open {name}: {error.strerror}", "Write one KEY=VALUE a line.") from error
        yield from (line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
