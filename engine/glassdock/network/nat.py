"""The way out: what leaves the bridge for elsewhere gets the machine's address, what comes uninvited is dropped.

Interface:
- `rules(bridge, subnet)`: the nftables rules as values, each with the line that `nft list ruleset` shows.
- `up(bridge, subnet)`: forwarding and rules; returns what of it this machine does not do, "" where all is done.
- `blockers()`: other people's chains that drop what they do not know.
- `down(bridge)`: the rules go with their table.

Rules: one table a bridge, made in one transaction, over netlink: neither nft nor iptables is needed. Masquerading is
a service to the containers, not a condition of their life: where the kernel refuses, the network's status says so.
Forwarding stays on when the engine stops, because others may have come to rely on it.
Source: https://wiki.nftables.org/, nft(8), ip-sysctl (ip_forward).
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from types import SimpleNamespace
from typing import Any

from glassdock.network import netlink
from glassdock.network.netlink import Socket

_FORWARD = "/proc/sys/net/ipv4/ip_forward"
_NETFILTER = 12  # NETLINK_NETFILTER
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_BEGIN, _END = 0x10, 0x11  # NFNL_MSG_BATCH_BEGIN and _END
_NEWTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _NEWRULE = 0, 2, 3, 4, 6
_ACK, _CREATE, _APPEND = 0x4, 0x400, 0x800
_FORWARD_HOOK, _POSTROUTING_HOOK = 2, 4
_FILTER, _SRCNAT = 0, 100  # priorities
_EQUAL, _UNEQUAL = 0, 1
_IIFNAME, _OIFNAME = 6, 7
_ESTABLISHED_OR_RELATED = 2 | 4
_DROP, _ACCEPT = 0, 1

Expression = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its chain, its line in nft's language, its expressions."""

    chain: str
    text: str
    expressions: tuple[Expression, ...]


def rules(bridge: str, subnet: IPv4Network) -> list[Rule]:
    """What a bridge needs, in order."""
    inward = (*_interface(_OIFNAME, _EQUAL, bridge), *_interface(_IIFNAME, _UNEQUAL, bridge))
    return [
        Rule(
            "postrouting",
            f'ip saddr {subnet} oifname != "{bridge}" masquerade',
            (*_source(subnet), *_interface(_OIFNAME, _UNEQUAL, bridge), _expression("masq")),
        ),
        Rule(
            "forward",
            f'oifname "{bridge}" iifname != "{bridge}" ct state established,related accept',
            (*inward, *_answers(), _verdict(_ACCEPT)),
        ),
        Rule("forward", f'oifname "{bridge}" iifname != "{bridge}" drop', (*inward, _verdict(_DROP))),
    ]


def up(bridge: str, subnet: IPv4Network) -> str:
    """Forward and masquerade for the bridge."""
    problems = []
    try:
        _forward()
    except OSError as error:
        problems.append(f"no forwarding: {error.strerror}")
    try:
        _transaction(
            [
                # Made, deleted and made again: what a dead daemon left is gone, and nothing there is no error.
                _table(_NEWTABLE, bridge, _CREATE),
                _table(_DELTABLE, bridge),
                _table(_NEWTABLE, bridge, _CREATE),
                _chain(bridge, "postrouting", "nat", _POSTROUTING_HOOK, _SRCNAT),
                _chain(bridge, "forward", "filter", _FORWARD_HOOK, _FILTER),
                *(_rule(bridge, rule) for rule in rules(bridge, subnet)),
            ]
        )
        if found := blockers():
            # A drop in any table is final: ours cannot accept for others.
            problems.append(f"traffic to other machines may be dropped by the firewall ({', '.join(found)})")
    except OSError as error:
        problems.append(f"no masquerading, the kernel's nftables answers {error.strerror}")
    return "; ".join(problems)


def blockers() -> list[str]:
    """The chains on the way between networks whose policy is to drop, as "table filter chain FORWARD"."""
    with Socket(_NETFILTER) as door:
        chains = door.dump(_messages().chain, _SUBSYSTEM << 8 | _GETCHAIN)
    found = []
    for chain in chains:
        hook, policy = chain.get_attr("NFTA_CHAIN_HOOK"), chain.get_attr("NFTA_CHAIN_POLICY")
        if hook and hook.get_attr("NFTA_HOOK_HOOKNUM") == _FORWARD_HOOK and policy == _DROP:
            found.append(f"table {chain.get_attr('NFTA_CHAIN_TABLE')} chain {chain.get_attr('NFTA_CHAIN_NAME')}")
    return found


