"""Who is called how: the names of containers on networks of a user's own.

Interface: `lookup(asked, sandbox, sandboxes)`: the records that answer a question of the container in `sandbox`; None
where the name is nobody's, so that others may know it.

Rules: a container is known by its name, the beginning of its id, its host name and its aliases, to those on the same
network alone, and each of these also as NAME.NETWORK. A name that several have is answered with all their addresses,
shuffled: round robin. On the default network nobody has a name, as with Docker.
Source: https://docs.docker.com/engine/network/#dns-services
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

from glassdock.network import dnswire
from glassdock.network.dnswire import Question, Record
from glassdock.network.model import Endpoint
from glassdock.network.sandbox import Sandbox

_REVERSE = ".in-addr.arpa"


def lookup(asked: Question, sandbox: Sandbox, sandboxes: Iterable[Sandbox]) -> Sequence[Record] | None:
    """What this engine knows about the name; nothing for a name without a record of that kind."""
    others = list(sandboxes)
    if asked.kind == dnswire.PTR:
        return _reverse(asked.name, sandbox, others)
    if asked.kind not in (dnswire.A, dnswire.AAAA, dnswire.ANY):
        return None
    for mine in sandbox.named():
        if addresses := _addresses(asked.name, mine, others):
            random.shuffle(addresses)
            return [] if asked.kind == dnswire.AAAA else addresses
    return None


def _addresses(name: str, mine: Endpoint, sandboxes: Iterable[Sandbox]) -> list[IPv4Address]:
    """Everybody of that name on the network of `mine`."""
    name = name.removesuffix(f".{mine.network_name.lower()}")
    wanted = {target.lower() for target, alias in mine.links if alias.lower() == name} or {name}
    return [
        IPv4Address(one.address)
        for one in _on(mine.network_id, sandboxes)
        if wanted & {known.lower() for known in one.names}
    ]


def _reverse(name: str, sandbox: Sandbox, sandboxes: Iterable[Sandbox]) -> Sequence[Record] | None:
    if not name.endswith(_REVERSE):
        return None
    address = ".".join(reversed(name.removesuffix(_REVERSE).split(".")))
    for mine in sandbox.named():
        for one in _on(mine.network_id, sandboxes):
            if one.address == address and one.names:
                return [f"{one.names[0]}.{one.network_name}"]
    return None


def _on(network: str, sandboxes: Iterable[Sandbox]) -> list[Endpoint]:
    return [one for sandbox in sandboxes if (one := sandbox.endpoints.get(network)) is not None and one.address]
