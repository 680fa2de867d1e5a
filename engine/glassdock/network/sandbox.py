"""A container's network namespace, and its places in networks.

Interface:
- `Sandbox`: `netns`, `endpoints` by network, oldest first; `main` is the first; `gateway()` is where the default route
  leads, `outward()` the endpoint that published ports lead to.

Rules: the descriptor is the sandbox's and is closed by `Manager.detach`. The default route is that of the network with
the highest priority, then of the first by name, as Docker's; an internal network has none.
Source: https://docs.docker.com/engine/network/#connecting-to-multiple-networks
"""

from __future__ import annotations

from dataclasses import dataclass, field

from glassdock.network.creation import PREDEFINED
from glassdock.network.model import Endpoint, PortBinding
from glassdock.network.resolver import Resolver


@dataclass(slots=True)
class Sandbox:
    """One container's; `netns` is None for the machine's own, and after a restart until `adopt`."""

    container: str
    name: str = ""
    netns: int | None = None
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    ports: tuple[PortBinding, ...] = ()
    resolver: Resolver | None = None

    def gateway(self) -> Endpoint | None:
        """The endpoint of the default route, None where nothing leads outside."""
        found = sorted(self.endpoints.values(), key=lambda one: (-one.priority, one.network_name))
        return next((one for one in found if one.gateway), None)

    def outward(self) -> Endpoint | None:
        """Where published ports lead: the default route's network, else any that has an address."""
        return self.gateway() or next((one for one in self.endpoints.values() if one.address), None)

    def named(self) -> list[Endpoint]:
        """The endpoints in whose networks names are resolved: all but Docker's three."""
        return sorted(
            (one for one in self.endpoints.values() if one.network_name not in PREDEFINED),
            key=lambda one: (-one.priority, one.network_name),
        )
