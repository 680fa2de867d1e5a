"""The network manager: which networks there are, and who is plugged into which.

Interface:
- `start(live)` makes or repairs the default networks, `stop()` leaves nothing but what running containers use.
- `networks()`, `get(name)`, `endpoints(container)`, `warnings()`: looking.
- `create(wanted)`, `remove(name)`, `unused(network)`: networks of a user's own.
- `attach(container, asked, ports=...)` before a start, `detach(endpoint)` after the end; between them `connect` and
  `disconnect`, `serve_names`, and after a daemon's restart `adopt`.

Rules: the path of a start takes a place that was made ahead of it, and costs one batch of netlink messages; making
places and destroying cables happens in the background. Whoever talks to the kernel waits for its lock, so it does so
in a thread. A daemon may die anywhere: cables carry their owner's name, published ports are on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import functools
import os
import socket
from collections.abc import Collection, Coroutine, Sequence
from typing import TypeVar

import msgspec

from glassdock import trace
from glassdock.errors import Conflict, Forbidden, GlassdockError, NotSupported
from glassdock.network import creation, files, names, namespaces, netlink, resolver
from glassdock.network.bridged import Bridged, Surroundings, cables
from glassdock.network.creation import Wanted
from glassdock.network.home import Home
from glassdock.network.model import Endpoint, Joining, Network, PortBinding
from glassdock.network.published import Published
from glassdock.network.records import Records
from glassdock.network.resolver import Resolver
from glassdock.network.sandbox import Sandbox
from glassdock.network.wayout import WayOut
from glassdock.network.wiring import Wiring
from glassdock.network.yard import Yard
from glassdock.paths import Paths

_DEFAULT = Joining()

T = TypeVar("T")


class Manager:
    """Every network of the engine."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.networks
        self._tag = paths.tag
        self._sandboxes: dict[str, Sandbox] = {}
        self._published = Published(paths.networks / "published")
        self._home = Home(paths.networks)
        self._beyond: Surroundings | None = None
        self._way_out: WayOut | None = None
        self._refusal = ""
        self._yard = Yard(lambda: self._home.enter())
        self._bridged = self._yard.bridges
        self._wiring = Wiring(self._yard, self._published, lambda: self._way_out.dns if self._way_out else "")

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
        living = {name: found for name, sandbox in self._sandboxes.items() if (found := sandbox.outward())}
        for problem in await self._published.again(living):
            self._yard.problem(problem)
        for name, endpoint in living.items():
            self._sandboxes[name].endpoints[endpoint.network_id] = endpoint
            self._sandboxes[name].ports = endpoint.ports
        self._yard.refill_soon(0)

    async def _bring_up(self, record: Network, live: Collection[str]) -> None:
        bridged = Bridged(record, self._tag)
        try:
            kept = await self._yard.on_path(bridged.up, live, self._beyond)
        except (OSError, NotSupported, Forbidden) as error:
            if record.name == "bridge":
                self._refusal = str(error)
            self._known.put(msgspec.structs.replace(record, status=str(error)))
            return
        self._bridged[record.id] = bridged
        self._known.put(bridged.network)
        for owner, cable in kept:
            sandbox = self._sandboxes.setdefault(owner.container, Sandbox(owner.container))
            self._wiring.kept(sandbox, bridged.network, owner, cable)

    async def _go_apart(self) -> None:
        """Publish from, and find a way out of, a network that is not the machine's."""
        self._beyond = await asyncio.to_thread(Surroundings.here)
        self._published.reach(self._socket)
        self._way_out = WayOut(self._home, self._folder, cables(self._tag))
        await asyncio.to_thread(self._way_out.begin, self._beyond.networks)

    async def stop(self) -> None:
        """Let go of everything; bridge and cables stay where containers still run, and for them alone."""
        self._published.withdraw_all()
        await self._yard.stop()
        for bridged in self._bridged.values():
            await self._yard.empty(bridged)
            if not bridged.leases.owners:
                await self._yard.behind(bridged.down)
        for sandbox in self._sandboxes.values():
            if sandbox.resolver is not None:
                sandbox.resolver.close()
            if sandbox.netns is not None:
                os.close(sandbox.netns)
        if self._way_out is not None:
            if self._sandboxes:
                self._way_out.leave()
            else:
                await self._way_out.close(self._yard.on_path)
        self._yard.close()
        (self._home.close if self._sandboxes else self._home.remove)()
        self._sandboxes.clear()
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

    def endpoints(self, container_id: str) -> tuple[Endpoint, ...]:
        """Where the container is plugged in; the first is the one that it came with."""
        sandbox = self._sandboxes.get(container_id)
        return tuple(sandbox.endpoints.values()) if sandbox else ()

    @property
    def problems(self) -> list[str]:
        """What could not be done behind the path of a start."""
        return self._yard.problems

    # ---- networks of a user's own

    async def create(self, wanted: Wanted) -> Network:
        """A new bridge network; raises InvalidParameter, Conflict, Forbidden or NotSupported, nothing is left then."""
        record = creation.record(wanted, self._known.all(), self._tag)
        self._switch(self._known.find("bridge"))  # where that is refused, so is this, in the same words
        self._known.put(record)
        bridged = Bridged(record, self._tag)
        try:
            await self._yard.on_path(bridged.up, (), self._beyond)
        except BaseException as error:
            self._known.remove(record)
            if isinstance(error, OSError):
                raise _refused(error) from error
            raise
        self._bridged[record.id] = bridged
        self._known.put(bridged.network)
        self._yard.refill_soon()
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
            await self._yard.rest()
            await self._yard.empty(bridged)
            await self._yard.behind(bridged.down)
        return record

    def unused(self, network: Network) -> bool:
        """Whether nobody is plugged in, or about to be."""
        bridged = self._bridged.get(network.id)
        return bridged is None or not bridged.leases.owners

    # ---- the life of a container's place

    async def attach(
        self, container_id: str, asked: Joining = _DEFAULT, *, name: str = "", ports: Sequence[PortBinding] = ()
    ) -> Endpoint:
        """A network namespace for a container that is about to start, plugged in and addressed, its ports listening.

        `name` is the container's, for the words of an error. Raises InvalidParameter, Conflict (a port or an
        address in use) or NotSupported; nothing is left then.
        """
        return await self._whole(container_id, self._attach(container_id, asked, name, ports))

    async def _attach(self, container: str, asked: Joining, name: str, ports: Sequence[PortBinding]) -> Endpoint:
        record = self._known.find(asked.network or "none")
        if container in self._sandboxes:
            raise Conflict(f"container {container[:12]} is already connected to network {record.name}")
        sandbox = Sandbox(container, name)
        if record.driver == "bridge":
            bridged = await self._open(record)
            self._sandboxes[container] = sandbox
            try:
                return await self._wiring.first(sandbox, bridged, asked, ports)
            except BaseException:
                del self._sandboxes[container]
                raise
            finally:
                self._yard.refill_soon()
        if record.driver == "null":
            place = self._yard.alone()
            with trace.span("network.namespace", ready=place is not None):
                if place is None:
                    place = await self._yard.on_path(namespaces.make)
            place.door.close()
            self._yard.refill_soon()
            sandbox.netns = place.fd
        endpoint = Endpoint(container, record.id, record.name, sandbox.netns)
        if asked.network:  # else it is on no network at all, not even on none
            sandbox.endpoints[record.id] = endpoint
        self._sandboxes[container] = sandbox
        return endpoint

    async def connect(self, container_id: str, asked: Joining) -> Endpoint:
        """One more network for a container that is attached; raises Forbidden where it is on it already."""
        return await self._shielded(self._connect(container_id, asked))

    async def _connect(self, container: str, asked: Joining) -> Endpoint:
        record = self._known.find(asked.network)
        sandbox = self._sandbox(container)
        if record.id in sandbox.endpoints:
            raise Forbidden(
                f"endpoint with name {sandbox.name or container[:12]} already exists in network {record.name}"
            )
        bridged = await self._open(record)
        made = await self._wiring.further(sandbox, bridged, asked)
        try:
            await self._wiring.settle(sandbox)
        except BaseException:
            await self._wiring.without(sandbox, bridged, made)
            raise
        return sandbox.endpoints[record.id]

    async def disconnect(self, container_id: str, network: str) -> None:
        """Take it off a network; raises Forbidden where it is not on it."""
        await self._shielded(self._disconnect(container_id, network))

    async def _disconnect(self, container: str, network: str) -> None:
        record = self._known.find(network)
        sandbox = self._sandbox(container)
        endpoint = sandbox.endpoints.get(record.id)
        bridged = self._bridged.get(record.id)
        if endpoint is None or bridged is None:
            raise Forbidden(f"container {container} is not connected to network {record.name}")
        await self._wiring.without(sandbox, bridged, endpoint)
        await self._wiring.settle(sandbox)

    async def serve_names(self, container_id: str, servers: Sequence[str] = ()) -> None:
        """Answer at 127.0.0.11 of a container that is on a network with names; `servers` are those of --dns."""
        sandbox = self._sandbox(container_id)
        if sandbox.resolver is not None or sandbox.netns is None or not sandbox.named():
            return
        sockets = await self._yard.on_path(namespaces.visit, sandbox.netns, resolver.listen)
        if sandbox.resolver is not None or self._sandboxes.get(container_id) is not sandbox:
            for made in sockets:  # somebody was faster, or it has gone meanwhile
                made.close()
            return

        def beyond() -> Sequence[str]:
            if sandbox.gateway() is None:
                return ()
            return servers or files.servers()

        async def reach(family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
            return await self._yard.on_path(namespaces.visit, sandbox.netns, lambda: socket.socket(family, kind))

        sandbox.resolver = Resolver(
            sockets,
            lambda asked: names.lookup(asked, sandbox, self._sandboxes.values()),
            beyond,
            reach if servers else None,
        )
        sandbox.resolver.open()

    async def adopt(self, container_id: str, name: str, pid: int, joinings: Sequence[Joining]) -> None:
        """A container that an earlier daemon attached: from its process comes the namespace, from its record names."""
        sandbox = self._sandboxes.get(container_id)
        if sandbox is None and not joinings:  # it is on no network, and may be connected to one
            sandbox = self._sandboxes[container_id] = Sandbox(container_id)
        if sandbox is None or sandbox.netns is not None:
            return
        sandbox.name = name
        try:
            sandbox.netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # it has ended, which is noticed elsewhere
        for asked in joinings:
            self.call(container_id, asked)

    def call(self, container_id: str, asked: Joining) -> None:
        """Others call it by these names from now on; nothing where it is not on that network."""
        sandbox = self._sandboxes.get(container_id)
        endpoint = sandbox.endpoints.get(self._known.find(asked.network).id) if sandbox else None
        if sandbox is not None and endpoint is not None:
            sandbox.endpoints[endpoint.network_id] = dataclasses.replace(
                endpoint, netns_fd=sandbox.netns, names=asked.names, links=asked.links, priority=asked.priority
            )

    async def detach(self, endpoint: Endpoint | str) -> None:
        """Unplug a container that has ended, by its endpoint or its id; nothing where it is not plugged in."""
        container = endpoint if isinstance(endpoint, str) else endpoint.container_id
        found = self._sandboxes.pop(container, None)
        if found is not None:
            await asyncio.shield(self._detach(found))

    async def _detach(self, sandbox: Sandbox) -> None:
        self._published.withdraw(sandbox.container)
        if sandbox.resolver is not None:
            sandbox.resolver.close()
        descriptor = sandbox.netns
        for endpoint in sandbox.endpoints.values():
            bridged = self._bridged.get(endpoint.network_id)
            if bridged is None:
                continue
            try:
                # The namespace is let go of after its cables, with the first of them.
                await self._yard.retire(bridged, endpoint.interface, descriptor)
                descriptor = None
            finally:
                bridged.leases.free(sandbox.container)
        if descriptor is not None:
            os.close(descriptor)

    async def _open(self, record: Network) -> Bridged:
        """The bridge of a network, with its way out."""
        bridged = self._switch(record)
        if self._way_out is not None and not record.internal:
            await self._way_out.ensure(self._yard.on_path)
        return bridged

    async def _whole(self, container: str, work: Coroutine[None, None, Endpoint]) -> Endpoint:
        """Undo what a cancelled request had begun: a thread cannot be stopped half-way, so it finishes first."""
        attaching = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(attaching)
        except asyncio.CancelledError:
            with contextlib.suppress(GlassdockError, OSError):
                await attaching
                await self.detach(container)
            raise
        except OSError as error:
            raise _refused(error) from error

    @staticmethod
    async def _shielded(work: Coroutine[None, None, T]) -> T:
        """What was begun is finished, also where nobody waits for it any more."""
        try:
            return await asyncio.shield(asyncio.ensure_future(work))
        except OSError as error:
            raise _refused(error) from error

    def _sandbox(self, container: str) -> Sandbox:
        found = self._sandboxes.get(container)
        if found is None:
            raise Conflict(f"container {container} is not running")
        return found

    async def _socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """A socket of the bridges' network."""
        making = asyncio.ensure_future(self._yard.on_path(socket.socket, family, kind))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(lambda made: made.result().close())
            raise

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
        found = (sandbox.endpoints.get(network.id) for sandbox in self._sandboxes.values())
        return msgspec.structs.replace(network, containers=tuple(one for one in found if one is not None))


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
