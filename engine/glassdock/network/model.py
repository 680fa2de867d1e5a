"""Networks, and containers' places in them, as values.

Interface:
- `Network`: the record of a network, with who is in it.
- `Endpoint`: one container's place in one network.
- `Joining`: what a container asks of it.
- `PortBinding`: a port of a container that the machine listens on.

Rules: values only. Times are wall-clock nanoseconds; addresses are text, "" where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

LOOPBACK = "127.0.0.1"


class PortBinding(msgspec.Struct, frozen=True):
    """`host_ip`:`host_port` of the machine leads to `container_port`; host port 0 is any free one, "" is loopback."""

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: int = 0

    def describe(self) -> str:
        """As `docker ps` shows it."""
        ip = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip
        return f"{ip or LOOPBACK}:{self.host_port}->{self.container_port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One container's place in one network.

    `netns_fd` is the container's network namespace, None for the machine's own; the manager owns the descriptor and
    closes it at `detach`. `interface` is the near end of the cable, `dns` a server that stands in for the machine's
    where those on its loopback cannot be reached. `names` is what others on the network call it, its own name first;
    `links` are (name, alias) by which it alone calls others.
    """

    container_id: str
    network_id: str
    network_name: str
    netns_fd: int | None
    address: str = ""
    prefix: int = 0
    gateway: str = ""
    mac: str = ""
    ports: tuple[PortBinding, ...] = ()
    interface: str = ""
    dns: str = ""
    names: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Joining:
    """How a container is to join a network: by which address, under which names. "" is the engine's choice."""

    network: str = "bridge"
    ip: str = ""
    mac: str = ""
    names: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    priority: int = 0


class Network(msgspec.Struct, frozen=True):
    """A network: `driver` is bridge, host or null; `interface` is the bridge's name; `chosen`: a user chose the subnet.

    `status` says what of it does not work on this machine, "" where all does.
    """

    id: str
    name: str
    driver: str
    subnet: str = ""
    gateway: str = ""
    interface: str = ""
    mtu: int = 1500
    scope: str = "local"
    internal: bool = False
    chosen: bool = False
    created: int = 0
    ip_range: str = ""
    aux_addresses: dict[str, str] = {}
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    containers: tuple[Endpoint, ...] = ()
    status: str = ""
