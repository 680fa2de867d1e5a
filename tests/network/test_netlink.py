"""Messages in one send, answers one by one, on a namespace of the test's own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from glassdock.network import bridge, namespaces, veth
from glassdock.network.namespaces import Place
from glassdock.network.netlink import Link, Route, Socket, Step
from tests.network.inside import inside, roots_network

pytestmark = [pytest.mark.needs_root, roots_network]
LO = Link(1, "lo")


@pytest.fixture
def place() -> Iterator[Place]:
    made = namespaces.make()
    yield made
    made.close()


def test_a_new_namespace_has_lo_up_and_nothing_else(place: Place) -> None:
    assert [(link.name, link.index) for link in place.door.links()] == [("lo", 1)]
    assert place.door.addresses() == [(1, IPv4Interface("127.0.0.1/8"))]
    assert place.door.routes() == []


def test_the_thread_that_made_it_is_home_again() -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    namespaces.make().close()
    assert os.readlink("/proc/thread-self/ns/net") == before


def test_one_interface_is_found_by_its_name_or_its_number(place: Place) -> None:
    found = place.door.link(name="lo")
    assert found is not None
    assert found == place.door.link(index=found.index) == place.door.links()[0]
    assert place.door.link(name="nowhere") is None
    assert place.door.link(index=99) is None


def test_a_bridge_an_address_and_a_route_in_two_sends(place: Place) -> None:
    place.door.apply(bridge.plan("br0", 1400))
    link = next(link for link in place.door.links() if link.name == "br0")
    assert (link.kind, link.mtu) == ("bridge", 1400)
    place.door.apply(
        [
            *bridge.addressed(link, IPv4Interface("10.1.0.1/24")),
            veth.DefaultRoute(link, IPv4Address("10.1.0.254")),
            veth.Label("br0", veth.label(veth.Owner("web", IPv4Interface("10.1.0.2/24"), "02:42:0a:01:00:02"))),
        ]
    )
    assert (link.index, IPv4Interface("10.1.0.1/24")) in place.door.addresses()
    assert Route(IPv4Network("0.0.0.0/0"), link.index) in place.door.routes()
    alias = next(link for link in place.door.links() if link.name == "br0").alias
    assert veth.owner(alias) == veth.Owner("web", IPv4Interface("10.1.0.2/24"), "02:42:0a:01:00:02")
    assert veth.owner("somebody else's words here now") is None


def test_the_first_refusal_names_its_step_and_the_others_are_done(place: Place) -> None:
    steps: list[Step] = [
        bridge.AddAddress(LO, IPv4Interface("10.1.0.1/24")),
        bridge.AddAddress(LO, IPv4Interface("10.1.0.1/24")),
        bridge.AddAddress(LO, IPv4Interface("10.1.0.2/24")),
    ]
    with pytest.raises(FileExistsError, match=r"ip addr add 10.1.0.1/24 brd \+ dev lo: File exists"):
        place.door.apply(steps)
    assert len(place.door.addresses()) == 3


def test_the_kernels_own_words_are_passed_on(place: Place) -> None:
    with pytest.raises(OSError, match=r"\(.*gateway.*\)") as caught:
        place.door.apply([veth.DefaultRoute(LO, IPv4Address("10.9.9.9"))])
    assert caught.value.errno == errno.ENETUNREACH


def test_many_messages_and_a_dump_longer_than_one_answer(place: Place) -> None:
    place.door.apply([bridge.AddBridge(f"br{number}", 1500) for number in range(60)])
    assert len(place.door.links()) == 61


def test_a_socket_stays_in_the_namespace_it_was_made_in(place: Place) -> None:
    with inside(place.fd, Socket) as door:
        assert [link.name for link in door.links()] == ["lo"]


def test_nothing_to_do_is_not_sent(place: Place) -> None:
    place.door.apply([])
