"""Whose namespaces a container lives in: its own, the machine's (`host`), or another container's (`container:NAME`).

Interface:
- `check(container)`: refuses modes that there are not and options that contradict them, in Docker's words.
- `settle(container, get)`: the names of other containers become ids, which a rename does not change.
- `resolve(container, get)` → `Joins`: the processes whose namespaces a start joins; refuses those that do not run.
- `namespaces(host, joins)`: the specification's list.

Rules: with another's network come its hosts, resolv.conf and hostname. What belongs to a network (ports, DNS, a MAC
address) is said where the network is made, not where it is joined.

Source: https://docs.docker.com/reference/cli/docker/container/run/#network, and the wording of
https://github.com/moby/moby/blob/master/runconfig/hostconfig_unix.go
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from glassdock.containers.config import HostConfig
from glassdock.containers.model import Container, Status
from glassdock.errors import Conflict, InvalidParameter, NotFound, NotSupported
from glassdock.oci import runtime as oci

_KINDS = ("mount", "pid", "uts", "ipc", "cgroup")
_ALLOWED = {
    "pid_mode": ("PID", ("", "host")),
    "u_t_s_mode": ("UTS", ("", "host")),
    "ipc_mode": ("IPC", ("", "host", "private", "shareable", "none")),
    "cgroupns_mode": ("CGROUP", ("", "host", "private")),
    "userns_mode": ("USER", ("", "host")),
}
_JOINABLE = ("pid_mode", "network_mode")
_OTHER = "container:"

Get = Callable[[str], Container]


@dataclass(frozen=True, slots=True)
class Joins:
    """Another container's process by kind, 0 for none; and the container whose network it is."""

    pid: int = 0
    network: int = 0
    donor: Container | None = None


def other(mode: str | None) -> str:
    """The container that a mode names, "" for none."""
    return (mode or "").removeprefix(_OTHER) if (mode or "").startswith(_OTHER) else ""


def check(container: Container) -> None:
    """Raise InvalidParameter for modes and options that contradict each other, NotSupported for what is not built."""
    host, config = container.host, container.config
    for name, (word, allowed) in _ALLOWED.items():
        mode = getattr(host, name)
        if mode.startswith(_OTHER) and name == "ipc_mode":
            raise NotSupported("--ipc container:NAME is not supported yet", "Use --ipc host, or leave it out.")
        if mode not in allowed and not (name in _JOINABLE and other(mode)):
            raise InvalidParameter(f"invalid {word} mode: {mode}")
    if host.u_t_s_mode == "host" and config.hostname:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    if not (host.network_mode or "").startswith(_OTHER):
        return
    if not other(host.network_mode):
        raise InvalidParameter("invalid container format container:<name|id>")
    conflicts = {
        "hostname and the network mode": config.hostname,
        "dns and the network mode": host.dns,
        "custom host-to-IP mapping and the network mode": host.extra_hosts,
        "mac-address and the network mode": config.mac_address,
        "port publishing and the container type network mode": host.port_bindings or host.publish_all_ports,
        "port exposing and the container type network mode": config.exposed_ports,
    }
    for words, given in conflicts.items():
        if given:
            raise InvalidParameter(f"conflicting options: {words}")


def settle(container: Container, get: Get) -> None:
    """Names become ids; a container that is not there is told of at the start, as with Docker."""
    for name in _JOINABLE:
        asked = other(getattr(container.host, name))
        if asked:
            try:
                found = get(asked).id
            except NotFound:
                continue
            container.host = msgspec.structs.replace(container.host, **{name: _OTHER + found})


def resolve(container: Container, get: Get) -> Joins:
    """The processes to join. Raises NotFound, Conflict where one does not run."""
    pid, donor = 0, None
    if asked := other(container.host.pid_mode):
        try:
            pid = _running(get(asked), "container {} is not running").state.pid
        except (NotFound, Conflict) as error:
            raise type(error)(f"can't join PID namespace of container {asked}: {error.message}") from error
    if asked := other(container.host.network_mode):
        donor = get(asked)
        if donor.id == container.id:
            raise Conflict("cannot join own network")
        _running(donor, "cannot join network of a non running container: {}")
    return Joins(pid, donor.state.pid if donor else 0, donor)


def namespaces(host: HostConfig, joins: Joins) -> tuple[oci.Namespace, ...]:
    """New ones, but for the machine's and those that are joined."""
    modes = {"pid": host.pid_mode, "uts": host.u_t_s_mode, "ipc": host.ipc_mode, "cgroup": host.cgroupns_mode}
    paths = {"pid": f"/proc/{joins.pid}/ns/pid"} if joins.pid else {}
    return tuple(oci.Namespace(kind, paths.get(kind, "")) for kind in _KINDS if modes.get(kind) != "host")


def _running(found: Container, words: str) -> Container:
    if found.state.status is Status.RESTARTING:
        raise Conflict(f"Container {found.id} is restarting, wait until the container is running")
    if not found.state.running:
        raise Conflict(words.format(found.id))
    return found
