"""A container on several networks: joined and left while it runs, its routes, its ports, and the names on them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from glassdock.errors import Forbidden
from glassdock.network.creation import Wanted
from glassdock.network.manager import Manager
from glassdock.network.model import Endpoint, Joining, PortBinding
from glassdock.network.netlink import Socket
from glassdock.paths import Paths
from tests.network.asking import ask, server
from tests.network.inside import inside, interfaces

pytestmark = pytest.mark.needs_root
A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
async def towns(networks: Manager) -> AsyncIterator[Manager]:
    """Two networks, and a third that nothing leaves."""
    for name in ("alpha", "beta"):
        await networks.create(Wanted(name))
    await networks.create(Wanted("inner", internal=True))
    yield networks
    for container in (A, B, C):
        await networks.detach(container)
    for name in ("alpha", "beta", "inner"):
        await networks.remove(name)


def default_route(endpoint: Endpoint) -> list[str]:
    with inside(endpoint.netns_fd, Socket) as door:
        names = {link.index: link.name for link in door.links()}
        return [names[route.index] for route in door.routes() if route.network.prefixlen == 0]


def links(endpoint: Endpoint) -> list[str]:
    with inside(endpoint.netns_fd, Socket) as door:
        return [link.name for link in door.links()]


async def asked(endpoint: Endpoint, name: str, kind: int = 1, *, tcp: bool = False) -> tuple[int, list[str]]:
    code, found = await asyncio.to_thread(ask, endpoint.netns_fd, name, kind, tcp=tcp)
    return code, sorted(found)


async def test_a_network_more_and_a_network_less(towns: Manager) -> None:
    first = await towns.attach(A, Joining("beta"), name="one")
    assert default_route(first) == ["eth0"]
    await towns.connect(A, Joining("inner"))
    assert (links(first), default_route(first)) == (["lo", "eth0", "eth1"], ["eth0"])
    alpha = await towns.connect(A, Joining("alpha"))
    assert (links(first), default_route(first)) == (["lo", "eth0", "eth1", "eth2"], ["eth2"])
    other = await towns.attach(B, Joining("alpha"))
    with inside(first.netns_fd, lambda: socket.create_server((alpha.address, 80))):
        inside(other.netns_fd, lambda: socket.create_connection((alpha.address, 80), 5)).close()
    assert {one.container_id for one in towns.get("alpha").containers} == {A, B}
    with pytest.raises(Forbidden, match="endpoint with name one already exists in network alpha"):
        await towns.connect(A, Joining("alpha"))
    await towns.disconnect(A, "alpha")
    assert (links(first), default_route(first)) == (["lo", "eth0", "eth1"], ["eth0"])
    with pytest.raises(Forbidden, match="is not connected to network alpha"):
        await towns.disconnect(A, "alpha")
    await towns.disconnect(A, "beta")
    assert (links(first), default_route(first)) == (["lo", "eth1"], [])
    again = await towns.connect(A, Joining("beta", priority=5))
    assert (links(again), default_route(again)) == (["lo", "eth1", "eth0"], ["eth0"])
    await towns.connect(A, Joining("alpha"))
    assert default_route(again) == ["eth0"]


async def test_ports_follow_to_a_network_that_has_a_way_out(towns: Manager) -> None:
    first = await towns.attach(A, Joining("beta"), ports=[PortBinding(80)])
    (port,) = first.ports
    alpha = await towns.connect(A, Joining("alpha"))
    await towns.disconnect(A, "beta")
    (left,) = towns.endpoints(A)
    assert left.ports == (port,)
    with inside(first.netns_fd, lambda: socket.create_server((alpha.address, 80))) as listening:
        calling = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port.host_port), 5)
        accepted, _ = await asyncio.to_thread(listening.accept)
        accepted.close()
        calling.close()


async def test_names_are_known_on_the_network_where_they_are_given(towns: Manager) -> None:
    a = await towns.attach(A, Joining("alpha", names=("one", "web", A[:12])))
    b = await towns.attach(B, Joining("alpha", names=("two", "web", B[:12])))
    c = await towns.attach(C, Joining("beta", names=("three",)))
    for container in (A, B, C):
        await towns.serve_names(container)
    for tcp in (False, True):
        assert await asked(a, "two", tcp=tcp) == (0, [b.address])
        assert await asked(a, "TWO.Alpha", tcp=tcp) == (0, [b.address])
    assert await asked(a, A[:12]) == (0, [a.address])
    assert await asked(b, "web") == (0, sorted((a.address, b.address)))
    assert await asked(a, "two", 28) == (0, [])
    reverse = ".".join(reversed(b.address.split("."))) + ".in-addr.arpa"
    assert await asked(a, reverse, 12) == (0, ["two.alpha"])
    in_beta = await towns.connect(A, Joining("beta", names=("one",), links=(("three", "friend"),)))
    assert await asked(c, "one") == (0, [in_beta.address])
    assert await asked(a, "friend") == await asked(a, "three") == (0, [c.address])
    towns.call(B, Joining("alpha", names=("four",)))
    assert await asked(a, "four") == (0, [b.address])
    firsts = {(await asyncio.to_thread(ask, a.netns_fd, "one"))[1][0] for _ in range(3)}
    assert firsts == {a.address}


async def test_the_answers_take_turns(towns: Manager) -> None:
    a = await towns.attach(A, Joining("alpha", names=("one", "web")))
    b = await towns.attach(B, Joining("alpha", names=("two", "web")))
    await towns.serve_names(A)
    firsts = {(await asyncio.to_thread(ask, a.netns_fd, "web"))[1][0] for _ in range(40)}
    assert firsts == {a.address, b.address}


async def test_what_is_nobodys_name_is_asked_of_the_servers_given(towns: Manager) -> None:
    a = await towns.attach(A, Joining("alpha", names=("one",)))
    b = await towns.attach(B, Joining("alpha", names=("two",)))
    await towns.serve_names(A, [b.address])
    with server(b.netns_fd, b.address, "192.0.2.7"):
        for tcp in (False, True):
            assert await asked(a, "www.example.test", tcp=tcp) == (0, ["192.0.2.7"])
    assert await asked(a, "two") == (0, [b.address])


async def test_a_container_without_a_way_out_gets_no_answer_from_elsewhere(towns: Manager) -> None:
    a = await towns.attach(A, Joining("inner", names=("one",)))
    await towns.serve_names(A)
    assert await asked(a, "one") == (0, [a.address])
    assert await asked(a, "www.example.test") == (2, [])


async def test_port_53_stays_the_containers_own(towns: Manager) -> None:
    a = await towns.attach(A, Joining("alpha", names=("one",)))
    await towns.serve_names(A)
    if inside(a.netns_fd, _sockets_at_53):
        pytest.skip("the kernel has no nftables for us: the server is at port 53 itself")
    with inside(a.netns_fd, lambda: socket.create_server(("0.0.0.0", 53))):
        assert await asked(a, "one", tcp=True) == (0, [a.address])


def _sockets_at_53() -> bool:
    with open("/proc/thread-self/net/udp", encoding="ascii") as table:
        return "0B00007F:0035" in table.read()


async def test_on_the_default_network_nobody_has_a_name(towns: Manager) -> None:
    a = await towns.attach(A)
    await towns.serve_names(A)
    with pytest.raises(ConnectionError):
        await asyncio.to_thread(ask, a.netns_fd, "one")


async def test_the_next_daemon_knows_networks_and_names(paths: Paths) -> None:
    first = Manager(paths)
    await first.start()
    for name in ("alpha", "beta"):
        await first.create(Wanted(name))
    a = await first.attach(A, Joining("beta"), ports=[PortBinding(80)])
    await first.connect(A, Joining("alpha"))
    held = os.dup(a.netns_fd or 0)
    program = f"from glassdock.linux.clone import *; setns({held}, CloneFlag.NEWNET); print(flush=True); input()"
    words = [sys.executable, "-c", program]
    living = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[held])
    assert living.stdout is not None and living.stdin is not None
    living.stdout.readline()
    os.close(held)
    before = [(one.network_name, one.address) for one in first.endpoints(A)]
    await first.stop()
    second = Manager(paths)
    await second.start([A])
    try:
        joinings = [Joining(name, names=("one",)) for name in ("alpha", "beta")]
        await second.adopt(A, "one", living.pid, joinings)
        await second.serve_names(A)
        assert sorted((one.network_name, one.address) for one in second.endpoints(A)) == sorted(before)
        kept = second.endpoints(A)[0]
        assert await asked(kept, "one") == (0, [dict(before)["alpha"]])
        await second.disconnect(A, "alpha")
        assert default_route(kept) == ["eth0"]
    finally:
        living.communicate(b"\n")
        await second.detach(A)
        for name in ("alpha", "beta"):
            await second.remove(name)
        await second.stop()
    assert second.problems == []
    assert interfaces(paths) == []


async def test_a_range_to_take_from_and_addresses_that_are_others(networks: Manager) -> None:
    wanted = Wanted("town", subnet="10.99.8.0/24", ip_range="10.99.8.128/29", aux_addresses={"printer": "10.99.8.129"})
    made = await networks.create(wanted)
    assert (made.ip_range, made.aux_addresses) == ("10.99.8.128/29", {"printer": "10.99.8.129"})
    assert (await networks.attach(A, Joining("town"))).address == "10.99.8.128"
    assert (await networks.attach(B, Joining("town"))).address == "10.99.8.130"
    assert (await networks.attach(C, Joining("town", ip="10.99.8.5"))).address == "10.99.8.5"
    for container in (A, B, C):
        await networks.detach(container)
    await networks.remove("town")
