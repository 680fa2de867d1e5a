"""The cable: a pair of interfaces, one end in the container as eth0, the other plugged into the bridge.

Interface:
- `plug(name, bridge, netns, mtu)`: make the pair with its far end already in the namespace, near end up and plugged.
- `configure(eth0, mac, address, gateway)`: the container's end, ready to talk.
- `labelled(...)`, `label(...)`, `owner(alias)`: who has the cable is written on its near end, in the kernel.
- `unplug(name, group)`: nothing passes any more; `DeleteGroup` then destroys all unplugged cables at once.

Rules: destroying a cable waits 15 ms for the kernel's grace periods (decision 0041), so it is first unplugged, which
takes 0.3 ms, and destroyed off the path. The label is the lease: it dies with the cable and survives the daemon.
Source: veth(4), ip-link(8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from glassdock.network import netlink
from glassdock.network.bridge import AddAddress
from glassdock.network.netlink import Link, Step

EXFULL = 54  # what the kernel answers when a bridge has no port left
_LABEL = "glassdock"


@dataclass(frozen=True, slots=True)
class AddCable:
    """Make a veth pair: the near end up in a bridge, the far end in the namespace of the descriptor `netns`."""

    name: str
    bridge: Link
    netns: int
    mtu: int
    far: str = "eth0"

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        far = f"peer name {self.far} netns /proc/self/fd/{self.netns}"
        return f"ip link add {self.name} master {self.bridge.name} up type veth {far}"

    def message(self) -> bytes:
        """RTM_NEWLINK of kind veth. The far end cannot be up at birth: its peer is not there yet."""
        far = {"attrs": [("IFLA_IFNAME", self.far), ("IFLA_NET_NS_FD", self.netns), ("IFLA_MTU", self.mtu)]}
        info = {
            "attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", far)]})],
        }
        return netlink.change_link(
            [
                ("IFLA_IFNAME", self.name),
                ("IFLA_MASTER", self.bridge.index),
                ("IFLA_MTU", self.mtu),
                ("IFLA_LINKINFO", info),
            ],
            create=True,
            up=True,
        )


@dataclass(frozen=True, slots=True)
class SetMac:
    """Change an interface's hardware address."""

    link: Link
    mac: str

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        return f"ip link set {self.link.name} address {self.mac}"

    def message(self) -> bytes:
        """RTM_NEWLINK with an address."""
        return netlink.change_link([("IFLA_ADDRESS", self.mac)], index=self.link.index)


@dataclass(frozen=True, slots=True)
class NoLinkLocal:
    """Let an interface make itself no IPv6 address when it comes up."""

    link: Link

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        return f"ip link set {self.link.name} addrgenmode none"

    def message(self) -> bytes:
        """RTM_NEWLINK with IN6_ADDR_GEN_MODE_NONE."""
        mode = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}
        return netlink.change_link([("IFLA_AF_SPEC", mode)], index=self.link.index)


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """Send everything else to the gateway."""

    link: Link
    gateway: IPv4Address
    replace: bool = False

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        return f"ip route {'replace' if self.replace else 'add'} default via {self.gateway} dev {self.link.name}"

    def message(self) -> bytes:
        """RTM_NEWROUTE: main table, protocol boot, scope universe, type unicast."""
        return netlink.new_route(
            {"family": netlink.family_of(str(self.gateway)), "table": 254, "proto": 3, "scope": 0, "type": 1},
            [("RTA_GATEWAY", str(self.gateway)), ("RTA_OIF", self.link.index)],
            replace=self.replace,
        )


@dataclass(frozen=True, slots=True)
class Label:
    """Write on the near end whose it is; `ip link` shows it."""

    name: str
    text: str

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        return f"ip link set {self.name} alias '{self.text}'"

    def message(self) -> bytes:
        """RTM_NEWLINK with an alias."""
        return netlink.change_link([("IFLA_IFNAME", self.name), ("IFLA_IFALIAS", self.text)])


@dataclass(frozen=True, slots=True)
class Unplug:
    """Take the near end out of its bridge, with what the bridge learnt about it, and put it on the pile `group`."""

    name: str
    group: int

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        return f"ip link set {self.name} nomaster group {self.group} alias ''"

    def message(self) -> bytes:
        """RTM_NEWLINK without a master.

        A port that is only disabled comes back by itself when the kernel notices, up to a second late, that the far
        end came up (br_port_carrier_check).
        """
        return netlink.change_link(
            [("IFLA_IFNAME", self.name), ("IFLA_MASTER", 0), ("IFLA_GROUP", self.group), ("IFLA_IFALIAS", "")]
        )


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """Destroy every cable of the pile in one go."""

    group: int

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        return f"ip link del group {self.group}"

    def message(self) -> bytes:
        """RTM_DELLINK by group."""
        return netlink.delete_link([("IFLA_GROUP", self.group)])


@dataclass(frozen=True, slots=True)
class Owner:
    """What a label says: the container, its address with prefix, its hardware address."""

    container: str
    address: IPv4Interface
    mac: str


def plug(name: str, bridge: Link, netns: int, mtu: int, far: str = "eth0") -> list[Step]:
    """Make the cable `name` between the bridge and the interface `far` of the namespace."""
    return [AddCable(name, bridge, netns, mtu, far)]


def configure(eth0: Link, mac: str, address: IPv4Interface, gateway: IPv4Address | None) -> list[Step]:
    """Make the container's end, which is up already, talk; without a gateway on an internal network."""
    steps: list[Step] = [SetMac(eth0, mac), AddAddress(eth0, address)]
    return [*steps, DefaultRoute(eth0, gateway)] if gateway else steps


def label(owner: Owner) -> str:
    """The text for the near end."""
    return f"{_LABEL} {owner.container} {owner.address} {owner.mac}"


def owner(alias: str) -> Owner | None:
    """Read a label back; None where it is not one of ours."""
    words: Sequence[str] = alias.split(" ")
    if len(words) != 4 or words[0] != _LABEL:
        return None
    return Owner(words[1], IPv4Interface(words[2]), words[3])
