"""Plugging a container in and out: its first network before the start, others before it or while it runs.

Interface:
- `Wiring(yard, published)`: `first(...)` takes a place made ahead of need; `further(...)` lays a cable into a namespace
  that somebody may live in already; `without(...)` takes one away; `settle(sandbox)` leads routes and ports anew.

Rules: what fails half-way is undone. A further interface is the first ethN that is free, as with Docker. Ports stay
where they were published as long as that network has a way out.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from ipaddress import IPv4Interface

from glassdock import trace
from glassdock.network import addresses, namespaces, veth
from glassdock.network.bridged import Bridged
from glassdock.network.model import Endpoint, Joining, Network, PortBinding
from glassdock.network.netlink import Socket
from glassdock.network.published import Published
from glassdock.network.sandbox import Sandbox
from glassdock.network.veth import Owner
from glassdock.network.yard import Yard


class Wiring:
    """Cables into containers; `dns` says which server stands in for the machine's."""

    def __init__(self, yard: Yard, published: Published, dns: Callable[[], str]) -> None:
        self._yard = yard
        self._published = published
        self._dns = dns

    async def first(
        self, sandbox: Sandbox, bridged: Bridged, asked: Joining, ports: Sequence[PortBinding] = ()
    ) -> Endpoint:
        """A namespace of its own, plugged in and addressed, its ports listening."""
        async with contextlib.AsyncExitStack() as undo:
            owner = self._lease(sandbox.container, bridged, asked, undo)
            real: tuple[PortBinding, ...] = ()
            if ports:
                with trace.span("network.publish", ports=" ".join(port.describe() for port in ports)):
                    real = await self._published.publish(sandbox.container, sandbox.name, ports, str(owner.address.ip))
                undo.callback(self._published.withdraw, sandbox.container)
            place = bridged.ready.popleft() if bridged.ready else None
            with trace.span("network.namespace", ready=place is not None):
                if place is None:
                    place = await self._yard.on_path(bridged.make)
            undo.push_async_callback(self._yard.retire, bridged, place.cable, place.fd)
            undo.callback(place.door.close)
            with trace.span("network.join", address=str(owner.address)) as span:
                if span is not None:
                    span.attributes["commands"] = [step.describe() for step in bridged.plan(place, owner)]
                await self._yard.on_path(bridged.join, place, owner)
            place.door.close()
            undo.pop_all()
        sandbox.netns, sandbox.ports = place.fd, real
        return self._put(sandbox, bridged.network, owner, place.cable, asked, real)

    async def further(self, sandbox: Sandbox, bridged: Bridged, asked: Joining) -> Endpoint:
        """One more interface in its namespace."""
        async with contextlib.AsyncExitStack() as undo:
            owner = self._lease(sandbox.container, bridged, asked, undo)
            with trace.span("network.connect", network=bridged.network.name, address=str(owner.address)):
                cable = await self._yard.on_path(bridged.plug_in, sandbox.netns, owner)
            undo.pop_all()
        return self._put(sandbox, bridged.network, owner, cable, asked)

    async def without(self, sandbox: Sandbox, bridged: Bridged, endpoint: Endpoint) -> None:
        """Its interface of that network is gone, and its address free."""
        try:
            await self._yard.on_path(bridged.unplug, endpoint.interface)
            await self._yard.behind(bridged.destroy, ())
        finally:
            sandbox.endpoints.pop(endpoint.network_id, None)
            bridged.leases.free(sandbox.container)

    async def settle(self, sandbox: Sandbox) -> None:
        """The default route leads through the network that now comes first; ports follow where theirs has gone."""
        way = sandbox.gateway()
        if way is not None:
            await self._yard.on_path(_lead, sandbox.netns, way)
        holder = next((one for one in sandbox.endpoints.values() if one.ports), None)
        better = sandbox.outward()
        if not sandbox.ports or better is None or better is holder or (holder is not None and holder.gateway):
            return
        self._published.withdraw(sandbox.container)
        if holder is not None:
            sandbox.endpoints[holder.network_id] = dataclasses.replace(holder, ports=())
        ports = await self._published.publish(sandbox.container, sandbox.name, sandbox.ports, better.address)
        sandbox.endpoints[better.network_id] = dataclasses.replace(better, ports=ports)

    def kept(self, sandbox: Sandbox, network: Network, owner: Owner, cable: str) -> None:
        """A cable that an earlier daemon laid."""
        self._put(sandbox, network, owner, cable, Joining(network.name))

    @staticmethod
    def _lease(container: str, bridged: Bridged, asked: Joining, undo: contextlib.AsyncExitStack) -> Owner:
        address = bridged.leases.take(container, addresses.parsed(asked.ip))
        undo.callback(bridged.leases.free, container)
        interface = IPv4Interface((address, bridged.leases.subnet.prefixlen))
        return Owner(container, interface, addresses.mac_of(address, asked.mac))

    def _put(
        self,
        sandbox: Sandbox,
        network: Network,
        owner: Owner,
        cable: str,
        asked: Joining,
        ports: tuple[PortBinding, ...] = (),
    ) -> Endpoint:
        made = Endpoint(
            container_id=owner.container,
            network_id=network.id,
            network_name=network.name,
            netns_fd=sandbox.netns,
            address=str(owner.address.ip),
            prefix=owner.address.network.prefixlen,
            gateway="" if network.internal else network.gateway,
            mac=owner.mac,
            ports=ports,
            interface=cable,
            dns="" if network.internal else self._dns(),
            names=asked.names,
            links=asked.links,
            priority=asked.priority,
        )
        sandbox.endpoints[network.id] = made
        return made


def _lead(netns: int, way: Endpoint) -> None:
    """The default route of a namespace leads through the interface of that endpoint."""

    def lead() -> None:
        with Socket() as door:
            link = next(link for link in door.links() if link.mac == way.mac)
            door.apply([veth.DefaultRoute(link, IPv4Interface(way.gateway).ip, replace=True)])

    namespaces.visit(netns, lead)
