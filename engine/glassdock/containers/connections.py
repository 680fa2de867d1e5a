"""Which networks a container is on: as it was created, and as it was connected and disconnected since.

Interface:
- `settled(container, find)`: the record of a new container, its networks by name; raises InvalidParameter.
- `joinings(container)`: how the next start joins them, the first one first.
- `Connections(held)`: `connect`, `disconnect`, and what a start, an end, a rename and a new daemon make of it.

Rules: the record's `networking` is what is wanted, its `endpoints` what is plugged in. An option that only networks of
one's own have is refused on the others, in Docker's words.
Source: https://docs.docker.com/reference/cli/docker/network/connect/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

import msgspec

from glassdock.containers import files
from glassdock.containers.config import EndpointConfig, NetworkingConfig
from glassdock.containers.held import Held
from glassdock.containers.model import Container, EndpointRecord, Status
from glassdock.errors import Conflict, Forbidden, InvalidParameter, NotFound
from glassdock.network.creation import PREDEFINED
from glassdock.network.model import Joining, Network

Find = Callable[[str], Network]
_SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
_HOST = "container cannot be disconnected from host network or connected to host network"
_NONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
_ALIAS = "network-scoped alias is supported only for containers in user defined networks"
_ADDRESS = "user specified IP address is supported on user defined networks only"
_SUBNET = "user specified IP address is supported only when connecting to networks with user configured subnets"


def network_of(container: Container) -> str:
    """The name of the network that it was made for: bridge by default."""
    mode = container.host.network_mode
    if container.config.network_disabled:
        return "none"
    return "bridge" if mode in (None, "", "default") else mode


def settled(container: Container, find: Find) -> None:
    """Give a new container's record the networks that it asks for, by their names."""
    first = network_of(container)
    if first.startswith("container:"):
        container.networking = NetworkingConfig({})
        return
    asked = container.networking.endpoints_config or {first: None}
    named: dict[str, EndpointConfig | None] = {}
    for name, config in asked.items():
        try:
            network = find(name)
        except NotFound:  # told of at the start, as with Docker
            named[name] = config or EndpointConfig()
            continue
        check(network, config or EndpointConfig())
        named[network.name] = config or EndpointConfig()
    if len(named) > 1 and "host" in named:
        raise InvalidParameter(_SHARED)
    if len(named) > 1 and "none" in named:
        raise InvalidParameter(_NONE)
    container.networking = NetworkingConfig(named)


def check(network: Network, config: EndpointConfig) -> None:
    """Refuse what the network has not."""
    problems = []
    ipam = config.i_p_a_m_config or {}
    address = ipam.get("IPv4Address")
    if network.name in PREDEFINED:
        problems += [_ADDRESS] if address else []
        problems += [_ALIAS] if config.aliases else []
    elif address:
        try:
            inside = IPv4Address(address) in IPv4Network(network.subnet)
        except ValueError as error:
            raise InvalidParameter(f"invalid IPv4 address: {address}") from error
        if not network.chosen:
            problems.append(_SUBNET)
        elif not inside:
            problems.append(f"no configured subnet contains IP address {address}")
    if ipam.get("IPv6Address"):
        problems.append("networks have IPv4 addresses alone here")
    if ipam.get("LinkLocalIPs"):
        problems.append("link-local addresses are not built here")
    if problems:
        raise InvalidParameter(
            f"invalid config for network {network.name}: invalid endpoint settings:\n" + "\n".join(problems)
        )


def joinings(container: Container) -> list[Joining]:
    """What the next start asks of the networks; nothing for one that joins another's network or is on none at all."""
    first = network_of(container)
    if first.startswith("container:"):
        return []
    wanted: Mapping[str, EndpointConfig | None] = container.networking.endpoints_config or {}
    if container.networking.endpoints_config is None:  # a record of before there were several
        wanted = {first: None}
    order = sorted(wanted, key=lambda name: name != first)
    return [joining(container, name, wanted[name] or EndpointConfig(), alone=len(wanted) == 1) for name in order]


def joining(container: Container, network: str, config: EndpointConfig, *, alone: bool = False) -> Joining:
    """One network: `alone` is the one to which the container's own hardware address belongs."""
    pairs = [link.rpartition(":") if ":" in link else (link, "", link) for link in config.links or ()]
    return Joining(
        network=network,
        ip=(config.i_p_a_m_config or {}).get("IPv4Address") or "",
        mac=config.mac_address or (container.config.mac_address or "" if alone else ""),
        names=names(container, network, config),
        links=tuple((name.lstrip("/"), alias) for name, _, alias in pairs),
        priority=config.gw_priority,
    )


