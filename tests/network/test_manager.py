"""The network manager on the real kernel: namespaces, cables, addresses, and what is left of them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from ipaddress import IPv4Network, ip_network
from pathlib import Path

import pytest

from glassdock.errors import Conflict, InvalidParameter, NotFound, NotSupported
from glassdock.linux import ids
from glassdock.network import bridged as bridgeds
from glassdock.network import manager as managers
from glassdock.network.bridged import Bridged
from glassdock.network.manager import Manager
from glassdock.network.model import Endpoint, Joining, PortBinding
from glassdock.network.netlink import Link, Socket
from glassdock.paths import Paths
from glassdock.trace import recording
from tests.network.inside import at_home, inside, interfaces

pytestmark = pytest.mark.needs_root
A, B, C = "a" * 64, "b" * 64, "c" * 64


def here() -> tuple[list[Link], list[str], list[str]]:
    with Socket() as door:
        links = door.links()
        names = {link.index: link.name for link in links}
        addresses = [f"{names[index]} {address}" for index, address in door.addresses()]
        return links, addresses, [f"{route.network} {names[route.index]}" for route in door.routes()]


async def ready(networks: Manager, count: int = bridgeds._READY) -> Bridged:
    bridged = networks._bridged[networks.get("bridge").id]
    await until(lambda: not (len(bridged.ready) < count or networks._yard.background or networks._yard.timer))
    return bridged


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail("waited 10 s in vain")


def accept_one(endpoint: Endpoint, port: int) -> socket.socket:
    return inside(endpoint.netns_fd, lambda: socket.create_server(("0.0.0.0", port)))


def first_of(networks: Manager) -> str:
    """The first address of the default network for a container: a crowded machine leaves us a pool of any size."""
    return str(ip_network(networks.get("bridge").subnet)[2])


async def test_there_are_dockers_three_networks(networks: Manager) -> None:
    assert {network.name: network.driver for network in networks.networks()} == {
        "bridge": "bridge",
        "host": "host",
        "none": "null",
    }
    bridge = networks.get("bridge")
    assert networks.get("default") == networks.get(bridge.id) == networks.get(bridge.id[:12]) == bridge
    assert str(next(IPv4Network(bridge.subnet).hosts())) == bridge.gateway
    with pytest.raises(NotFound, match="network nosuch not found"):
        networks.get("nosuch")


async def test_a_place_has_lo_eth0_address_and_default_route(networks: Manager, paths: Paths) -> None:
    endpoint = await networks.attach(A)
    links, addresses, routes = inside(endpoint.netns_fd, here)
    assert [link.name for link in links] == ["lo", "eth0"]
    assert addresses == ["lo 127.0.0.1/8", f"eth0 {endpoint.address}/{endpoint.prefix}"]
    assert f"{networks.get('bridge').subnet} eth0" in routes
    assert "0.0.0.0/0 eth0" in routes
    assert links[1].mac == endpoint.mac
    listing = inside(endpoint.netns_fd, Path("/proc/thread-self/net/if_inet6").read_text)
    assert [line.split()[-1] for line in listing.splitlines()] == ["lo"], "eth0 made itself an IPv6 address"
    assert networks.endpoints(A) == (endpoint,)
    assert networks.get("bridge").containers == (endpoint,)
    near = next(link for link in at_home(paths, here)[0] if link.name == endpoint.interface)
    assert near.alias == f"glassdock {A} {endpoint.address}/{endpoint.prefix} {endpoint.mac}"


async def test_a_user_of_the_container_may_listen_below_1024_and_ping(networks: Manager) -> None:
    endpoint = await networks.attach(A)
    folder = Path("/proc/sys/net/ipv4")
    last = "2147483647" if ids.initial() else str(max(found.inside + found.count - 1 for found in ids.mapping().gids))
    assert inside(endpoint.netns_fd, (folder / "ip_unprivileged_port_start").read_text) == "0\n"
    assert inside(endpoint.netns_fd, (folder / "ping_group_range").read_text).split() == ["0", last]


async def test_two_containers_and_their_gateway_reach_each_other(networks: Manager, paths: Paths) -> None:
    one, two = await networks.attach(A), await networks.attach(B)

    def call() -> socket.socket:
        return socket.create_connection((two.address, 80), 5)

    with accept_one(two, 80) as server:
        for connection in (inside(one.netns_fd, call), at_home(paths, call)):
            with connection:
                accepted, _ = server.accept()
                with accepted:
                    accepted.sendall(b"hello")
                    assert connection.recv(5) == b"hello"


async def test_addresses_go_up_and_a_freed_one_comes_again(networks: Manager, paths: Paths) -> None:
    first = [await networks.attach(name) for name in (A, B)]
    assert [endpoint.address.rpartition(".")[2] for endpoint in first] == ["2", "3"]
    await networks.detach(first[0])
    again = await networks.attach(C)
    assert again.address == first[0].address
    # The address moved to another cable: what the bridge had learnt must not lead to the old one.
    with accept_one(again, 80), at_home(paths, lambda: socket.create_connection((again.address, 80), 5)):
        pass


async def test_a_place_ahead_of_need_is_taken_and_replaced(networks: Manager) -> None:
    bridged = await ready(networks)
    waiting = bridged.ready[0].cable
    with recording("test") as seen:
        endpoint = await networks.attach(A)
    assert endpoint.interface == waiting
    spans = {span.name: span.attributes for span in seen.spans}
    assert spans["network.namespace"] == {"ready": True}
    assert f"ip addr add {endpoint.address}/{endpoint.prefix} brd + dev eth0" in spans["network.join"]["commands"]
    await ready(networks)


async def test_more_at_once_than_are_ready(networks: Manager) -> None:
    names = [f"{number:064x}" for number in range(20)]
    endpoints = await asyncio.gather(*(networks.attach(name) for name in names))
    assert len({endpoint.address for endpoint in endpoints}) == 20
    await asyncio.gather(*(networks.detach(endpoint) for endpoint in endpoints))
    assert networks.get("bridge").containers == ()


async def test_detach_twice_by_endpoint_and_by_id_is_harmless(networks: Manager, paths: Paths) -> None:
    endpoint = await networks.attach(A)
    await networks.detach(endpoint)
    await networks.detach(endpoint)
    await networks.detach(A)
    assert networks.endpoints(A) == ()
    await until(lambda: endpoint.interface not in interfaces(paths))


async def test_none_has_lo_alone_and_host_is_the_machines_own(networks: Manager) -> None:
    alone, machine = await networks.attach(A, Joining("none")), await networks.attach(B, Joining("host"))
    links, addresses, routes = inside(alone.netns_fd, here)
    assert ([link.name for link in links], addresses, routes) == (["lo"], ["lo 127.0.0.1/8"], [])
    assert machine.netns_fd is None
    assert (alone.network_name, machine.network_name) == ("none", "host")


async def test_a_published_port_leads_into_the_container(networks: Manager) -> None:
    endpoint = await networks.attach(A, ports=[PortBinding(80)])
    (port,) = endpoint.ports
    with accept_one(endpoint, 80) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.host_port)
        accepted, peer = await asyncio.to_thread(server.accept)
        with accepted:
            assert peer[0] == endpoint.gateway
            accepted.sendall(b"hello")
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()


async def test_a_port_in_use_is_refused_and_nothing_is_left(networks: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(Conflict, match="driver failed programming external connectivity on endpoint web") as caught:
            await networks.attach(A, name="web", ports=[PortBinding(80, host_port=taken)])
    assert "address already in use" in caught.value.message
    assert caught.value.remedy
    assert networks.endpoints(A) == ()
    assert (await networks.attach(A)).address == first_of(networks)


async def test_chosen_addresses_and_bad_ones(networks: Manager) -> None:
    bridge = networks.get("bridge")
    chosen = str(IPv4Network(bridge.subnet).network_address + 77)
    endpoint = await networks.attach(A, Joining(ip=chosen, mac="02:00:00:00:00:AA"))
    assert (endpoint.address, endpoint.mac) == (chosen, "02:00:00:00:00:aa")
    assert inside(endpoint.netns_fd, here)[0][1].mac == "02:00:00:00:00:aa"
    with pytest.raises(Conflict, match="already in use"):
        await networks.attach(B, Joining(ip=chosen))
    for wrong in ("1.2.3", "203.0.113.1"):
        with pytest.raises(InvalidParameter):
            await networks.attach(B, Joining(ip=wrong))
    with pytest.raises(InvalidParameter, match="invalid mac address"):
        await networks.attach(B, Joining(mac="nonsense"))
    with pytest.raises(Conflict, match="already connected"):
        await networks.attach(A)
    with pytest.raises(NotFound):
        await networks.attach(B, Joining("nosuch"))


async def test_a_cancelled_attach_leaves_nothing(networks: Manager) -> None:
    await ready(networks)
    for yields in range(6):
        task = asyncio.create_task(networks.attach(A, ports=[PortBinding(80)]))
        for _ in range(yields):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert networks.endpoints(A) == ()
    assert (await networks.attach(B)).address == first_of(networks)


async def test_two_engines_do_not_collide(networks: Manager, short_tmp: Path) -> None:
    paths = Paths.of(short_tmp / "other")
    paths.make()
    other = Manager(paths)
    await other.start()
    try:
        one, two = networks.get("bridge"), other.get("bridge")
        assert one.interface != two.interface
        mine, its = await networks.attach(A), await other.attach(A)
        if ids.initial():  # each ordinary user's engine has a network of its own
            assert not IPv4Network(one.subnet).overlaps(IPv4Network(two.subnet))
            assert mine.address != its.address
        await other.detach(its)
    finally:
        await other.stop()
    assert interfaces(paths) == []


async def test_the_next_daemon_takes_over_the_living_and_clears_the_rest(paths: Paths) -> None:
    first = Manager(paths)
    await first.start()
    living = await first.attach(A, ports=[PortBinding(80)])
    dead = await first.attach(B)
    # The containers hold their namespaces; the daemon is gone.
    holders = [hold(endpoint) for endpoint in (living, dead)]
    try:
        await first.stop()
        assert living.interface in interfaces(paths)

        second = Manager(paths)
        await second.start([A])
        (found,) = second.endpoints(A)
        assert (found.address, found.mac, found.ports) == (living.address, living.mac, living.ports)
        assert second.endpoints(B) == ()
        assert dead.interface not in interfaces(paths)
        assert (await second.attach(C)).address == dead.address

        third = Manager(paths)
        await second.detach(C)
        await second.stop()
        await third.start()
        assert third.endpoints(A) == ()
        await third.stop()
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()
    assert interfaces(paths) == []
    assert list((paths.networks / "published").iterdir()) == []


def hold(endpoint: Endpoint) -> subprocess.Popen[bytes]:
    """A process that lives in the endpoint's namespace."""
    return inside(endpoint.netns_fd, lambda: subprocess.Popen(["sleep", "60"]))


