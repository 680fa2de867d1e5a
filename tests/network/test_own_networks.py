"""Networks of a user's own: made, used, kept apart, removed."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network

import pytest

from glassdock.errors import Conflict, Forbidden, GlassdockError, InvalidParameter, NotFound, NotSupported
from glassdock.network.creation import MTU, Wanted
from glassdock.network.manager import Manager
from glassdock.network.model import Endpoint, Joining
from glassdock.network.netlink import Socket
from glassdock.paths import Paths
from tests.network.inside import at_home, inside, interfaces

pytestmark = pytest.mark.needs_root
A, B, C = "a" * 64, "b" * 64, "c" * 64


def reaches(one: Endpoint, other: Endpoint) -> bool:
    with inside(other.netns_fd, lambda: socket.create_server(("0.0.0.0", 80))):
        try:
            inside(one.netns_fd, lambda: socket.create_connection((other.address, 80), 0.5)).close()
        except OSError:
            return False
        return True


async def test_it_has_the_subnet_the_gateway_and_the_labels_that_were_asked_for(networks: Manager) -> None:
    wanted = Wanted("town", subnet="10.99.8.0/24", gateway="10.99.8.77", labels={"a": "b"}, options={MTU: "1300"})
    made = await networks.create(wanted)
    assert networks.get("town") == networks.get(made.id[:10]) == made
    assert (made.subnet, made.gateway, made.mtu) == ("10.99.8.0/24", "10.99.8.77", 1300)
    assert (made.labels, made.options) == ({"a": "b"}, {MTU: "1300"})
    first = await networks.attach(A, Joining("town"))
    assert (first.address, first.gateway) == ("10.99.8.1", "10.99.8.77")
    chosen = await networks.attach(B, Joining("town", ip="10.99.8.200"))
    assert chosen.address == "10.99.8.200"
    assert reaches(first, chosen)
    for name in (A, B):
        await networks.detach(name)
    await networks.remove("town")


async def test_two_networks_do_not_reach_each_other(networks: Manager) -> None:
    one, two = await networks.create(Wanted("one")), await networks.create(Wanted("two"))
    subnets = [IPv4Network(network.subnet) for network in (networks.get("bridge"), one, two)]
    assert not any(subnets[left].overlaps(subnets[right]) for left, right in ((0, 1), (0, 2), (1, 2)))
    a, b = await networks.attach(A, Joining("one")), await networks.attach(B, Joining("two"))
    c = await networks.attach(C, Joining("one"))
    assert reaches(a, c)
    if not one.status:
        assert not reaches(a, b)
        assert not reaches(b, a)
    for name in (A, B, C):
        await networks.detach(name)
    for network in (one, two):
        await networks.remove(network.id)


async def test_from_an_internal_network_there_is_no_way_out(networks: Manager, paths: Paths) -> None:
    inner = await networks.create(Wanted("inner", internal=True))
    a, b = await networks.attach(A, Joining("inner")), await networks.attach(B, Joining("inner"))
    assert a.gateway == ""
    assert reaches(a, b)
    with inside(a.netns_fd, Socket) as door:
        assert [str(route.network) for route in door.routes()] == [inner.subnet]
    outside = networks.get("bridge").gateway
    with pytest.raises(OSError, match="unreachable"):
        inside(a.netns_fd, lambda: socket.create_connection((outside, 80), 0.5))
    for name in (A, B):
        await networks.detach(name)
    await networks.remove("inner")
    assert inner.interface not in interfaces(paths)


async def test_it_goes_when_it_is_removed_and_not_before_its_containers(networks: Manager, paths: Paths) -> None:
    made = await networks.create(Wanted("town"))
    await networks.attach(A, Joining("town"))
    with pytest.raises(Forbidden, match=r"network town id .* has active endpoints"):
        await networks.remove("town")
    await networks.detach(A)
    assert (await networks.remove("town")).id == made.id
    assert made.interface not in interfaces(paths)
    assert not (paths.networks / f"{made.id}.json").exists()
    with pytest.raises(NotFound):
        networks.get("town")
    with pytest.raises(NotFound):
        await networks.attach(A, Joining("town"))
    for name in ("bridge", "host", "none"):
        with pytest.raises(Forbidden, match="pre-defined"):
            await networks.remove(name)


async def test_it_comes_back_with_the_next_daemon(paths: Paths) -> None:
    first = Manager(paths)
    await first.start()
    made = await first.create(Wanted("town", subnet="10.99.9.0/24", internal=True, labels={"a": "b"}))
    await first.stop()
    assert interfaces(paths) == []
    second = Manager(paths)
    await second.start()
    assert second.get("town") == made
    assert (await second.attach(A, Joining("town"))).address == "10.99.9.2"
    await second.detach(A)
    await second.stop()


@pytest.mark.parametrize(
    "wanted, kind, message",
    [
        (Wanted(""), InvalidParameter, "invalid network name"),
        (Wanted("a/b"), InvalidParameter, "invalid network name"),
        (Wanted("bridge"), Forbidden, "predefined bridge network"),
        (Wanted("x", driver="host"), Forbidden, "only one instance"),
        (Wanted("x", driver="overlay"), NotFound, "could not find plugin overlay"),
        (Wanted("x", subnet="10.0.0.1/24"), InvalidParameter, "invalid subnet"),
        (Wanted("x", subnet="10.0.0.0/31"), InvalidParameter, "no room"),
        (Wanted("x", subnet="fd00::/64"), NotSupported, "IPv4 addresses alone"),
        (Wanted("x", subnet="10.99.0.0/24", gateway="10.98.0.1"), InvalidParameter, "no matching subnet"),
        (Wanted("x", gateway="10.98.0.1"), InvalidParameter, "no matching subnet"),
        (Wanted("x", subnet="127.0.0.0/24"), Forbidden, "Pool overlaps"),
    ],
)
async def test_what_cannot_be_made_is_refused_and_leaves_nothing(
    networks: Manager, wanted: Wanted, kind: type[GlassdockError], message: str
) -> None:
    before = networks.networks()
    with pytest.raises(kind, match=message):
        await networks.create(wanted)
    assert networks.networks() == before


async def test_names_and_subnets_are_given_once(networks: Manager, paths: Paths) -> None:
    await networks.create(Wanted("town"))
    with pytest.raises(Conflict, match="network with name town already exists"):
        await networks.create(Wanted("town"))
    taken = networks.get("bridge").subnet
    with pytest.raises(Forbidden, match="Pool overlaps"):
        await networks.create(Wanted("other", subnet=taken))
    assert len([name for name in interfaces(paths) if "n" in name.removeprefix(f"gd{paths.tag}")]) == 1
    gateway = IPv4Address(networks.get("town").gateway)
    with at_home(paths, Socket) as door:
        assert gateway in [address.ip for _, address in door.addresses()]
    await networks.remove("town")
