"""Connecting the Docker SDK to an engine.

Interface:
- `connect(host=None)`: a `docker.DockerClient`; on our own socket the daemon is started on demand.
- `address(host)`: the address that `connect` uses, as `unix://PATH` or `tcp://HOST:PORT`.

Rules: only the engine's own address (option absent: `$GLASSDOCK_HOST` or the user's default) starts a daemon; an
address that the caller names is somebody else's business.
"""

from __future__ import annotations

import sys
from typing import Any

from glassdock import errors, paths
from glassdock.client import start, wire
from glassdock.client.mapping import mapped

ELSEWHERE = "Glassdock runs on Linux: use its Binder link, open the clone in a devcontainer, or, on Windows, in WSL2."


def address(host: str | None = None) -> str:
    """The address of the engine: `host` as given, else our socket's."""
    if host and host.startswith(("tcp://", "http://", "https://")):
        return host
    return f"unix://{paths.socket_path(host)}"


def connect(host: str | None = None) -> Any:
    """A `docker.DockerClient` that has been answered. Raises `Unavailable` if no engine can be reached or started."""
    if not sys.platform.startswith("linux"):
        raise errors.NotSupported(ELSEWHERE)
    url = address(host)
    if host is None:
        start.ensure(paths.socket_path())
    elif url.startswith("unix://") and not wire.ping(paths.socket_path(host)):
        raise errors.Unavailable(
            f"no engine answers on {url}", "Start one there, or leave the address out: ours starts by itself."
        )
    import docker

    with mapped(url):
        return docker.DockerClient(base_url=url, version="auto", timeout=600)
