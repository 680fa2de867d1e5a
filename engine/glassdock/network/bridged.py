"""One bridge network at work: the bridge, the places kept ready on it, who has which address.

Interface:
- `Bridged(network, tag)`; `up(live, beyond)` makes or repairs it, `down()` removes it.
- `Surroundings.here()`: the networks that the calling thread sees; a new one must not overlap them.
- `make()`: a place with its cable plugged; `ready`: places made ahead of need.
- `plug_in(netns, owner)`: a cable into a namespace that is lived in.
- `join(place, owner)`: address, route and label; `unplug(cable)`; `destroy(places)`.

Rules: every method talks to the kernel and may wait for its lock, so each is called in a worker thread, one that is at
home (`home.py`); `leases` and `ready` belong to the event loop's thread alone. The kernel holds what must survive the
daemon: a cable is labelled with its owner.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec

from glassdock.errors import Conflict, Forbidden, NotSupported, Unavailable
from glassdock.network import addresses, bridge, creation, namespaces, nat, veth
from glassdock.network.addresses import Leases
from glassdock.network.model import Network
from glassdock.network.namespaces import Place
from glassdock.network.netlink import Link, Socket, Step
from glassdock.network.veth import Owner

_LOCK = "\0glassdock-network"
_LOCK_PATIENCE = 60.0  # seconds; on a machine with many engines that start at once each waits for all others
_ATTEMPTS = 20
_MTU = 1500
_READY, _READY_OF_OTHERS = 6, 2  # places ahead of need


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around a new bridge: networks that are taken, and how much the way out carries in one packet."""

    networks: tuple[IPv4Network, ...] = ()
    mtu: int = _MTU

    @classmethod
    def here(cls) -> Surroundings:
        """Of the namespace that the calling thread is in."""
        with Socket() as door:
            return cls.of(door)

    @classmethod
    def of(cls, door: Socket) -> Surroundings:
        """Of the namespace that the socket leads to."""
        routes = door.routes()
        outward = {route.index for route in routes if route.network.prefixlen == 0}
        links = [link for index in outward if (link := door.link(index=index)) is not None]
        mtu = min([_MTU, *(link.mtu for link in links)])
        return cls(tuple([route.network for route in routes] + [found.network for _, found in door.addresses()]), mtu)


