"""What a container reads about names: the contents of /etc/hosts, /etc/hostname and /etc/resolv.conf.

Interface: `hosts(...)`, `hostname(...)`, `resolv_conf(...)`: each returns the file's bytes; `entry` a line of hosts.

Rules: nothing is written here. A name server on the machine's loopback cannot be reached from a bridge and is left
out; systemd-resolved's own file is read where its stub is all that /etc/resolv.conf names.
Source: hosts(5), resolv.conf(5), https://docs.docker.com/engine/network/#dns-services
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_RESOLV_CONF = Path("/etc/resolv.conf")
_RESOLVED = Path("/run/systemd/resolve/resolv.conf")
_EMBEDDED = "127.0.0.11"
# Docker's choice where the machine names no server that a container could reach.
_PUBLIC = ("8.8.8.8", "8.8.4.4")


def hosts(
    hostname: str,
    addresses: Sequence[str],
    *,
    domainname: str = "",
    extra: Iterable[str] = (),
    gateway: str = "",
) -> bytes:
    """/etc/hosts; `extra` are --add-host's `name:address` or `name=address`, `host-gateway` means `gateway`."""
    text = _HOSTS
    for word in extra:
        mark = "=" if "=" in word else ":"
        name, _, target = word.partition(mark)
        text += f"{gateway if target == 'host-gateway' else target.strip('[]')}\t{name}\n"
    return text.encode() + b"".join(entry(address, hostname, domainname) for address in addresses)


def entry(address: str, hostname: str, domainname: str = "") -> bytes:
    """The line that says whose the address is."""
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    return f"{address}\t{names}\n".encode()


def hostname(name: str) -> bytes:
    """/etc/hostname."""
    return f"{name}\n".encode()


def resolv_conf(
    *,
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    machine: bool = False,
    stand_in: str = "",
    embedded: bool = False,
    source: Path = _RESOLV_CONF,
) -> bytes:
    """/etc/resolv.conf: what was asked for, else the machine's own from `source`.

    `machine` is true for a container on the machine's own network, which reaches its loopback servers too; `stand_in`
    is a server that answers for those where it does not. `embedded`: the engine's own server knows names and asks.
    """
    own = _read(source)
    if not machine and stand_in:
        own["nameserver"] = _reachable(own["nameserver"]) or [stand_in]
    elif not machine and own["nameserver"] and not _reachable(own["nameserver"]):
        own["nameserver"] = _read(_RESOLVED)["nameserver"]
    found = list(servers) or (own["nameserver"] if machine else _reachable(own["nameserver"])) or list(_PUBLIC)
    # A search of "." is Docker's way to ask for none.
    domains = [] if list(search) == ["."] else list(search) or own["search"]
    chosen = list(options) or own["options"]
    if embedded:
        found = [_EMBEDDED]
        # A name without dots, which containers have, is asked for as it is, before the search list is tried.
        chosen += [] if any(option.startswith("ndots:") for option in chosen) else ["ndots:0"]
    lines = [f"nameserver {server}" for server in found]
    if domains:
        lines.append("search " + " ".join(domains))
    if chosen:
        lines.append("options " + " ".join(chosen))
    return ("\n".join(lines) + "\n").encode()


def servers(source: Path = _RESOLV_CONF) -> list[str]:
    """The machine's own name servers, for one who asks from the machine."""
    return _read(source)["nameserver"] or list(_PUBLIC)


def _read(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return found
    for line in text.splitlines():
        words = line.split()
        if not words or line[0] in "#;":
            continue
        if words[0] == "nameserver":
            found["nameserver"] += words[1:2]
        elif words[0] in ("search", "domain"):
            found["search"] = words[1:]
        elif words[0] == "options":
            found["options"] += words[1:]
    return found


def _reachable(servers: Iterable[str]) -> list[str]:
    return [server for server in servers if not _loopback(server)]


def _loopback(server: str) -> bool:
    try:
        return ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True  # not an address: of no use to a container
