"""nftables over netlink: tables, chains, rules and their expressions, packed by pyroute2's message classes.

Interface:
- `transaction(messages)`: all of them or none; raises OSError that says which was refused.
- `table`, `chain`, `rule`, `without_rule`: messages; `Rule` is a rule as a value.
- `interface`, `source`, `answers`, `accept`, `drop`, `masquerade`: what rules are made of; `leading`: one whole.
- `chains()`, `marked(mark)`: what is there.

Rules: neither nft nor iptables is needed. Nothing here knows what the rules are for.
Source: https://wiki.nftables.org/, nft(8).
"""

from __future__ import annotations

import functools
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from types import SimpleNamespace
from typing import Any

from glassdock.network import netlink
from glassdock.network.netlink import Socket

NEW_TABLE, DELETE_TABLE = 0, 2
FORWARD_HOOK, OUTPUT_HOOK, POSTROUTING_HOOK = 2, 3, 4
DSTNAT, FILTER, SRCNAT = -100, 0, 100  # priorities
EQUAL, UNEQUAL = 0, 1
FROM, TO = 6, 7  # the interface that a packet came from, or goes to
ACCEPT, DROP = 1, 0

_NETFILTER = 12  # NETLINK_NETFILTER
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_BEGIN, _END = 0x10, 0x11  # NFNL_MSG_BATCH_BEGIN and _END
_NEW_CHAIN, _GET_CHAIN, _NEW_RULE, _GET_RULE, _DELETE_RULE = 3, 4, 6, 7, 8
_ACK, _CREATE, _APPEND = 0x4, 0x400, 0x800
_USERDATA = 7  # NFTA_RULE_USERDATA, which pyroute2 does not pack
_ESTABLISHED_OR_RELATED = 2 | 4
_L4PROTO, _DNAT = 16, 1  # NFT_META_L4PROTO, NFT_NAT_DNAT

Expression = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its chain, its line in nft's language, its expressions."""

    chain: str
    text: str
    expressions: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that is there; `hook` is -1 for one that others jump to, `drops` says what becomes of the rest."""

    family: int
    table: str
    name: str
    hook: int
    drops: bool


@dataclass(frozen=True, slots=True)
class Handle:
    """Where a rule is, for its deletion."""

    table: str
    chain: str
    number: int


def transaction(batch: Sequence[bytes]) -> None:
    """Apply all messages or none."""
    with Socket(_NETFILTER) as door:
        for number, code, text in door.exchange([_edge(_BEGIN), *batch, _edge(_END)]):
            raise OSError(code, f"{os.strerror(code)}{f' ({text})' if text else ''} at message {number}")


def chains() -> list[Chain]:
    """Every chain of the namespace."""
    with Socket(_NETFILTER) as door:
        found = door.dump(_messages().chain, _SUBSYSTEM << 8 | _GET_CHAIN)
    return [
        Chain(
            chain["nfgen_family"],
            chain.get_attr("NFTA_CHAIN_TABLE"),
            chain.get_attr("NFTA_CHAIN_NAME"),
            hook.get_attr("NFTA_HOOK_HOOKNUM") if (hook := chain.get_attr("NFTA_CHAIN_HOOK")) else -1,
            chain.get_attr("NFTA_CHAIN_POLICY") == DROP,
        )
        for chain in found
    ]


def marked(mark: str) -> list[Handle]:
    """The rules with this comment."""
    with Socket(_NETFILTER) as door:
        found = door.dump(_messages().rule, _SUBSYSTEM << 8 | _GET_RULE)
    return [
        Handle(rule.get_attr("NFTA_RULE_TABLE"), rule.get_attr("NFTA_RULE_CHAIN"), rule.get_attr("NFTA_RULE_HANDLE"))
        for rule in found
        if _comment(mark) in bytes(rule.data)
    ]


def table(number: int, name: str) -> bytes:
    """NEW_TABLE makes it where it is not there, DELETE_TABLE deletes it with all that is in it."""
    return _encode(_messages().table, number, [("NFTA_TABLE_NAME", name)], _CREATE if number == NEW_TABLE else 0)


def chain(table: str, name: str, kind: str, hook: int, priority: int) -> bytes:
    """A new base chain."""
    place = {"attrs": [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", priority)]}
    return _encode(
        _messages().chain,
        _NEW_CHAIN,
        [
            ("NFTA_CHAIN_TABLE", table),
            ("NFTA_CHAIN_NAME", name),
            ("NFTA_CHAIN_HOOK", place),
            ("NFTA_CHAIN_TYPE", kind),
        ],
        _CREATE,
    )


def rule(table: str, rule: Rule, *, first: bool = False, mark: str = "") -> bytes:
    """A new rule at the end of its chain, or before all others; `mark` is its comment."""
    attributes = [
        ("NFTA_RULE_TABLE", table),
        ("NFTA_RULE_CHAIN", rule.chain),
        ("NFTA_RULE_EXPRESSIONS", list(rule.expressions)),
    ]
    message = _encode(_messages().rule, _NEW_RULE, attributes, _CREATE | (0 if first else _APPEND))
    if not mark:
        return message
    comment = _comment(mark)
    message += struct.pack("=HH", 4 + len(comment), _USERDATA) + comment.ljust((len(comment) + 3) & ~3, b"\0")
    return struct.pack("=I", len(message)) + message[4:]


def without_rule(handle: Handle) -> bytes:
    """Delete a rule."""
    attributes = [
        ("NFTA_RULE_TABLE", handle.table),
        ("NFTA_RULE_CHAIN", handle.chain),
        ("NFTA_RULE_HANDLE", handle.number),
    ]
    return _encode(_messages().rule, _DELETE_RULE, attributes, 0)


def interface(key: int, operation: int, name: str) -> tuple[Expression, ...]:
    """The packet came FROM or goes TO an interface EQUAL or UNEQUAL to `name`."""
    padded = name.encode().ljust(16, b"\0")
    return _expression("meta", ("KEY", key), ("DREG", 1)), _compare(operation, padded)


def source(subnet: IPv4Network) -> tuple[Expression, ...]:
    """The packet's sender is in the subnet."""
    # 12 is where the source address is in an IPv4 header; base 1 is the network header.
    load = _expression("payload", ("DREG", 1), ("BASE", 1), ("OFFSET", 12), ("LEN", 4))
    return load, _mask(subnet.netmask.packed), _compare(EQUAL, subnet.network_address.packed)


