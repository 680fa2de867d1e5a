"""The three files that the engine writes for a container: hosts, hostname, resolv.conf.

Interface:
- `write(folder, container, endpoints)`; `NAMES`: file name → place in the container.
- `joined(folder, container, before, made)`, `left(folder, address)`: one network more or less while it runs.
- `without_places(changes)`: a container's changes without the empty files that these were mounted on.

Rules: they live in the container's folder and are bind-mounted, so an image's own versions never count. While it runs
they are the container's: lines are added and taken out, what it wrote itself stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from glassdock.containers.model import Container
from glassdock.images.changes import Changes
from glassdock.network import files
from glassdock.network.model import Endpoint

NAMES = {"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf"}


def write(folder: Path, container: Container, endpoints: Sequence[Endpoint]) -> None:
    """Write all three for a start with `endpoints`, the first of which the container came with."""
    contents = {
        "hosts": files.hosts(
            container.hostname,
            [endpoint.address for endpoint in endpoints if endpoint.address],
            domainname=container.config.domainname or "",
            extra=container.host.extra_hosts or (),
            gateway=next((endpoint.gateway for endpoint in endpoints if endpoint.gateway), ""),
        ),
        "hostname": files.hostname(container.hostname),
        "resolv.conf": _resolv_conf(container, endpoints),
    }
    for name, data in contents.items():
        path = folder / name
        path.write_bytes(data)
        path.chmod(0o644)


def joined(folder: Path, container: Container, before: Sequence[Endpoint], made: Endpoint) -> None:
    """It has an address more; its resolv.conf changes if that is the first network with names, and it left it alone."""
    with (folder / "hosts").open("ab") as hosts:
        hosts.write(files.entry(made.address, container.hostname, container.config.domainname or ""))
    resolv_conf = folder / "resolv.conf"
    if resolv_conf.read_bytes() == _resolv_conf(container, before):
        resolv_conf.write_bytes(_resolv_conf(container, [*before, made]))


def left(folder: Path, address: str) -> None:
    """The lines of an address go."""
    hosts = folder / "hosts"
    lines = hosts.read_bytes().splitlines(keepends=True)
    hosts.write_bytes(b"".join(line for line in lines if line.split()[:1] != [address.encode()]))


def _resolv_conf(container: Container, endpoints: Sequence[Endpoint]) -> bytes:
    host = container.host
    return files.resolv_conf(
        servers=host.dns or (),
        search=host.dns_search or (),
        options=host.dns_options or (),
        machine=bool(endpoints) and all(endpoint.netns_fd is None for endpoint in endpoints),
        stand_in=next((endpoint.dns for endpoint in endpoints if endpoint.dns), ""),
        embedded=any(endpoint.names for endpoint in endpoints),
    )


def without_places(changes: Changes) -> Changes:
    """What the container itself changed: an empty file at one of the three places is the runtime's doing."""
    places = set(NAMES.values())
    added = tuple((path, size) for path, size in changes.added if size or path not in places)
    if len(added) == len(changes.added):
        return changes
    rest = (*added, *changes.changed, *changes.deleted)
    if any(path.startswith("/etc/") for path, _ in rest):
        return replace(changes, added=added)
    return replace(changes, added=added, changed=tuple(row for row in changes.changed if row[0] != "/etc"))
