"""Handlers for volumes.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Volume
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
from aiohttp import web

from glassdock.daemon import answers, views
from glassdock.daemon.answers import ENGINE, filters, flag
from glassdock.daemon.disk import checked, selected
from glassdock.engine import Engine
from glassdock.errors import Conflict, InvalidParameter, NotFound
from glassdock.volumes import Volume


class Creation(msgspec.Struct, frozen=True, rename="pascal"):
    """The body of POST /volumes/create."""

    name: str | None = ""
    driver: str | None = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: object = None


async def ls(request: web.Request) -> web.StreamResponse:
    """GET /volumes."""
    engine = request.app[ENGINE]
    wanted = checked(filters(request), *_FILTERS)
    for value in wanted.get("dangling", ()):
        _truth(value, "dangling")
    found = [
        views.volume(one, engine.volumes.data(one.name)) for one in engine.volumes.all() if _wanted(engine, one, wanted)
    ]
    return answers.json({"Volumes": found, "Warnings": None})


async def inspect(request: web.Request) -> web.StreamResponse:
    """GET /volumes/{name}."""
    volumes = request.app[ENGINE].volumes
    found = volumes.get(request.match_info["name"])
    return answers.json(views.volume(found, volumes.data(found.name)))


async def create(request: web.Request) -> web.StreamResponse:
    """POST /volumes/create; one of that name that is there is the answer as well."""
    volumes = request.app[ENGINE].volumes
    try:
        body = msgspec.json.decode(await request.read(), type=Creation)
    except msgspec.MsgspecError as error:
        raise InvalidParameter(f"invalid JSON: {error}") from error
    made = volumes.create(body.name or "", driver=body.driver or "", labels=body.labels, options=body.driver_opts)
    return answers.json(views.volume(made, volumes.data(made.name)), status=201)


async def remove(request: web.Request) -> web.StreamResponse:
    """DELETE /volumes/{name}."""
    await request.app[ENGINE].volumes.remove(request.match_info["name"], force=flag(request, "force"))
    return web.Response(status=204)


async def prune(request: web.Request) -> web.StreamResponse:
    """POST /volumes/prune: those of no container that nobody named; with all=true, and before API 1.42, any."""
    engine = request.app[ENGINE]
    wanted = checked(filters(request), "all", "label", "label!")
    everything = any(_truth(value, "all") for value in wanted.pop("all", []))
    version = request.match_info.get("version", answers.API_VERSION)
    everything = everything or int(version.partition(".")[2]) < 42
    gone, space = [], 0
    for one in engine.volumes.all():
        if engine.volumes.holders(one.name) or not (everything or one.anonymous):
            continue
        if selected(wanted, 0.0, one.labels):
            size = await asyncio.to_thread(engine.volumes.usage, one.name)
            with contextlib.suppress(NotFound, Conflict):  # removed, or taken by a container, meanwhile
                await engine.volumes.remove(one.name)
                gone.append(one.name)
                space += max(size, 0)
    engine.events.publish("volume", "prune", "", {"reclaimed": str(space)})
    return answers.json({"VolumesDeleted": gone or None, "SpaceReclaimed": space})


def _truth(text: str, name: str) -> bool:
    """The value of a filter that is on or off; raises InvalidParameter in Docker's words."""
    if text.lower() not in ("1", "true", "0", "false"):
        raise InvalidParameter(f"invalid filter '{name}={text}'", "Write true or false.")
    return text.lower() in ("1", "true")


_FILTERS: dict[str, Callable[[Engine, Volume, str], bool]] = {
    "name": lambda _, volume, value: value in volume.name,
    "driver": lambda _, volume, value: volume.driver == value,
    "dangling": lambda engine, volume, value: (
        _truth(value, "dangling") is not bool(engine.volumes.holders(volume.name))
    ),
    "label": lambda _, volume, value: selected({"label": [value]}, 0.0, volume.labels),
}


def _wanted(engine: Engine, volume: Volume, wanted: dict[str, list[str]]) -> bool:
    return all(
        (all if name == "label" else any)(_FILTERS[name](engine, volume, value) for value in values)
        for name, values in wanted.items()
    )