class Bridged:
    """The bridge of one network, its cables and its leases."""

    def __init__(self, network: Network, tag: str) -> None:
        self.network = network
        self.ready: deque[Place] = deque()
        self.wanted = _READY if network.name == "bridge" else _READY_OF_OTHERS
        self._cables = cables(tag)
        # The pile of unplugged cables; a group's number is the machine's, so it is derived from the bridge's name.
        digest = hashlib.sha256(network.interface.encode()).digest()
        self._group = int.from_bytes(digest[:4], "big") | 1 << 31
        self._link = Link(0, network.interface)
        self.leases = Leases(IPv4Network("0.0.0.0/8"))

    def up(self, live: Collection[str], beyond: Surroundings | None = None) -> list[tuple[Owner, str]]:
        """Make the bridge, or take it over from a daemon that died; returns owners and cables of `live` containers.

        `beyond` is what the machine sees, where the bridge is not on the machine's own network.
        Whatever else is plugged in belongs to nobody any more and goes. Raises OSError where the kernel refuses.
        """
        with Socket() as host:
            link = host.link(name=self.network.interface)
            ports = host.links(link.index) if link else []
            owners = {port: veth.owner(port.alias) for port in ports}
            kept = [(owner, port.name) for port, owner in owners.items() if owner and owner.container in live]
            if link is not None and not (kept and self._has_address(host, link)):
                # Cheaper than finding out what a dead daemon had finished: nobody lives on it.
                _delete(host, (*ports, link))
                link, ports, kept = None, [], []
            if link is None:
                with _machine_lock():
                    link = self._create(host, beyond or Surroundings())
            names = {name for _, name in kept}
            _delete(host, [port for port in ports if port.name not in names])
            self._link = link
            self.leases = Leases(
                IPv4Network(self.network.subnet),
                IPv4Address(self.network.gateway),
                IPv4Network(self.network.ip_range) if self.network.ip_range else None,
                [IPv4Address(address) for address in self.network.aux_addresses.values()],
            )
            for owner, _ in kept:
                self.leases.keep(owner.container, owner.address.ip)
        status = nat.up(self.network.interface, IPv4Network(self.network.subnet), internal=self.network.internal)
        self.network = msgspec.structs.replace(self.network, status=status)
        return kept

    def _has_address(self, host: Socket, link: Link) -> bool:
        wanted = f"{self.network.gateway}/{self.network.subnet.partition('/')[2]}"
        return any(index == link.index and str(address) == wanted for index, address in host.addresses())

    def _create(self, host: Socket, beyond: Surroundings) -> Link:
        here = Surroundings.of(host)
        taken = [network for network in here.networks + beyond.networks if network.prefixlen]
        preferred = IPv4Network(self.network.subnet) if self.network.subnet else None
        if self.network.chosen and preferred and any(preferred.overlaps(network) for network in taken):
            raise Forbidden(
                "Pool overlaps with other one on this address space",
                f"This machine reaches another network at {preferred}: choose another --subnet.",
            )
        subnet = addresses.free_subnet(taken, preferred)
        mtu = int(self.network.options.get(creation.MTU, min(here.mtu, beyond.mtu)))
        first = IPv4Address(self.network.gateway) if self.network.chosen else subnet.network_address + 1
        gateway = IPv4Interface((first, subnet.prefixlen))
        host.apply(bridge.plan(self.network.interface, mtu))
        link = Link(socket.if_nametoindex(self.network.interface), self.network.interface)
        host.apply(bridge.addressed(link, gateway))
        self.network = msgspec.structs.replace(self.network, subnet=str(subnet), gateway=str(gateway.ip), mtu=mtu)
        return link

    def down(self) -> None:
        """Remove the bridge and its rules; nothing where it is not there."""
        nat.down(self.network.interface)
        with Socket() as host:
            link = host.link(name=self.network.interface)
            _delete(host, [link] if link else [])

    def make(self) -> Place:
        """A namespace with lo and an eth0 whose cable is plugged in; no address yet."""
        with Socket() as host:
            return namespaces.make(lambda descriptor: self._plug(host, descriptor))

    def plug_in(self, netns: int, owner: Owner) -> str:
        """A further cable, into a namespace that somebody may live in already; returns the near end's name."""
        taken = namespaces.visit(netns, lambda: {name for _, name in socket.if_nameindex()})
        far = next(name for number in itertools.count() if (name := f"eth{number}") not in taken)

        def configure() -> None:
            link = Link(socket.if_nametoindex(far), far)
            steps = veth.configure(link, owner.mac, owner.address, None)
            with Socket() as door:
                door.apply([*namespaces.no_ipv6(link), bridge.SetUp(link), *steps])

        with Socket() as host, contextlib.ExitStack() as failed:
            cable = self._plug(host, netns, far)
            failed.callback(self._give_up, cable)
            namespaces.visit(netns, configure)
            host.apply([veth.Label(cable, veth.label(owner))])
            failed.pop_all()
        return cable

    def _give_up(self, cable: str) -> None:
        self.unplug(cable)
        self.destroy(())

    def _plug(self, host: Socket, descriptor: int, far: str = "eth0") -> str:
        for _ in range(_ATTEMPTS):
            # Interface names take 15 bytes.
            name = self._cables + secrets.token_hex(4)[: 15 - len(self._cables)]
            try:
                host.apply(veth.plug(name, self._link, descriptor, self.network.mtu, far))
            except OSError as error:
                if error.errno == errno.EEXIST:
                    continue
                if error.errno == veth.EXFULL:
                    raise NotSupported(
                        f"network {self.network.name} is full: a Linux bridge takes {bridge.PORTS:,} containers",
                        "Remove containers, or use --network none or host for those that need no address.",
                    ) from error
                raise
            return name
        raise Conflict(f"no free interface name begins with {self._cables}", "Remove interfaces that are left over.")

    def plan(self, place: Place, owner: Owner) -> list[Step]:
        """What makes the container's end talk."""
        assert place.eth0 is not None
        gateway = None if self.network.internal else self.leases.gateway
        return veth.configure(place.eth0, owner.mac, owner.address, gateway)

    def join(self, place: Place, owner: Owner) -> None:
        """Give the place to its owner: configure the far end, label the near one."""
        place.door.apply(self.plan(place, owner))
        with Socket() as host:
            host.apply([veth.Label(place.cable, veth.label(owner))])

    def unplug(self, cable: str) -> None:
        """Let nothing pass through the cable any more; nothing where it is gone with its namespace."""
        with Socket() as host, _perhaps_gone():
            host.apply([veth.Unplug(cable, self._group)])

    def destroy(self, descriptors: Sequence[int]) -> None:
        """Destroy every unplugged cable, then let go of their namespaces. Waits for the kernel, about 15 ms."""
        try:
            with Socket() as host, _perhaps_gone():
                host.apply([veth.DeleteGroup(self._group)])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def cables(tag: str) -> str:
    """How the names of an engine's cables begin."""
    return f"gd{tag}v" if tag else "veth"


def _delete(host: Socket, links: Sequence[Link]) -> None:
    for link in links:
        with _perhaps_gone():
            host.apply([bridge.Delete(link)])


@contextlib.contextmanager
def _perhaps_gone() -> Iterator[None]:
    """A cable goes by itself when the last process of its namespace has gone."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


@contextlib.contextmanager
def _machine_lock() -> Iterator[None]:
    """One engine at a time chooses a subnet: the name of a socket is held, which dies with its holder.

    Abstract names are a network namespace's own (unix(7)): exactly those who share its routes exclude each other.
    """
    deadline = time.monotonic() + _LOCK_PATIENCE
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as lock:
        while True:
            try:
                lock.bind(_LOCK)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"another Glassdock engine has been setting up its network for {_LOCK_PATIENCE:.0f} s",
                        "Find it with `grep glassdock-network /proc/net/unix` and `ss -xp`, and stop it.",
                    ) from error
                time.sleep(0.005)
        yield
