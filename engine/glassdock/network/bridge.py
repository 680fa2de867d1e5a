"""The bridge: a switch inside the kernel, with the engine's own address as the containers' gateway.

Interface:
- `plan(name, mtu)`: make the bridge; `addressed(link, gateway, prefix)`: give it its address and switch it on.
- `PORTS`: how many cables the kernel plugs into one bridge.

Rules: each step is one netlink message; `describe()` is the command of iproute2 that does the same.
Source: https://docs.kernel.org/networking/bridge.html
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Interface

from glassdock.network import netlink
from glassdock.network.netlink import Link, Step

PORTS = 1023  # BR_MAX_PORTS is 1 << 10, and the port numbers start at 1


@dataclass(frozen=True, slots=True)
class AddBridge:
    """Make a bridge without ports."""

    name: str
    mtu: int

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        return f"ip link add {self.name} mtu {self.mtu} type bridge"

    def message(self) -> bytes:
        """RTM_NEWLINK of kind bridge."""
        info = {"attrs": [("IFLA_INFO_KIND", "bridge")]}
        return netlink.change_link(
            [("IFLA_IFNAME", self.name), ("IFLA_MTU", self.mtu), ("IFLA_LINKINFO", info)], create=True
        )


@dataclass(frozen=True, slots=True)
class SetUp:
    """Switch an interface on."""

    link: Link

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        return f"ip link set {self.link.name} up"

    def message(self) -> bytes:
        """RTM_NEWLINK with IFF_UP."""
        return netlink.change_link([], index=self.link.index, up=True)


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Give an interface an address; the kernel adds the route to its subnet."""

    link: Link
    address: IPv4Interface

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        return f"ip addr add {self.address} brd + dev {self.link.name}"

    def message(self) -> bytes:
        """RTM_NEWADDR."""
        network = self.address.network
        return netlink.new_address(
            {"index": self.link.index, "family": socket.AF_INET, "prefixlen": network.prefixlen},
            [
                ("IFA_LOCAL", str(self.address.ip)),
                ("IFA_ADDRESS", str(self.address.ip)),
                ("IFA_BROADCAST", str(network.broadcast_address)),
            ],
        )


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an interface; of a cable, both ends go."""

    link: Link

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        return f"ip link del {self.link.name}"

    def message(self) -> bytes:
        """RTM_DELLINK."""
        return netlink.delete_link([], index=self.link.index)


def plan(name: str, mtu: int) -> list[Step]:
    """Make the bridge `name`."""
    return [AddBridge(name, mtu)]


def addressed(link: Link, gateway: IPv4Interface) -> list[Step]:
    """Give the bridge the gateway's address and switch it on."""
    return [AddAddress(link, gateway), SetUp(link)]
