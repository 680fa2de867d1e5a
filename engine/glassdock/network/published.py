"""Which ports of which container are published: on disk, so that the next daemon listens again.

Interface:
- `publish(container, name, ports, address)`, `withdraw(container)`, `withdraw_all()`.
- `reach(...)`: containers are on another network than the machine's.
- `again(endpoints)`: listen for the containers that survived, forget the ports of those that did not.

Rules: the kernel has no place for this, unlike for an address (decision 0042); a crash of the machine may lose it, for
then no container survives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from glassdock.errors import Conflict, GlassdockError
from glassdock.network.model import Endpoint, PortBinding
from glassdock.network.ports import Publisher, Reach
from glassdock.paths import atomic_write


class Published:
    """The published ports of an engine, one file a container."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._publisher = Publisher()

    def reach(self, reach: Reach) -> None:
        """From here on, connections into containers begin with sockets that `reach` makes."""
        self._publisher = Publisher(reach)

    async def publish(
        self, container: str, name: str, ports: Sequence[PortBinding], address: str
    ) -> tuple[PortBinding, ...]:
        """Listen on all or on none, and relay to the address; raises Conflict in Docker's words."""
        try:
            real = await self._publisher.publish(container, ports, address)
        except Conflict as error:
            where = f"endpoint {name or container[:12]} ({container[:12]})"
            raise Conflict(
                f"driver failed programming external connectivity on {where}: {error.message}", error.remedy
            ) from error
        atomic_write(self._folder / container, msgspec.json.encode(real), sync=False)
        return real

    def withdraw(self, container: str) -> None:
        """Stop listening, and forget; nothing where nothing is published."""
        self._publisher.withdraw(container)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._folder / container)

    def withdraw_all(self) -> None:
        """Stop listening, for the next daemon to go on."""
        self._publisher.withdraw_all()

    async def again(self, endpoints: dict[str, Endpoint]) -> list[str]:
        """Put the ports into the endpoints of those that live; returns what could not be published again."""
        self._folder.mkdir(mode=0o711, exist_ok=True)
        problems = []
        for path in self._folder.iterdir():
            endpoint = endpoints.get(path.name)
            if endpoint is None:
                path.unlink()
                continue
            try:
                ports = msgspec.json.decode(path.read_bytes(), type=tuple[PortBinding, ...])
                ports = await self._publisher.publish(path.name, ports, endpoint.address)
            except (GlassdockError, msgspec.MsgspecError) as error:
                problems.append(f"ports of container {path.name[:12]} are not published any more: {error}")
                continue
            endpoints[path.name] = dataclasses.replace(endpoint, ports=ports)
        return problems
