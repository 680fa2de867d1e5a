"""What a user asks of a network of their own, checked.

Interface:
- `Wanted`: name, subnet, gateway and the rest, as `docker network create` gives them.
- `record(wanted, others, tag)`: the record of the new network; raises InvalidParameter, Conflict and others.
- `PREDEFINED`: Docker's three, which are nobody's to make or remove.

Rules: nothing is made here. What this engine has not is refused, with what to do instead.
Source: https://docs.docker.com/reference/cli/docker/network/create/
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, ip_network

from glassdock.errors import Conflict, Forbidden, InvalidParameter, NotFound, NotSupported
from glassdock.network.model import Network

PREDEFINED = ("bridge", "host", "none")
MTU = "com.docker.network.driver.mtu"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_ONE_OF_A_KIND = ("host", "null")
_SMALLEST = 30  # gateway and one container


@dataclass(frozen=True, slots=True)
class Wanted:
    """A new network; "" for what the engine is to choose."""

    name: str
    driver: str = "bridge"
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    aux_addresses: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


def record(wanted: Wanted, others: Iterable[Network], tag: str) -> Network:
    """A record that can be kept; the kernel has not been asked yet."""
    if not _NAME.fullmatch(wanted.name):
        raise InvalidParameter(
            f"invalid network name {wanted.name!r}",
            "Letters, digits, underscore, dot and dash; the first a letter or a digit.",
        )
    if wanted.driver in _ONE_OF_A_KIND:
        raise Forbidden(f'only one instance of "{wanted.driver}" network is allowed')
    if wanted.driver not in ("bridge", "default", ""):
        raise NotFound(f"could not find plugin {wanted.driver} in v1 plugin registry: plugin not found")
    subnet, gateway = _addresses(wanted)
    known = list(others)
    if wanted.name in PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {wanted.name} network ")
    if any(other.name == wanted.name for other in known):
        raise Conflict(f"network with name {wanted.name} already exists")
    if subnet and any(other.subnet and subnet.overlaps(IPv4Network(other.subnet)) for other in known):
        raise Forbidden("Pool overlaps with other one on this address space", "Choose another --subnet.")
    identity = secrets.token_hex(32)
    return Network(
        id=identity,
        name=wanted.name,
        driver="bridge",
        subnet=str(subnet or ""),
        gateway=str(gateway or ""),
        # Interface names take 15 bytes.
        interface=f"gd{tag}n{identity[:4]}" if tag else f"br-{identity[:12]}",
        internal=wanted.internal,
        chosen=subnet is not None,
        ip_range=_range(wanted, subnet),
        aux_addresses=_reserved(wanted, subnet),
        created=time.time_ns(),
        labels=dict(wanted.labels),
        options=dict(wanted.options),
    )


def _addresses(wanted: Wanted) -> tuple[IPv4Network | None, IPv4Address | None]:
    if not wanted.subnet:
        if wanted.gateway:
            raise InvalidParameter("no matching subnet for gateway " + wanted.gateway, "Give --subnet too.")
        if wanted.ip_range:
            raise InvalidParameter("no matching subnet for range " + wanted.ip_range, "Give --subnet too.")
        if wanted.aux_addresses:
            some = next(iter(wanted.aux_addresses.values()))
            raise InvalidParameter("no matching subnet for aux-address " + some, "Give --subnet too.")
        return None, None
    try:
        subnet = ip_network(wanted.subnet)
    except ValueError as error:
        raise InvalidParameter(f"invalid subnet {wanted.subnet}: {error}", "As in --subnet 10.1.0.0/24.") from error
    if subnet.version != 4:
        raise NotSupported("networks have IPv4 addresses alone here", "Leave the IPv6 subnet out.")
    if subnet.prefixlen > _SMALLEST:
        raise InvalidParameter(f"the subnet {subnet} has no room for a gateway and a container", "A /30 has.")
    try:
        gateway = IPv4Address(wanted.gateway) if wanted.gateway else subnet.network_address + 1
    except ValueError as error:
        raise InvalidParameter(f"invalid gateway {wanted.gateway}") from error
    if gateway not in subnet or gateway in (subnet.network_address, subnet.broadcast_address):
        raise InvalidParameter(f"no matching subnet for gateway {gateway}", f"An address of {subnet}.")
    return subnet, gateway


def _range(wanted: Wanted, subnet: IPv4Network | None) -> str:
    """The part of the subnet that addresses are taken from, "" for all of it."""
    if not wanted.ip_range or subnet is None:
        return ""
    try:
        found = IPv4Network(wanted.ip_range, strict=False)
    except ValueError as error:
        raise InvalidParameter(f"invalid ip-range {wanted.ip_range}: {error}") from error
    if not found.subnet_of(subnet):
        raise InvalidParameter(f"no matching subnet for range {wanted.ip_range}", f"A part of {subnet}.")
    return str(found)


def _reserved(wanted: Wanted, subnet: IPv4Network | None) -> dict[str, str]:
    """Addresses that are others' on the same network, by name."""
    for address in wanted.aux_addresses.values():
        try:
            inside = subnet is not None and IPv4Address(address) in subnet
        except ValueError as error:
            raise InvalidParameter(f"invalid aux-address {address}") from error
        if not inside:
            raise InvalidParameter(f"no matching subnet for aux-address {address}", f"An address of {subnet}.")
    return dict(wanted.aux_addresses)
