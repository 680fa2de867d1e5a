"""The three files that the engine writes for a container: hosts, hostname, resolv.conf.

Interface:
- `write(folder, container, endpoint)`; `NAMES`: file name → place in the container.
- `without_places(changes)`: a container's changes without the empty files that these were mounted on.

Rules: they live in the container's folder and are bind-mounted, so an image's own versions never count.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from glassdock.containers.model import Container
from glassdock.images.changes import Changes
from glassdock.network import files
from glassdock.network.model import Endpoint

NAMES = {"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf"}


def write(folder: Path, container: Container, endpoint: Endpoint) -> None:
    """Write all three for a start with `endpoint`."""
    host = container.host
    contents = {
        "hosts": files.hosts(
            container.hostname,
            endpoint.address,
            domainname=container.config.domainname or "",
            extra=host.extra_hosts or (),
            gateway=endpoint.gateway,
        ),
        "hostname": files.hostname(container.hostname),
        "resolv.conf": files.resolv_conf(
            servers=host.dns or (),
            search=host.dns_search or (),
            options=host.dns_options or (),
            machine=endpoint.netns_fd is None,
            stand_in=endpoint.dns,
        ),
    }
    for name, data in contents.items():
        path = folder / name
        path.write_bytes(data)
        path.chmod(0o644)


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
