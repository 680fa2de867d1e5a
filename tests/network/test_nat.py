"""Masquerading, on the real kernel: a container, the machine, and a neighbour on another network of the machine."""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from glassdock.network import bridge, namespaces, nat, veth
from glassdock.network.manager import Manager
from glassdock.network.netlink import Link, Socket, Step
from glassdock.paths import Paths
from tests.network.inside import at_home, inside, roots_network

MACHINE, NEIGHBOUR = IPv4Interface("198.51.100.1/30"), IPv4Interface("198.51.100.2/30")


@dataclass
class Neighbour:
    """A namespace behind a second bridge of the machine."""

    netns: int


@pytest.fixture
def neighbour(networks: Manager, paths: Paths) -> Iterator[Neighbour]:
    name = networks.get("bridge").interface + "n"
    with at_home(paths, Socket) as host, contextlib.ExitStack() as undo:
        host.apply(bridge.plan(name, 1500))
        link = next(link for link in host.links() if link.name == name)
        undo.callback(lambda: host.apply([bridge.Delete(link)]))
        host.apply(bridge.addressed(link, MACHINE))

        def plug(descriptor: int) -> str:
            host.apply(veth.plug(name + "v", link, descriptor, 1500))
            return name + "v"

        place = at_home(paths, lambda: namespaces.make(plug))
        undo.callback(place.close)
        assert place.eth0 is not None
        place.door.apply(veth.configure(place.eth0, "02:00:00:00:00:01", NEIGHBOUR, MACHINE.ip))
        yield Neighbour(place.fd)


@pytest.mark.needs_root
async def test_what_leaves_has_the_machines_address_and_what_comes_uninvited_is_dropped(
    networks: Manager, neighbour: Neighbour
) -> None:
    if status := networks.get("bridge").status:
        pytest.skip(f"this kernel does not masquerade: {status}")
    container = await networks.attach("a" * 64)
    with inside(neighbour.netns, lambda: socket.create_server((str(NEIGHBOUR.ip), 80))) as server:
        server.settimeout(5)
        with inside(container.netns_fd, lambda: socket.create_connection((str(NEIGHBOUR.ip), 80), 5)) as connection:
            accepted, peer = server.accept()
            with accepted:
                assert peer[0] == str(MACHINE.ip)
                accepted.sendall(b"answer")
                assert connection.recv(6) == b"answer"
    with inside(container.netns_fd, lambda: socket.create_server(("0.0.0.0", 80))), pytest.raises(TimeoutError):
        inside(neighbour.netns, lambda: socket.create_connection((container.address, 80), 0.5))
    await networks.detach(container)


@pytest.mark.needs_root
@pytest.mark.needs("nft")
async def test_nft_shows_the_rules_as_they_are_described(networks: Manager, paths: Paths) -> None:
    network = networks.get("bridge")
    if network.status:
        pytest.skip(f"this kernel does not masquerade: {network.status}")
    table = f"glassdock-{network.interface}"
    shown = at_home(paths, lambda: shown_by_nft(table))
    for rule in nat.rules(network.interface, IPv4Network(network.subnet)):
        assert rule.text in shown
    await networks.stop()
    assert at_home(paths, lambda: shown_by_nft(table)) == ""


def shown_by_nft(table: str) -> str:
    words = ["nft", "list", "table", "ip", table]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


@pytest.mark.needs_root
@pytest.mark.skipif(shutil.which("ip") is None, reason="needs ip")
@roots_network
def test_the_described_commands_of_iproute2_do_the_same() -> None:
    """The steps of a container's end, run as their own descriptions in a second namespace, leave the same state."""
    ours, theirs = namespaces.make(), namespaces.make()
    lo = Link(1, "lo")
    steps: list[Step] = [
        veth.SetMac(lo, "00:00:00:00:00:00"),
        bridge.AddAddress(lo, IPv4Interface("10.1.2.3/24")),
        veth.DefaultRoute(lo, IPv4Address("10.1.2.1")),
    ]
    try:
        ours.door.apply(steps)
        for step in steps:
            words = step.describe().split()
            inside(theirs.fd, functools.partial(subprocess.run, words, check=True))
        seen = [(place.door.links(), place.door.addresses(), place.door.routes()) for place in (ours, theirs)]
        assert seen[0] == seen[1]
    finally:
        ours.close()
        theirs.close()
