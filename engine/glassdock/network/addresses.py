"""Who has which address: subnets for networks, addresses for containers.

Interface:
- `free_subnet(taken, preferred)`: the first of Docker's default pools that nothing on this machine overlaps.
- `Leases(subnet, gateway, pool, reserved)`: `take(owner)` the lowest free address, `keep`, `free`.
- `parsed(text)`, `mac_of(address, wanted)`: what a user asked for; else the hardware address that Docker derives.

Rules: the gateway is the subnet's first address, unless it was chosen. The lowest free address is taken, as Docker
does, so that the same run gets the same address again.
Source: https://docs.docker.com/engine/network/#subnet-allocation
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from glassdock.errors import Conflict, InvalidParameter, NotSupported

POOLS = (
    *(IPv4Network(f"172.{second}.0.0/16") for second in range(17, 32)),
    *IPv4Network("192.168.0.0/16").subnets(new_prefix=20),
)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def free_subnet(taken: Iterable[IPv4Network], preferred: IPv4Network | None = None) -> IPv4Network:
    """`preferred` if nothing overlaps it, else the first free pool; raises NotSupported when all are taken."""
    used = [network for network in taken if network.prefixlen > 0]
    for pool in (preferred, *POOLS) if preferred else POOLS:
        if not any(pool.overlaps(network) for network in used):
            return pool
    raise NotSupported(
        "all predefined address pools have been fully subnetted",
        "Remove a network, or create one with --subnet in a range that this machine does not use.",
    )


def parsed(text: str | None) -> IPv4Address | None:
    """The address that was asked for, None for none; raises InvalidParameter."""
    try:
        return IPv4Address(text) if text else None
    except ValueError as error:
        raise InvalidParameter(f"invalid IPv4 address: {text}") from error


def mac_of(address: IPv4Address, wanted: str | None = None) -> str:
    """What was asked for, else 02:42 and the four bytes of the address; raises InvalidParameter."""
    if wanted:
        if not _MAC.fullmatch(wanted.lower()):
            raise InvalidParameter(f"invalid mac address: {wanted}", "Six pairs of hex digits: 02:42:ac:11:00:02.")
        return wanted.lower()
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *address.packed))


class Leases:
    """The addresses of one network that are in use; `owner` is a container's id."""

    def __init__(
        self,
        subnet: IPv4Network,
        gateway: IPv4Address | None = None,
        pool: IPv4Network | None = None,
        reserved: Iterable[IPv4Address] = (),
    ) -> None:
        """`pool` is the part of the subnet from which nobody's choice is taken; `reserved` are others' addresses."""
        self.subnet = subnet
        self.gateway = gateway or subnet.network_address + 1
        self._owners: dict[str, IPv4Address] = {}
        self._used: set[int] = {int(self.gateway), *map(int, reserved)}
        chosen = pool or subnet
        self._hint = max(int(chosen.network_address), int(subnet.network_address) + 1)
        self._first = self._hint
        self._end = min(int(chosen.broadcast_address) + 1, int(subnet.broadcast_address))

    @property
    def owners(self) -> list[str]:
        """Who has an address."""
        return list(self._owners)

    def take(self, owner: str, wanted: IPv4Address | None = None) -> IPv4Address:
        """Lease `wanted`, or the lowest free address, to `owner`."""
        if owner in self._owners:
            raise Conflict(f"container {owner[:12]} already has the address {self._owners[owner]}")
        if wanted is not None:
            return self.keep(owner, wanted)
        while self._hint in self._used:
            self._hint += 1
        if self._hint >= self._end:
            raise Conflict(
                f"no available IPv4 addresses on this network's address pools: {self.subnet}",
                "Remove containers from the network, or create a network with a larger subnet.",
            )
        return self.keep(owner, IPv4Address(self._hint))

    def keep(self, owner: str, address: IPv4Address) -> IPv4Address:
        """Lease this very address; raises InvalidParameter outside the subnet, Conflict where it is in use."""
        if address not in self.subnet or address in (self.subnet.network_address, self.subnet.broadcast_address):
            raise InvalidParameter(f"the address {address} is not in the network's subnet {self.subnet}")
        if int(address) in self._used:
            raise Conflict(f"the address {address} is already in use", "Choose another, or leave --ip out.")
        self._owners[owner] = address
        self._used.add(int(address))
        return address

    def free(self, owner: str) -> None:
        """Give back what `owner` has; nothing where it has none."""
        address = self._owners.pop(owner, None)
        if address is not None:
            self._used.discard(int(address))
            self._hint = max(self._first, min(self._hint, int(address)))
