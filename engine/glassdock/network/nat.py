"""The way out: what leaves the bridge for elsewhere gets the machine's address, what comes uninvited is dropped.

Interface:
- `rules(bridge, subnet)`: the nftables rules as values, each with the line that `nft list ruleset` shows.
- `up(bridge, subnet)`: forwarding and rules; returns what of it this machine does not do, "" where all is done.
- `down(bridge)`: the rules go with their table.

Rules: one table a bridge, made in one transaction. Masquerading is a service to the containers, not a condition of
their life: where the kernel refuses, the network's status says so. Forwarding stays on when the engine stops, because
others may have come to rely on it.
Source: ip-sysctl (ip_forward), https://wiki.nftables.org/
"""

from __future__ import annotations

import errno
import os
from ipaddress import IPv4Network

from glassdock.network import firewall, nft
from glassdock.network.nft import EQUAL, FROM, TO, UNEQUAL, Rule

_FORWARD = "/proc/sys/net/ipv4/ip_forward"
# No such table; no nftables, or none for us.
_NOTHING_THERE = (errno.ENOENT, errno.EPERM, errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP)


def rules(bridge: str, subnet: IPv4Network, *, internal: bool = False) -> list[Rule]:
    """What a bridge needs, in order; `internal` is a network that nothing leaves."""
    inward = (*nft.interface(TO, EQUAL, bridge), *nft.interface(FROM, UNEQUAL, bridge))
    if internal:
        outward = (*nft.interface(FROM, EQUAL, bridge), *nft.interface(TO, UNEQUAL, bridge))
        return [
            Rule("forward", f'iifname "{bridge}" oifname != "{bridge}" drop', (*outward, nft.verdict(nft.DROP))),
            Rule("forward", f'oifname "{bridge}" iifname != "{bridge}" drop', (*inward, nft.verdict(nft.DROP))),
        ]
    return [
        Rule(
            "postrouting",
            f'ip saddr {subnet} oifname != "{bridge}" masquerade',
            (*nft.source(subnet), *nft.interface(TO, UNEQUAL, bridge), nft.masquerade()),
        ),
        Rule(
            "forward",
            f'oifname "{bridge}" iifname != "{bridge}" ct state established,related accept',
            (*inward, *nft.answers(), nft.verdict(nft.ACCEPT)),
        ),
        Rule("forward", f'oifname "{bridge}" iifname != "{bridge}" drop', (*inward, nft.verdict(nft.DROP))),
    ]


def up(bridge: str, subnet: IPv4Network, *, internal: bool = False) -> str:
    """Forward and masquerade for the bridge, or for an internal one keep everything in and out."""
    problems = []
    try:
        _forward()
    except OSError as error:
        problems.append(f"no forwarding: {error.strerror}")
    table = _table(bridge)
    try:
        nft.transaction(
            [
                # Made, deleted and made again: what a dead daemon left is gone, and nothing there is no error.
                nft.table(nft.NEW_TABLE, table),
                nft.table(nft.DELETE_TABLE, table),
                nft.table(nft.NEW_TABLE, table),
                nft.chain(table, "postrouting", "nat", nft.POSTROUTING_HOOK, nft.SRCNAT),
                nft.chain(table, "forward", "filter", nft.FORWARD_HOOK, nft.FILTER),
                *(nft.rule(table, rule) for rule in rules(bridge, subnet, internal=internal)),
            ]
        )
        problems += [] if internal else firewall.admit(bridge)
    except OSError as error:
        problems.append(f"no masquerading, the kernel's nftables answers {error.strerror}")
    return "; ".join(problems)


def down(bridge: str) -> None:
    """Delete the bridge's rules; nothing where there are none, or no nftables."""
    try:
        firewall.dismiss(bridge)
        nft.transaction([nft.table(nft.DELETE_TABLE, _table(bridge))])
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise


def _table(bridge: str) -> str:
    return f"glassdock-{bridge}"


def _forward() -> None:
    handle = os.open(_FORWARD, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.read(handle, 1) != b"1":
            os.pwrite(handle, b"1", 0)
    finally:
        os.close(handle)
