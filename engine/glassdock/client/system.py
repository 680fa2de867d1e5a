"""The verbs on the engine itself.

Interface:
- `Version`, `Info`, `Networks`, `Status`, `Doctor`, `Registry`: frozen dataclasses with `do(session)`.

Rules: `Doctor` probes this machine in this process and needs no engine; `Status` never starts one.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glassdock import errors, paths
from glassdock.client import wire
from glassdock.client.containers import Rows
from glassdock.client.extras import extra
from glassdock.client.mapping import mapped
from glassdock.client.session import Session


@dataclass(frozen=True, slots=True)
class Facts:
    """A tree of facts as the engine tells them; `kind` is version, info, status or registry."""

    kind: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """`docker version`."""

    def do(self, session: Session) -> Facts:
        """The engine's version with ours beside it under `Client`."""
        from importlib.metadata import version

        client = {"Version": version("glassdock"), "ApiVersion": session.api.api_version}
        with mapped(session.address):
            return Facts("version", {"Client": client, "Server": session.api.version()})


@dataclass(frozen=True, slots=True)
class Info:
    """`docker info`."""

    def do(self, session: Session) -> Facts:
        """What the engine says of itself."""
        with mapped(session.address):
            return Facts("info", session.api.info())


@dataclass(frozen=True, slots=True)
class Networks:
    """`docker network ls`."""

    def do(self, session: Session) -> Rows:
        """The networks."""
        with mapped(session.address):
            return Rows("network", tuple(session.api.networks()))


@dataclass(frozen=True, slots=True)
class Status:
    """Is an engine there, and what does it hold?"""

    def do(self, session: Session) -> Facts:
        """The engine's own account, or `{"up": False}`; `socket` says where was looked."""
        if session.host is None and not wire.ping(paths.socket_path()):
            return Facts("status", {"up": False, "socket": str(paths.socket_path())})
        return Facts("status", {"up": True, "socket": session.address, **extra(session.client, "status")})


@dataclass(frozen=True, slots=True)
class Doctor:
    """What this machine allows, probed by doing."""

    def do(self, session: Session) -> Any:
        """The probe's `Report`."""
        from glassdock.linux import probe

        return probe.probe()


@dataclass(frozen=True, slots=True)
class Registry:
    """The course registry: its address and what it keeps."""

    def do(self, session: Session) -> Facts:
        """Address and repositories with their tags."""
        address = str(extra(session.client, "status").get("registry", ""))
        if not address:
            raise errors.Unavailable("the engine runs no registry", "Start it with --registry-port.")
        base = address if "://" in address else f"http://{address}"
        names = _get(f"{base}/v2/_catalog").get("repositories", [])
        tags = {name: _get(f"{base}/v2/{name}/tags/list").get("tags") or [] for name in names}
        return Facts("registry", {"address": base.partition("://")[2], "repositories": tags})


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - the engine's own registry
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise errors.from_body(error.code, {"message": f"the registry answers {error.code} to {url}"}) from error
    except (OSError, ValueError) as error:
        raise errors.Unavailable(f"the registry on {url} does not answer: {error}") from error
