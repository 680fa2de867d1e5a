"""Other people's firewalls: a chain that drops what it does not know drops our containers' traffic too.

Interface:
- `admit(bridge)`: let the bridge through iptables' own chain, in front of Docker's rules; returns who still drops.
- `dismiss(bridge)`: take that back.
- `blockers()`: the chains between networks whose policy is to drop.

Rules: a drop in any table is final, an accept counts for its own chain alone, so nothing that we put into a table of
ours would help. Docker sets the policy of iptables' FORWARD to drop, and leaves a chain for others, DOCKER-USER: our
rules go there, else to the top of FORWARD. They have the form that iptables writes, and a comment by which they are
found again. Any other firewall is its owner's: it is named, not changed.
Source: https://docs.docker.com/engine/network/packet-filtering-firewalls/
"""

from __future__ import annotations

import socket

from glassdock.network import nft
from glassdock.network.nft import EQUAL, FROM, TO, Chain, Rule

_TABLE, _CHAIN, _USERS = "filter", "FORWARD", "DOCKER-USER"
_ANY_FAMILY = 1  # NFPROTO_INET


def blockers() -> list[Chain]:
    """The chains on the way between networks whose policy is to drop."""
    return [
        chain
        for chain in nft.chains()
        if chain.hook == nft.FORWARD_HOOK and chain.drops and chain.family in (socket.AF_INET, _ANY_FAMILY)
    ]


def admit(bridge: str) -> list[str]:
    """Let the bridge's traffic through; one sentence for the chains that are not ours to change."""
    dismiss(bridge)
    others = []
    for chain in blockers():
        if (chain.family, chain.table, chain.name) == (socket.AF_INET, _TABLE, _CHAIN):
            _insert(bridge)
        else:
            others.append(f"table {chain.table} chain {chain.name}")
    if not others:
        return []
    dropped = f"traffic to other machines may be dropped by the firewall ({', '.join(others)})"
    return [f"{dropped}: let it forward what comes from {bridge} and goes there"]


def rules(bridge: str, chain: str) -> list[Rule]:
    """What lets a bridge through: `iptables -I CHAIN -i BRIDGE -j ACCEPT`, and the same for `-o`."""
    return [
        Rule(chain, f'{word} "{bridge}" accept', (*nft.interface(key, EQUAL, bridge), nft.verdict(nft.ACCEPT)))
        for word, key in (("iifname", FROM), ("oifname", TO))
    ]


def dismiss(bridge: str) -> None:
    """Take our rules out of other people's chains; raises OSError where there is no nftables."""
    if found := nft.marked(_mark(bridge)):
        nft.transaction([nft.without_rule(handle) for handle in found])


def _insert(bridge: str) -> None:
    users = any((chain.table, chain.name) == (_TABLE, _USERS) for chain in nft.chains())
    wanted = rules(bridge, _USERS if users else _CHAIN)
    nft.transaction([nft.rule(_TABLE, rule, first=True, mark=_mark(bridge)) for rule in wanted])


def _mark(bridge: str) -> str:
    return f"glassdock {bridge}"
