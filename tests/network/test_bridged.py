"""One bridge, in a namespace of the test's own: what happens when it is full."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from glassdock.errors import NotSupported
from glassdock.network import bridge, namespaces, netlink
from glassdock.network.bridged import Bridged
from glassdock.network.model import Network
from glassdock.network.netlink import Link, Socket
from tests.network.inside import inside, roots_network

pytestmark = [pytest.mark.needs_root, roots_network]


@dataclass(frozen=True, slots=True)
class Plug:
    """A cable whose far end is in the same namespace."""

    name: str
    switch: Link

    def describe(self) -> str:
        """The command of iproute2 that does the same."""
        return f"ip link add {self.name} master {self.switch.name} type veth"

    def message(self) -> bytes:
        """RTM_NEWLINK."""
        info = {"attrs": [("IFLA_INFO_KIND", "veth")]}
        attributes = [("IFLA_IFNAME", self.name), ("IFLA_MASTER", self.switch.index), ("IFLA_LINKINFO", info)]
        return netlink.change_link(attributes, create=True)


def test_the_container_after_the_last_port_is_told_that_the_bridge_is_full() -> None:
    place = namespaces.make()

    def fill() -> None:
        bridged = Bridged(Network("id", "crowd", "bridge", interface="gdfull0"), "full")
        bridged.up([])
        first = bridged.make()
        with Socket() as door:
            switch = next(link for link in door.links() if link.name == "gdfull0")
            plugs = [Plug(f"p{number}", switch) for number in range(1, bridge.PORTS)]
            for start in range(0, len(plugs), 100):
                door.apply(plugs[start : start + 100])
            assert sum(link.master == switch.index for link in door.links()) == bridge.PORTS
        with pytest.raises(NotSupported, match="network crowd is full: a Linux bridge takes 1,023") as caught:
            bridged.make()
        assert "--network none" in str(caught.value.remedy)
        first.close()

    try:
        inside(place.fd, fill)
    finally:
        place.close()
