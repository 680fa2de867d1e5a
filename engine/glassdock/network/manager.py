"""The network manager: which networks there are, and who is plugged into which.

Interface:
- `start(live)` makes or repairs the default networks, `stop()` leaves nothing but what running containers use.
- `networks()`, `get(name)`, `endpoint(container)`, `warnings()`: looking.
- `create(wanted)`, `remove(name)`, `unused(network)`: networks of a user's own.
- `attach(container, network=..., ports=...)` before a start, `detach(endpoint)` after the end.

Rules: the path of a start takes a place that was made ahead of it, and costs one batch of netlink messages; making
places and destroying cables happens in the background. Whoever talks to the kernel waits for its lock, so it does so
in a thread. A daemon may die anywhere: cables carry their owner's name, published ports are on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Interface
from typing import TypeVar

import msgspec

from glassdock import trace
from glassdock.errors import Conflict, Forbidden, GlassdockError, NotSupported
from glassdock.network import addresses, creation, namespaces, netlink
from glassdock.network.bridged import Bridged, Surroundings, cables
from glassdock.network.creation import Wanted
from glassdock.network.home import Home
from glassdock.network.model import Endpoint, Network, PortBinding
from glassdock.network.namespaces import Place
from glassdock.network.published import Published
from glassdock.network.records import Records
from glassdock.network.veth import Owner
from glassdock.network.wayout import WayOut
from glassdock.paths import Paths

_ALONE = 3  # places without a cable kept ready; how many with one, each bridge says
_QUIET = 0.03  # seconds after an attach before the background may take the processor

T = TypeVar("T")


class Manager:
    """Every network of the engine."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.networks
        self._tag = paths.tag
        self._bridged: dict[str, Bridged] = {}
        self._alone: deque[Place] = deque()
        self._endpoints: dict[str, Endpoint] = {}
        self._published = Published(paths.networks / "published")
        self._home = Home(paths.networks)
        self._beyond: Surroundings | None = None
        self._way_out: WayOut | None = None
        self._refusal = ""
        self._graves: dict[str, list[int]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._filling: asyncio.Task[None] | None = None
        # One thread for what somebody waits for, two for what nobody does: making and destroying.
        self._path = ThreadPoolExecutor(1, "network", lambda: self._home.enter())
        self._yard = ThreadPoolExecutor(2, "network-yard", lambda: self._home.enter())
        self.problems: list[str] = []

    @functools.cached_property
    def _known(self) -> Records:
        self._folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        return Records(self._folder, self._tag)

    # ---- life

    async def start(self, live: Collection[str] = ()) -> None:
        """Make or repair the default networks; `live` are the containers that survived the last daemon.

        Does not raise where the machine refuses a bridge: `Network.status` says it, and `attach` raises NotSupported.
        """
        try:
            await asyncio.to_thread(netlink.messages)
            self._home = await asyncio.to_thread(Home.open, self._folder)
            if self._home.own:
                await self._go_apart()
        except (OSError, NotSupported) as error:
            self._refusal = str(error)
        for record in self._known.all():
            if record.driver == "bridge" and self._refusal:
                self._known.put(msgspec.structs.replace(record, status=self._refusal))
            elif record.driver == "bridge":
                await self._bring_up(record, live)
        for problem in await self._published.again(self._endpoints):
            self._problem(problem)
        self._refill_soon(0)

    async def _bring_up(self, record: Network, live: Collection[str]) -> None:
        bridged = Bridged(record, self._tag)
        try:
            kept = await self._in(self._path, bridged.up, live, self._beyond)
        except (OSError, NotSupported, Forbidden) as error:
            if record.name == "bridge":
                self._refusal = str(error)
            self._known.put(msgspec.structs.replace(record, status=str(error)))
            return
        self._bridged[record.id] = bridged
        self._known.put(bridged.network)
        for owner, cable in kept:
            self._endpoints[owner.container] = self._describe(bridged.network, owner, cable, None)

    async def _go_apart(self) -> None:
        """Publish from, and find a way out of, a network that is not the machine's."""
        self._beyond = await asyncio.to_thread(Surroundings.here)
        self._published.reach(self._socket)
        self._way_out = WayOut(self._home, self._folder, cables(self._tag))
        await asyncio.to_thread(self._way_out.begin, self._beyond.networks)

    async def stop(self) -> None:
        """Let go of everything; bridge and cables stay where containers still run, and for them alone."""
        if self._timer is not None:
            self._timer.cancel()
        self._published.withdraw_all()
        while self._background:
            await asyncio.gather(*self._background)
        while self._alone:
            self._alone.popleft().close()
        for bridged in self._bridged.values():
            await self._empty(bridged)
            if not bridged.leases.owners:
                await self._in(self._yard, bridged.down)
        for endpoint in self._endpoints.values():
            if endpoint.netns_fd is not None:
                os.close(endpoint.netns_fd)
        if self._way_out is not None:
            if self._endpoints:
                self._way_out.leave()
            else:
                await self._way_out.close(functools.partial(self._in, self._path))
        self._path.shutdown()
        self._yard.shutdown()
        (self._home.close if self._endpoints else self._home.remove)()
        self._endpoints.clear()
        self._bridged.clear()

    # ---- looking

    def networks(self) -> list[Network]:
        """Every network, with its containers."""
        return [self._with_containers(network) for network in self._known.all()]

    def get(self, name_or_id: str) -> Network:
        """The network of that name, id or unambiguous beginning of an id; raises NotFound."""
        return self._with_containers(self._known.find(name_or_id))

    def warnings(self) -> list[str]:
        """What does not work, one sentence each: for `docker info`."""
        statuses = [f"network {network.name}: {network.status}" for network in self._known.all() if network.status]
        problems = [self._home.status, self._way_out.problem if self._way_out else ""]
        return statuses + [problem for problem in problems if problem] + self.problems

    def endpoint(self, container_id: str) -> Endpoint | None:
        """Where the container is plugged in."""
        return self._endpoints.get(container_id)

    # ---- networks of a user's own

    async def create(self, wanted: Wanted) -> Network:
        """A new bridge network; raises InvalidParameter, Conflict, Forbidden or NotSupported, nothing is left then."""
        record = creation.record(wanted, self._known.all(), self._tag)
        self._switch(self._known.find("bridge"))  # where that is refused, so is this, in the same words
        self._known.put(record)
        bridged = Bridged(record, self._tag)
        try:
            await self._in(self._path, bridged.up, (), self._beyond)
        except BaseException as error:
            self._known.remove(record)
            if isinstance(error, OSError):
                raise _refused(error) from error
            raise
        self._bridged[record.id] = bridged
        self._known.put(bridged.network)
        self._refill_soon(_QUIET)
        return bridged.network

    async def remove(self, name_or_id: str) -> Network:
        """Remove a network that nobody is plugged into; raises NotFound or Forbidden."""
        record = self._known.find(name_or_id)
        if record.name in creation.PREDEFINED:
            raise Forbidden(f"{record.name} is a pre-defined network and cannot be removed")
        if not self.unused(record):
            raise Forbidden(
                f"error while removing network: network {record.name} id {record.id} has active endpoints",
                "Stop the containers on it: `glassdock network inspect` names them.",
            )
        bridged = self._bridged.pop(record.id, None)
        self._known.remove(record)
        if bridged is not None:
            while self._background:
                await asyncio.gather(*self._background)
            await self._empty(bridged)
            await self._in(self._yard, bridged.down)
        return record

    def unused(self, network: Network) -> bool:
        """Whether nobody is plugged in, or about to be."""
        bridged = self._bridged.get(network.id)
        return bridged is None or not bridged.leases.owners

    async def _empty(self, bridged: Bridged) -> None:
        """Destroy the places that are kept ready."""
        places = list(bridged.ready)
        bridged.ready.clear()
        for place in places:
            await self._in(self._yard, bridged.unplug, place.cable)
            place.door.close()
        await self._in(self._yard, bridged.destroy, [place.fd for place in places])

    # ---- the life of an endpoint

    async def attach(
        self,
        container_id: str,
        *,
        network: str = "bridge",
        name: str = "",
        mac: str | None = None,
        ip: str | None = None,
        ports: Sequence[PortBinding] = (),
    ) -> Endpoint:
        """A network namespace for a container that is about to start, plugged in and addressed, its ports listening.

        `name` is the container's, for the words of an error. Raises InvalidParameter, Conflict (a port or an
        address in use) or NotSupported; nothing is left then.
        """
        attaching = asyncio.ensure_future(self._attach(container_id, network, name, mac, ip, ports))
        try:
            return await asyncio.shield(attaching)
        except asyncio.CancelledError:
            # A thread cannot be stopped half-way: let it finish, then undo.
            with contextlib.suppress(GlassdockError, OSError):
                await self.detach(await attaching)
            raise
        except OSError as error:
            raise _refused(error) from error

    async def _attach(
        self, container: str, network: str, name: str, mac: str | None, ip: str | None, ports: Sequence[PortBinding]
    ) -> Endpoint:
        record = self._known.find(network)
        if container in self._endpoints:
            raise Conflict(f"container {container[:12]} is already connected to network {record.name}")
        if record.driver == "host":
            endpoint = Endpoint(container, record.id, record.name, None)
        elif record.driver == "null":
            place = self._alone.popleft() if self._alone else None
            with trace.span("network.namespace", ready=place is not None):
                if place is None:
                    place = await self._in(self._path, namespaces.make)
            place.door.close()
            self._refill_soon(_QUIET)
            endpoint = Endpoint(container, record.id, record.name, place.fd)
        else:
            endpoint = await self._plug_in(self._switch(record), container, name, mac, ip, ports)
        self._endpoints[container] = endpoint
        return endpoint

    async def _plug_in(
        self, bridged: Bridged, container: str, name: str, mac: str | None, ip: str | None, ports: Sequence[PortBinding]
    ) -> Endpoint:
        if self._way_out is not None and not bridged.network.internal:
            await self._way_out.ensure(functools.partial(self._in, self._path))
        async with contextlib.AsyncExitStack() as undo:
            address = bridged.leases.take(container, addresses.parsed(ip))
            undo.callback(bridged.leases.free, container)
            owner = Owner(
                container, IPv4Interface((address, bridged.leases.subnet.prefixlen)), addresses.mac_of(address, mac)
            )
            real: tuple[PortBinding, ...] = ()
            if ports:
                with trace.span("network.publish", ports=" ".join(port.describe() for port in ports)):
                    real = await self._published.publish(container, name, ports, str(address))
                undo.callback(self._published.withdraw, container)
            place = bridged.ready.popleft() if bridged.ready else None
            with trace.span("network.namespace", ready=place is not None):
                if place is None:
                    place = await self._in(self._path, bridged.make)
            undo.push_async_callback(self._retire, bridged, place.cable, place.fd)
            undo.callback(place.door.close)
            with trace.span("network.join", address=str(owner.address)) as span:
                if span is not None:
                    span.attributes["commands"] = [step.describe() for step in bridged.plan(place, owner)]
                await self._in(self._path, bridged.join, place, owner)
            place.door.close()
            undo.pop_all()
        self._refill_soon(_QUIET)
        return self._describe(bridged.network, owner, place.cable, place.fd, real)

    async def detach(self, endpoint: Endpoint | str) -> None:
        """Unplug a container that has ended, by its endpoint or its id; nothing where it is not plugged in."""
        container = endpoint if isinstance(endpoint, str) else endpoint.container_id
        found = self._endpoints.pop(container, None)
        if found is not None:
            await asyncio.shield(self._detach(found))

    async def _detach(self, endpoint: Endpoint) -> None:
        self._published.withdraw(endpoint.container_id)
        bridged = self._bridged.get(endpoint.network_id)
        if bridged is not None:
            try:
                await self._retire(bridged, endpoint.interface, endpoint.netns_fd)
            finally:
                bridged.leases.free(endpoint.container_id)
        elif endpoint.netns_fd is not None:
            os.close(endpoint.netns_fd)

    # ---- behind the path

    def _refill_soon(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._begin_refill)

    def _begin_refill(self) -> None:
        self._timer = None
        if self._filling is None or self._filling.done():
            self._filling = self._spawn(self._refill())

    async def _refill(self) -> None:
        try:
            for bridged in list(self._bridged.values()):
                while len(bridged.ready) < bridged.wanted:
                    bridged.ready.append(await self._in(self._yard, bridged.make))
            while len(self._alone) < _ALONE:
                self._alone.append(await self._in(self._yard, namespaces.make))
        except GlassdockError:
            return  # a bridge is full: whoever comes next makes a place on the path, and is told so
        except OSError as error:
            self._problem(f"no places ahead of need: {error}")

    async def _retire(self, bridged: Bridged, cable: str, descriptor: int | None) -> None:
        """Unplug a cable now; destroy it and its namespace soon, together with others that wait for the same."""
        waiting = self._graves.setdefault(bridged.network.id, [])
        if not waiting:
            self._spawn(self._dig(bridged))
        waiting.append(-1 if descriptor is None else descriptor)
        await self._in(self._path, bridged.unplug, cable)

    async def _dig(self, bridged: Bridged) -> None:
        await asyncio.sleep(_QUIET)
        descriptors = [found for found in self._graves.pop(bridged.network.id) if found >= 0]
        try:
            await self._in(self._yard, bridged.destroy, descriptors)
        except OSError as error:
            self._problem(f"cables of network {bridged.network.name} are left over: {error}")

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """A socket of the bridges' network."""
        making = asyncio.ensure_future(self._in(self._path, socket.socket, family, kind))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(lambda made: made.result().close())
            raise

    @staticmethod
    async def _in(executor: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work, *arguments)

    # ---- helpers

    def _switch(self, record: Network) -> Bridged:
        bridged = self._bridged.get(record.id)
        if bridged is None:
            raise NotSupported(
                f"network {record.name} cannot be used on this machine: {self._refusal or 'it is not started'}",
                "`glassdock doctor` says what the machine allows; --network host works everywhere.",
            )
        return bridged

    def _with_containers(self, network: Network) -> Network:
        mine = tuple(endpoint for endpoint in self._endpoints.values() if endpoint.network_id == network.id)
        return msgspec.structs.replace(network, containers=mine)

    def _describe(
        self, network: Network, owner: Owner, cable: str, descriptor: int | None, ports: tuple[PortBinding, ...] = ()
    ) -> Endpoint:
        return Endpoint(
            container_id=owner.container,
            network_id=network.id,
            network_name=network.name,
            netns_fd=descriptor,
            address=str(owner.address.ip),
            prefix=owner.address.network.prefixlen,
            gateway="" if network.internal else network.gateway,
            mac=owner.mac,
            ports=ports,
            interface=cable,
            dns=self._way_out.dns if self._way_out and not network.internal else "",
        )


def _refused(error: OSError) -> GlassdockError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return NotSupported(
            f"a network namespace for the container is refused: {error}", "`glassdock doctor` says what would help."
        )
    if error.errno == errno.ENOSPC:
        return NotSupported(
            "the machine makes no more network namespaces", "Raise the limit: sysctl user.max_net_namespaces."
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return NotSupported("the daemon may open no more files", "Raise its limit: ulimit -n.")
    return GlassdockError(f"the kernel refused the container's network: {error}")
