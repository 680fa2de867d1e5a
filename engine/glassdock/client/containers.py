"""The verbs on containers that exist.

Interface:
- `List`, `Logs`, `Stop`, `Kill`, `Remove`, `Wait`, `Inspect`: frozen dataclasses with `do(session)`.
- `Rows(kind, rows)`: what `List` and the lists of `images` and `system` return: the API's own objects.
- `trace_of(session, name)`: the engine's spans of a container.

Rules: a verb on several names goes on after a failure and raises the first one at the end, as Docker does.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glassdock import errors
from glassdock.client.attach import log_frames
from glassdock.client.extras import extra
from glassdock.client.mapping import mapped
from glassdock.client.session import Session


@dataclass(frozen=True, slots=True)
class Rows:
    """A list as the API gave it; `kind` is container, image, history, network or volume."""

    kind: str
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Objects:
    """What `inspect` found, in the order of the names."""

    found: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class List:
    """`docker ps`; `filters` are Docker's KEY=VALUE words."""

    all: bool = False
    filters: tuple[str, ...] = ()
    last: int = -1
    size: bool = False

    def do(self, session: Session) -> Rows:
        """The containers, newest first."""
        params: dict[str, Any] = {"all": int(self.all or self.last > 0), "size": int(self.size)}
        if self.last > 0:
            params["limit"] = self.last
        if self.filters:
            params["filters"] = json.dumps(filter_map(self.filters))
        url = f"{session.api.base_url}/v{session.api.api_version}/containers/json"
        with mapped(session.address):
            response = session.api.get(url, params=params)
        if response.status_code >= 400:
            raise errors.from_body(response.status_code, response.json())
        return Rows("container", tuple(response.json()))


@dataclass(frozen=True, slots=True)
class Logs:
    """`docker logs`: what the container wrote; `tail` is "all" or a number, `since`/`until` unix seconds or ""."""

    name: str
    follow: bool = False
    timestamps: bool = False
    tail: str = "all"
    since: str = ""
    until: str = ""

    def do(self, session: Session) -> None:
        """Deliver the log to the session's output; with `follow` until the container ends."""
        params = {"stdout": "1", "stderr": "1", "follow": str(int(self.follow)), "tail": self.tail}
        params["timestamps"] = str(int(self.timestamps))
        params |= {key: value for key, value in (("since", self.since), ("until", self.until)) if value}
        with mapped(session.address):
            framed = not session.api.inspect_container(self.name)["Config"]["Tty"]
        url = f"{session.api.base_url}/v{session.api.api_version}/containers/{self.name}/logs"
        with mapped(session.address), session.api.get(url, params=params, stream=True, timeout=None) as response:
            if response.status_code >= 400:
                raise errors.from_body(response.status_code, response.json())
            log_frames(response, session.output, framed=framed)


@dataclass(frozen=True, slots=True)
class Stop:
    """`docker stop`: the stop signal, `time` seconds (None: the container's own), then kill."""

    names: tuple[str, ...]
    time: int | None = None

    def do(self, session: Session) -> tuple[str, ...]:
        """The names that were stopped."""
        return each(self.names, session, lambda name: session.api.stop(name, timeout=self.time))


@dataclass(frozen=True, slots=True)
class Kill:
    """`docker kill`: send `signal`, a name or a number."""

    names: tuple[str, ...]
    signal: str = "KILL"

    def do(self, session: Session) -> tuple[str, ...]:
        """The names that were sent the signal."""
        return each(self.names, session, lambda name: session.api.kill(name, signal=self.signal))


@dataclass(frozen=True, slots=True)
class Remove:
    """`docker rm`: remove containers; `force` kills first, and is silent about what is not there."""

    names: tuple[str, ...]
    force: bool = False
    volumes: bool = False

    def do(self, session: Session) -> tuple[str, ...]:
        """The names that were removed."""

        def remove(name: str) -> None:
            silent = contextlib.suppress(errors.NotFound) if self.force else contextlib.nullcontext()
            with silent, mapped(session.address):
                session.api.remove_container(name, force=self.force, v=self.volumes)

        return each(self.names, session, remove)


@dataclass(frozen=True, slots=True)
class Wait:
    """`docker wait`: wait for containers to end."""

    names: tuple[str, ...]

    def do(self, session: Session) -> tuple[int, ...]:
        """The exit codes, in the order of the names."""
        codes: list[int] = []
        each(self.names, session, lambda name: codes.append(session.api.wait(name, timeout=None)["StatusCode"]))
        return tuple(codes)


@dataclass(frozen=True, slots=True)
class Inspect:
    """`docker inspect`: everything about an object; `kind` is "" (any), container, image, network or volume."""

    names: tuple[str, ...]
    kind: str = ""

    def do(self, session: Session) -> Objects:
        """The objects that were found. Raises `NotFound` for the first that was not."""
        return Objects(tuple(self._one(session, name) for name in self.names))

    def _one(self, session: Session, name: str) -> Mapping[str, Any]:
        asks = {
            "container": session.api.inspect_container,
            "image": session.api.inspect_image,
            "network": session.api.inspect_network,
            "volume": session.api.inspect_volume,
        }
        for kind, ask in asks.items():
            if self.kind in ("", kind):
                try:
                    with mapped(session.address):
                        found: Mapping[str, Any] = ask(name)
                        return found
                except errors.NotFound:
                    if self.kind:
                        raise
        raise errors.NotFound(f"No such object: {name}", "`glassdock ps -a` and `glassdock images` show what is there.")


def each(names: Sequence[str], session: Session, action: Callable[[str], Any]) -> tuple[str, ...]:
    """Do `action` for each name; what was done. The failures are told as they come, the first is raised at the end."""
    done: list[str] = []
    failures: list[errors.GlassdockError] = []
    for name in names:
        try:
            with mapped(session.address):
                action(name)
            done.append(name)
        except errors.GlassdockError as error:
            failures.append(error)
    if not failures:
        return tuple(done)
    for name in done:
        session.output.note(name)
    for other in failures[1:]:
        session.output.note(other.message)
    raise failures[0]


def filter_map(words: Sequence[str]) -> dict[str, list[str]]:
    """The API's filters of KEY=VALUE words."""
    filters: dict[str, list[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise errors.InvalidParameter(f"invalid filter '{word}'", "Write KEY=VALUE, as in name=web.")
        filters.setdefault(key, []).append(value)
    return filters


def trace_of(session: Session, name: str) -> tuple[Mapping[str, Any], ...]:
    """The engine's spans of a container. Raises `NotFound`, or `NotSupported` on another engine."""
    return tuple(extra(session.client, f"containers/{name}/trace")["spans"])
