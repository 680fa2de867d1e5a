"""Firewalls that drop what they do not know, in a namespace of the test's own with two networks and a router."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network

import pytest

from glassdock.network import bridge, firewall, namespaces, nat, veth
from glassdock.network.namespaces import Place
from glassdock.network.netlink import Socket
from tests.network.inside import inside, roots_network

pytestmark = [pytest.mark.needs_root, roots_network]
OURS = "gdtest0"
SUBNET = IPv4Network("10.1.0.0/24")
# What Docker 20.10 leaves of iptables' FORWARD, without its containers.
DOCKER = [
    "iptables -P FORWARD DROP",
    "iptables -N DOCKER-USER",
    "iptables -A DOCKER-USER -j RETURN",
    "iptables -A FORWARD -j DOCKER-USER",
    "iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
]


@dataclass
class Router:
    """A namespace between a container of ours and somebody elsewhere."""

    fd: int
    container: Place
    elsewhere: Place

    def run(self, *commands: str) -> str:
        """Run commands there; returns the last one's output."""

        def all_of_them() -> str:
            done = [subprocess.run(words.split(), check=True, capture_output=True, text=True) for words in commands]
            return done[-1].stdout

        return inside(self.fd, all_of_them)

    def up(self) -> str:
        """What nat.up says."""
        return inside(self.fd, lambda: nat.up(OURS, SUBNET))

    def talks(self) -> bool:
        """Whether the container comes through, and the answer back."""
        with inside(self.elsewhere.fd, lambda: socket.create_server(("10.2.0.2", 80))) as server:
            server.settimeout(2)
            try:
                with inside(self.container.fd, lambda: socket.create_connection(("10.2.0.2", 80), 0.5)):
                    accepted, _ = server.accept()
                    accepted.close()
            except TimeoutError:
                return False
            return True


@pytest.fixture
def router() -> Iterator[Router]:
    with contextlib.ExitStack() as undo:
        middle = namespaces.make()
        undo.callback(middle.close)

        def attach(name: str, network: int) -> Place:
            with Socket() as door:
                door.apply(bridge.plan(name, 1500))
                link = next(link for link in door.links() if link.name == name)
                gateway = IPv4Interface(f"10.{network}.0.1/24")
                door.apply(bridge.addressed(link, gateway))

                def plug(descriptor: int) -> str:
                    door.apply(veth.plug(f"v{network}", link, descriptor, 1500))
                    return f"v{network}"

                place = namespaces.make(plug)
            assert place.eth0 is not None
            address = IPv4Interface(f"10.{network}.0.2/24")
            place.door.apply(veth.configure(place.eth0, f"02:00:00:00:00:0{network}", address, gateway.ip))
            return place

        container = inside(middle.fd, lambda: attach(OURS, 1))
        undo.callback(container.close)
        elsewhere = inside(middle.fd, lambda: attach("other0", 2))
        undo.callback(elsewhere.close)
        yield Router(middle.fd, container, elsewhere)


@pytest.mark.needs("iptables")
@pytest.mark.parametrize("docker", [DOCKER, DOCKER[:1]], ids=["docker-user", "policy"])
def test_where_docker_set_the_policy_to_drop_our_containers_get_through(router: Router, docker: list[str]) -> None:
    router.run(*docker)
    before = router.run("iptables -S")
    if not inside(router.fd, firewall.blockers):
        pytest.skip("this machine's iptables does not use nftables")
    assert router.up() == ""
    assert router.up() == ""
    assert router.talks()
    chain = "DOCKER-USER" if len(docker) > 1 else "FORWARD"
    ours = [line for line in router.run(f"iptables -S {chain}").splitlines() if OURS in line]
    assert len(ours) == 2, "a second start put them there again"
    inside(router.fd, lambda: nat.down(OURS))
    assert router.run("iptables -S") == before
    assert not router.talks()


@pytest.mark.needs("nft")
def test_another_firewall_is_named_and_left_alone(router: Router) -> None:
    rules = "add table ip elsewhere; add chain ip elsewhere fw { type filter hook forward priority 0; policy drop; }"
    assert inside(router.fd, firewall.blockers) == []
    inside(router.fd, lambda: subprocess.run(["nft", rules], check=True))
    before = router.run("nft list table ip elsewhere")
    assert "may be dropped by the firewall (table elsewhere chain fw)" in router.up()
    assert not router.talks()
    assert router.run("nft list table ip elsewhere") == before


def test_without_a_firewall_nothing_is_said(router: Router) -> None:
    assert router.up() == ""
    assert router.talks()