def down(bridge: str) -> None:
    """Delete the bridge's table; nothing where there is none, or no nftables."""
    try:
        _transaction([_table(_DELTABLE, bridge)])
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EPERM, errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP):
            raise


def _forward() -> None:
    handle = os.open(_FORWARD, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.read(handle, 1) != b"1":
            os.pwrite(handle, b"1", 0)
    finally:
        os.close(handle)


def _transaction(batch: Sequence[bytes]) -> None:
    with Socket(_NETFILTER) as door:
        for number, code, text in door.exchange([_edge(_BEGIN), *batch, _edge(_END)]):
            raise OSError(code, f"{os.strerror(code)}{f' ({text})' if text else ''} at message {number}")


@functools.cache
def _messages() -> SimpleNamespace:
    from pyroute2.netlink.nfnetlink import nfgen_msg, nftsocket

    return SimpleNamespace(
        edge=nfgen_msg, table=nftsocket.nft_table_msg, chain=nftsocket.nft_chain_msg, rule=nftsocket.nft_rule_msg
    )


def _encode(kind: Any, number: int, attributes: Sequence[tuple[str, Any]], flags: int) -> bytes:
    return netlink.encode(kind, _SUBSYSTEM << 8 | number, {"nfgen_family": socket.AF_INET}, attributes, _ACK | flags)


def _edge(number: int) -> bytes:
    return netlink.encode(_messages().edge, number, {"res_id": _SUBSYSTEM}, (), 0)


def _name(bridge: str) -> str:
    return f"glassdock-{bridge}"


def _table(number: int, bridge: str, flags: int = 0) -> bytes:
    return _encode(_messages().table, number, [("NFTA_TABLE_NAME", _name(bridge))], flags)


def _chain(bridge: str, name: str, kind: str, hook: int, priority: int) -> bytes:
    place = {"attrs": [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", priority)]}
    return _encode(
        _messages().chain,
        _NEWCHAIN,
        [
            ("NFTA_CHAIN_TABLE", _name(bridge)),
            ("NFTA_CHAIN_NAME", name),
            ("NFTA_CHAIN_HOOK", place),
            ("NFTA_CHAIN_TYPE", kind),
        ],
        _CREATE,
    )


def _rule(bridge: str, rule: Rule) -> bytes:
    return _encode(
        _messages().rule,
        _NEWRULE,
        [
            ("NFTA_RULE_TABLE", _name(bridge)),
            ("NFTA_RULE_CHAIN", rule.chain),
            ("NFTA_RULE_EXPRESSIONS", list(rule.expressions)),
        ],
        _CREATE | _APPEND,
    )


def _expression(name: str, *attributes: tuple[str, Any]) -> Expression:
    prefix = f"NFTA_{name.upper()}_"
    data = {"attrs": [(prefix + key, value) for key, value in attributes]}
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", data)]}


def _value(data: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def _compare(operation: int, data: bytes) -> Expression:
    return _expression("cmp", ("SREG", 1), ("OP", operation), ("DATA", _value(data)))


def _mask(mask: bytes) -> Expression:
    zeros = bytes(len(mask))
    return _expression(
        "bitwise", ("SREG", 1), ("DREG", 1), ("LEN", len(mask)), ("MASK", _value(mask)), ("XOR", _value(zeros))
    )


def _interface(key: int, operation: int, name: str) -> tuple[Expression, ...]:
    padded = name.encode().ljust(16, b"\0")
    return _expression("meta", ("KEY", key), ("DREG", 1)), _compare(operation, padded)


def _source(subnet: IPv4Network) -> tuple[Expression, ...]:
    # 12 is where the source address is in an IPv4 header; base 1 is the network header.
    load = _expression("payload", ("DREG", 1), ("BASE", 1), ("OFFSET", 12), ("LEN", 4))
    return load, _mask(subnet.netmask.packed), _compare(_EQUAL, subnet.network_address.packed)


def _answers() -> tuple[Expression, ...]:
    load = _expression("ct", ("DREG", 1), ("KEY", 0))
    return load, _mask(struct.pack("=I", _ESTABLISHED_OR_RELATED)), _compare(_UNEQUAL, bytes(4))


def _verdict(code: int) -> Expression:
    verdict = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code)]})]}
    return _expression("immediate", ("DREG", 0), ("DATA", verdict))
