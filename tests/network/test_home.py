"""Where the bridges are: on the machine for root, on a network of the engine's own for an ordinary user."""

from __future__ import annotations

import asyncio
import socket
import threading
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from glassdock.errors import Conflict
from glassdock.linux import ids
from glassdock.network.manager import Manager
from glassdock.network.model import PortBinding
from glassdock.network.netlink import Socket
from glassdock.paths import Paths
from tests.network.inside import inside, interfaces

pytestmark = pytest.mark.needs_root
A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_a_port_published_on_all_addresses_is_found_by_containers_at_their_gateway(
    networks: Manager, protocol: str
) -> None:
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[protocol]
    web = await networks.attach(A, ports=[PortBinding(80, protocol, "0.0.0.0")])
    other = await networks.attach(B)
    port = web.ports[0].host_port

    def call(address: str) -> socket.socket:
        made = socket.socket(socket.AF_INET, kind)
        made.settimeout(5)
        made.connect((address, port))
        made.send(b"hello")
        return made

    def serve() -> None:
        with socket.socket(socket.AF_INET, kind) as listening:
            listening.settimeout(5)
            listening.bind(("0.0.0.0", 80))
            if protocol == "tcp":
                listening.listen()
            ready.set()
            for _ in range(2):
                if protocol == "tcp":
                    with listening.accept()[0] as accepted:
                        seen.append((accepted.getpeername()[0], accepted.recv(5)))
                        accepted.send(b"answer")
                else:
                    data, sender = listening.recvfrom(5)
                    seen.append((sender[0], data))
                    listening.sendto(b"answer", sender)

    seen: list[tuple[str, bytes]] = []
    ready = threading.Event()
    serving = asyncio.create_task(asyncio.to_thread(inside, web.netns_fd, serve))
    await asyncio.to_thread(ready.wait, 5)
    for connection in (inside(other.netns_fd, lambda: call(other.gateway)), call("127.0.0.1")):
        with connection:
            assert await asyncio.to_thread(connection.recv, 6) == b"answer"
    await serving
    assert seen == [(web.gateway, b"hello")] * 2


@pytest.mark.skipif(ids.initial(), reason="root may listen on any port")
async def test_a_port_below_1024_is_refused_in_words_where_it_is_roots(networks: Manager) -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if lowest == 0:
        pytest.skip("this machine lets everybody listen on every port")
    with pytest.raises(Conflict, match="bind: permission denied") as caught:
        await networks.attach(A, ports=[PortBinding(80, host_port=lowest - 1)])
    assert f"ip_unprivileged_port_start={lowest - 1}" in str(caught.value.remedy)


@pytest.mark.skipif(ids.initial(), reason="root's bridges are on the machine's network")
async def test_the_engines_own_network_is_apart_and_goes_with_it(paths: Paths) -> None:
    manager = Manager(paths)
    await manager.start()
    machine = {name for _, name in socket.if_nameindex()}
    bridge = manager.get("bridge")
    assert bridge.interface in interfaces(paths)
    assert bridge.interface not in machine
    with Socket() as door:
        taken = [route.network for route in door.routes()]
    assert not any(IPv4Network(bridge.subnet).overlaps(network) for network in taken if network.prefixlen)
    assert str(paths.networks) in Path("/proc/self/mountinfo").read_text()
    await manager.stop()
    assert str(paths.networks) not in Path("/proc/self/mountinfo").read_text()
    assert not (paths.networks / "namespace").exists()