def answers() -> tuple[Expression, ...]:
    """The packet answers one that went the other way."""
    load = _expression("ct", ("DREG", 1), ("KEY", 0))
    return load, _mask(struct.pack("=I", _ESTABLISHED_OR_RELATED)), _compare(UNEQUAL, bytes(4))


def masquerade() -> Expression:
    """Give the packet the address of the interface that it leaves by."""
    return _expression("masq")


def leading(protocol: str, address: str, port: int, to_port: int) -> Rule:
    """What is sent to the address and the port goes to another port of the address; for a chain called output."""
    number = socket.IPPROTO_TCP if protocol == "tcp" else socket.IPPROTO_UDP
    packed = IPv4Address(address).packed
    return Rule(
        "output",
        f"ip daddr {address} {protocol} dport {port} dnat to {address}:{to_port}",
        (
            # 16 is where the receiver's address is in an IPv4 header, 2 where its port is in TCP's and UDP's (base 2).
            _expression("payload", ("DREG", 1), ("BASE", 1), ("OFFSET", 16), ("LEN", 4)),
            _compare(EQUAL, packed),
            _expression("meta", ("KEY", _L4PROTO), ("DREG", 1)),
            _compare(EQUAL, bytes((number,))),
            _expression("payload", ("DREG", 1), ("BASE", 2), ("OFFSET", 2), ("LEN", 2)),
            _compare(EQUAL, struct.pack(">H", port)),
            _expression("immediate", ("DREG", 1), ("DATA", _value(packed))),
            _expression("immediate", ("DREG", 2), ("DATA", _value(struct.pack(">H", to_port)))),
            _expression("nat", ("TYPE", _DNAT), ("FAMILY", socket.AF_INET), ("REG_ADDR_MIN", 1), ("REG_PROTO_MIN", 2)),
        ),
    )


def verdict(code: int) -> Expression:
    """ACCEPT or DROP."""
    decided = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code)]})]}
    return _expression("immediate", ("DREG", 0), ("DATA", decided))


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


def _comment(text: str) -> bytes:
    """A comment as libnftnl writes it: type 0, length, text with its NUL."""
    data = text.encode() + b"\0"
    return bytes((0, len(data))) + data


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