KILLED = """
import asyncio, os, signal, subprocess, sys
from pathlib import Path
from glassdock.network.manager import Manager
from glassdock.network.model import Joining, PortBinding
from glassdock.paths import Paths
from tests.network.inside import inside

async def main():
    manager = Manager(Paths(Path(sys.argv[1])))
    await manager.start()
    endpoint = await manager.attach("a" * 64, ports=[PortBinding(80)])
    holder = inside(endpoint.netns_fd, lambda: subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL))
    await manager.attach("b" * 64)
    print(holder.pid, endpoint.address, endpoint.ports[0].host_port, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_after_a_kill_the_next_daemon_finds_the_living(paths: Paths) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(paths.root), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    out, _ = await child.communicate()
    assert child.returncode == -signal.SIGKILL
    pid, address, port = out.split()
    try:
        manager = Manager(paths)
        await manager.start([A])
        (endpoint,) = manager.endpoints(A)
        assert (endpoint.address, endpoint.ports[0].host_port) == (address.decode(), int(port))
        assert manager.endpoints(B) == ()
        await manager.detach(A)
        await manager.stop()
    finally:
        os.kill(int(pid), signal.SIGKILL)
    assert interfaces(paths) == []
    assert manager.problems == []


async def test_before_it_is_started_it_knows_the_networks_and_refuses_the_bridge(paths: Paths) -> None:
    manager = Manager(paths)
    assert sorted(network.name for network in manager.networks()) == ["bridge", "host", "none"]
    with pytest.raises(NotSupported, match="not started"):
        await manager.attach(A)


async def test_the_records_outlive_the_daemon(paths: Paths) -> None:
    identities = []
    for _ in range(2):
        manager = Manager(paths)
        await manager.start()
        identities.append([(network.id, network.name, network.subnet) for network in manager.networks()])
        await manager.stop()
    assert identities[0] == identities[1]


UNPRIVILEGED = """
import asyncio, sys
from pathlib import Path
from glassdock.errors import NotSupported
from glassdock.linux import capset
from glassdock.network.manager import Manager
from glassdock.network.model import Joining
from glassdock.paths import Paths

async def main():
    manager = Manager(Paths(Path(sys.argv[1])))
    await manager.start()
    print(manager.get("bridge").status)
    for name in ("bridge", "none"):
        try:
            await manager.attach("a", Joining(name))
        except NotSupported as error:
            print(error, error.remedy)
    print((await manager.attach("a", Joining("host"))).network_name)
    print(manager.warnings()[0])
    await manager.stop()

capset.capset(0, 0, 0)
asyncio.run(main())
"""


def test_without_capabilities_the_bridge_is_refused_in_words_and_host_works(paths: Paths) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", UNPRIVILEGED, str(paths.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "Operation not permitted" in lines[0]
    assert "cannot be used on this machine" in lines[1]
    assert "doctor" in lines[2]
    assert lines[-2] == "host"
    assert lines[-1].startswith("network bridge: ")


def test_not_supported_is_the_class_for_a_refusing_machine() -> None:
    assert isinstance(managers._refused(PermissionError(1, "no")), NotSupported)
    assert "max_net_namespaces" in str(managers._refused(OSError(28, "full")).remedy)