def names(container: Container, network: str, config: EndpointConfig) -> tuple[str, ...]:
    """What others on the network call it: nothing on Docker's three."""
    if network in PREDEFINED:
        return ()
    found = (container.name, *(config.aliases or ()), container.id[:12], container.config.hostname or "")
    return tuple(dict.fromkeys(name for name in found if name))


class Connections:
    """Plugs containers in and out, whether they run or not."""

    def __init__(self, held: Held) -> None:
        self._held = held

    async def connect(self, reference: str, name: str, config: EndpointConfig) -> None:
        """Join a network, at once where it runs. Raises NotFound, Forbidden, InvalidParameter, Conflict."""
        container, network = self._held.get(reference), self._held.parts.networks.get(name)
        live = self._held.of(container)
        async with live.lock:
            self._allowed(container, network)
            check(network, config)
            if "none" in (container.networking.endpoints_config or {}):
                raise Forbidden(_NONE, "Disconnect it from `none` first.")
            if live.process is not None:
                networks = self._held.parts.networks
                before = networks.endpoints(container.id)
                made = await networks.connect(container.id, joining(container, network.name, config))
                await networks.serve_names(container.id, container.host.dns or ())
                files.joined(self._held.folder(container), container, before, made)
                self.noted(container)
                self.tell("connect", container, network)
            self._want(container, network.name, config)

    async def disconnect(self, reference: str, name: str, *, force: bool = False) -> None:
        """Leave a network, at once where it runs; `force` takes also one that was half-way in."""
        container, network = self._held.get(reference), self._held.parts.networks.get(name)
        live = self._held.of(container)
        async with live.lock:
            self._allowed(container, network)
            wanted = network.name in (container.networking.endpoints_config or {})
            plugged = [one for one in container.endpoints if one.network_id == network.id]
            if not wanted and not (force and plugged):
                raise Forbidden(f"container {container.id} is not connected to network {network.name}")
            if live.process is not None and plugged:
                await self._held.parts.networks.disconnect(container.id, network.id)
                files.left(self._held.folder(container), plugged[0].address)
                self.noted(container)
                self.tell("disconnect", container, network)
            self._want(container, network.name, None)

    def noted(self, container: Container) -> None:
        """The record says what is plugged in now."""
        container.endpoints = tuple(map(EndpointRecord.of, self._held.parts.networks.endpoints(container.id)))

    def tell(self, action: str, container: Container, network: Network) -> None:
        """Tell of it as an event of the network's."""
        attributes = {"container": container.id, "name": network.name, "type": network.driver}
        self._held.parts.events.publish("network", action, network.id, attributes)

    def tell_all(self, action: str, container: Container, endpoints: Sequence[EndpointRecord]) -> None:
        """Tell of every network that it is, or was, plugged into."""
        for endpoint in endpoints:
            try:
                network = self._held.parts.networks.get(endpoint.network_id)
            except NotFound:
                continue  # the network has gone before its container, by hand
            self.tell(action, container, network)

    def renamed(self, container: Container) -> None:
        """Others call it by its new name."""
        for asked in joinings(container) if container.endpoints else ():
            self._held.parts.networks.call(container.id, asked)

    async def again(self, container: Container) -> None:
        """It lives since before this daemon: it is known by its names again, and knows others'."""
        if network_of(container).startswith("container:"):
            return
        networks = self._held.parts.networks
        await networks.adopt(container.id, container.name, container.state.pid, joinings(container))
        await networks.serve_names(container.id, container.host.dns or ())

    def _want(self, container: Container, name: str, config: EndpointConfig | None) -> None:
        wanted = dict(container.networking.endpoints_config or {})
        wanted.pop(name, None)
        if config is not None:
            wanted[name] = config
        container.networking = msgspec.structs.replace(container.networking, endpoints_config=wanted)
        self._held.save(container)

    @staticmethod
    def _allowed(container: Container, network: Network) -> None:
        if container.state.status in (Status.REMOVING, Status.DEAD):
            raise Conflict(
                f"container {container.id} is marked for removal and cannot be connected or disconnected to the network"
            )
        first = network_of(container)
        if network.driver == "host":
            raise Forbidden(_HOST)
        if first == "host" or first.startswith("container:"):
            raise Forbidden(_SHARED)
