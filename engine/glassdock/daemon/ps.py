"""Which containers `docker ps` shows: the handler of `GET /containers/json`, and its filters.

Interface: `ps`.

Rules: within one filter any value is enough, of `label` all have to hold; all filters have to hold. A value that cannot
be one is refused, in Docker's words. Sizes cost a walk through the files and are given only where they are asked for.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container/operation/ContainerList, and the
meaning of each filter in https://github.com/moby/moby/blob/master/daemon/list.go
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from glassdock.containers.model import Container, Status
from glassdock.daemon import answers, network_views, views
from glassdock.daemon.answers import ENGINE, filters, flag, number
from glassdock.engine import Engine
from glassdock.errors import InvalidParameter, NotFound

Test = Callable[[Container], bool]
Filter = Callable[[Engine, str], Test]

_HEALTH = ("starting", "healthy", "unhealthy", "none")
_PORTS = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?")


async def ps(request: web.Request) -> web.StreamResponse:
    """GET /containers/json."""
    engine = request.app[ENGINE]
    wanted = filters(request)
    tests = _tests(engine, wanted)
    limit = number(request, "limit", 0)
    everyone = flag(request, "all") or "status" in wanted or limit > 0
    found = [
        container
        for container in engine.containers.all()
        if (everyone or container.state.running) and all(test(container) for test in tests)
    ]
    shown = found[:limit] if limit > 0 else found
    rows = [views.container_summary(container, engine.image_name(container)) for container in shown]
    if flag(request, "size"):
        sizes = await asyncio.to_thread(lambda: [size(engine, container) for container in shown])
        rows = [{**row, **measured} for row, measured in zip(rows, sizes, strict=True)]
    return answers.json(rows)


def size(engine: Engine, container: Container) -> dict[str, Any]:
    """SizeRw, what the container wrote, and SizeRootFs, that and its image; in bytes. Empty where it went meanwhile."""
    with contextlib.suppress(NotFound, OSError):
        own, below = engine.snapshots.usage(container.id), 0
        with contextlib.suppress(NotFound):  # the image was removed by force since
            below = engine.images.get(container.image).size
        return {"SizeRw": own, "SizeRootFs": own + below}
    return {}


def _tests(engine: Engine, wanted: dict[str, list[str]]) -> list[Test]:
    """One test for each filter. Raises InvalidParameter, NotFound."""
    tests: list[Test] = []
    for name, values in wanted.items():
        if name == "label":
            tests += [_label(value) for value in values]
        elif name in _FILTERS:
            tests.append(_any([_FILTERS[name](engine, value) for value in values]))
        else:
            raise InvalidParameter(f"invalid filter '{name}'")
    return tests


def _any(tests: list[Test]) -> Test:
    return lambda container: any(test(container) for test in tests)


def _label(value: str) -> Test:
    key, equals, text = value.partition("=")

    def test(container: Container) -> bool:
        labels = container.config.labels or {}
        return key in labels and (not equals or labels[key] == text)

    return test


def _pattern(value: str) -> Callable[[str], bool]:
    """A regular expression, as Docker takes names and ids; one that is none matches nothing but itself."""
    try:
        found = re.compile(value)
    except re.error:
        return lambda text: text == value
    return lambda text: found.search(text) is not None


def _name(_: Engine, value: str) -> Test:
    matches = _pattern(value)
    return lambda container: matches(container.name) or matches(f"/{container.name}")


def _id(_: Engine, value: str) -> Test:
    matches = _pattern(value)
    return lambda container: matches(container.id)


def _status(_: Engine, value: str) -> Test:
    if value not in tuple(Status):
        raise InvalidParameter(f"invalid filter 'status={value}'", f"One of {', '.join(Status)}.")
    return lambda container: container.state.status == value


def _exited(_: Engine, value: str) -> Test:
    if not value.lstrip("-").isdigit():
        raise InvalidParameter(f"invalid filter 'exited={value}'", "Give an exit code.")
    code = int(value)
    return lambda container: container.state.exit_code == code and not container.state.running


def _health(_: Engine, value: str) -> Test:
    if value not in _HEALTH:
        raise InvalidParameter(f"unrecognized filter value for health: {value}", f"One of {', '.join(_HEALTH)}.")
    return lambda container: value == (container.health.status if container.health else "none")


def _ancestor(engine: Engine, value: str) -> Test:
    """Made from the image that the value names, or from one that was built upon it."""
    wanted: set[str] = set()
    with contextlib.suppress(NotFound, InvalidParameter):  # nothing is made from an image that there is not
        base = engine.images.get(value).layers
        chain = [layer.chain_id for layer in base]
        images = engine.images.images()
        wanted = {one.id for one in images if [layer.chain_id for layer in one.layers][: len(chain)] == chain}
    return lambda container: container.image in wanted or value == container.config.image


def _network(_: Engine, value: str) -> Test:
    def test(container: Container) -> bool:
        joined = network_views.attached(container)
        return value in joined or any(value and row["NetworkID"].startswith(value) for row in joined.values())

    return test


def _volume(_: Engine, value: str) -> Test:
    """By a volume's name, or by the place where it is mounted."""
    return lambda container: any(value in (one.name, one.destination, one.source) for one in container.mounts)


def _before(engine: Engine, value: str) -> Test:
    made = engine.containers.get(value).created
    return lambda container: container.created < made


def _since(engine: Engine, value: str) -> Test:
    made = engine.containers.get(value).created
    return lambda container: container.created > made


def _task(_: Engine, value: str) -> Test:
    """Whether it is a swarm's: there is none."""
    if value not in ("true", "1", "false", "0"):
        raise InvalidParameter(f"invalid filter 'is-task=[{value}]'")
    return lambda _: value in ("false", "0")


def _ports(value: str) -> set[str]:
    """`80`, `80-82/udp` as the keys of a container's ports."""
    found = _PORTS.fullmatch(value)
    if not found:
        raise InvalidParameter(f"invalid port: {value!r}", "Write 80, 80/udp or 8000-8010.")
    first, last, protocol = int(found[1]), int(found[2] or found[1]), found[3] or "tcp"
    if not first <= last < 65536:
        raise InvalidParameter(f"invalid range of ports: {value!r}")
    return {f"{port}/{protocol}" for port in range(first, last + 1)}


def _published(_: Engine, value: str) -> Test:
    wanted = _ports(value)
    return lambda container: bool(wanted & _keys(container.host.port_bindings))


def _exposed(_: Engine, value: str) -> Test:
    wanted = _ports(value)
    return lambda container: bool(wanted & _keys(container.config.exposed_ports))


def _keys(ports: dict[str, Any] | None) -> set[str]:
    return {key if "/" in key else f"{key}/tcp" for key in ports or {}}


def _isolation(_: Engine, __: str) -> Test:
    """Windows' word; on Linux it says nothing."""
    return lambda _: True


_FILTERS: dict[str, Filter] = {
    "ancestor": _ancestor,
    "before": _before,
    "exited": _exited,
    "expose": _exposed,
    "health": _health,
    "id": _id,
    "is-task": _task,
    "isolation": _isolation,
    "name": _name,
    "network": _network,
    "publish": _published,
    "since": _since,
    "status": _status,
    "volume": _volume,
}
