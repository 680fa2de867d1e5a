"""One caller of the engine: its connection, where its output goes, the labels of what it makes.

Interface:
- `Output`: what a verb tells while it runs: bytes of stdout and stderr, and the JSON lines of pull, push and build.
- `Session(host, output, labels, stdin, follow)`: `.client` connects when first asked. `stdin` is what `-i` reads:
  a descriptor, bytes, or None; `follow` is entered while a container is followed.

Rules: a verb writes to `Session.output` and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from glassdock.client.connect import address, connect


class Output(Protocol):
    """Where a running verb's output goes."""

    def out(self, data: bytes) -> None:
        """Bytes of a container's stdout."""

    def err(self, data: bytes) -> None:
        """Bytes of a container's stderr."""

    def event(self, event: Mapping[str, Any]) -> None:
        """One JSON line of pull, push or build, as Docker's API describes it."""

    def note(self, text: str) -> None:
        """One line for the person: "Unable to find image …"."""


class Silent:
    """An output that nobody reads."""

    def out(self, data: bytes) -> None:
        """Drop it."""

    def err(self, data: bytes) -> None:
        """Drop it."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Drop it."""

    def note(self, text: str) -> None:
        """Drop it."""


Follow = Callable[["Session", str, bool], AbstractContextManager[None]]
"""What a caller does around a container (id, has a terminal) that it follows: signals passed on, a window's size."""

FollowExec = Callable[["Session", str], AbstractContextManager[None]]
"""What a caller does around an exec (id) with a terminal that it follows: keys and the window's size."""


class Session:
    """A connection that is made when it is needed, and what belongs to its caller."""

    def __init__(
        self,
        host: str | None = None,
        *,
        output: Output | None = None,
        labels: Mapping[str, str] | None = None,
        stdin: int | bytes | None = None,
        follow: Follow | None = None,
    ) -> None:
        self.host = host
        self.output: Output = output or Silent()
        self.labels = dict(labels or {})
        self.stdin = stdin
        self.follow = follow
        self.follow_exec: FollowExec | None = None
        self._client: Any = None

    @property
    def address(self) -> str:
        """The engine's address."""
        return address(self.host)

    @property
    def client(self) -> Any:
        """The `docker.DockerClient`; the first use connects, and starts the engine if need be."""
        if self._client is None:
            self._client = connect(self.host)
            # One id for what this caller does: the engine files its spans under it.
            self._client.api.headers["Glassdock-Trace"] = os.urandom(8).hex()
        return self._client

    @property
    def api(self) -> Any:
        """The SDK's low-level client: one method an endpoint."""
        return self.client.api

    def close(self) -> None:
        """Give the connection back; the next use opens another."""
        if self._client is not None:
            self._client.close()
            self._client = None
