"""What takes space, and giving it back: `docker system df`, `docker system prune` and its parts.

Interface: handlers of `GET /system/df` and of `POST /containers/prune`, `/images/prune`, `/build/prune`;
`checked` and `selected` for the filters of any prune, `uses_of` and `shared` for what images share.

Rules: what is in use stays, whatever was asked. Sizes are those of files, counted once; a layer counts as given back
only when it is gone.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/System/operation/SystemDataUsage
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import re
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from glassdock.daemon import answers, image_views, views
from glassdock.daemon.answers import ENGINE, filters
from glassdock.daemon.ps import size
from glassdock.engine import Engine
from glassdock.errors import Conflict, InvalidParameter, NotFound
from glassdock.images.model import Image
from glassdock.unionfs import trees

Filters = dict[str, list[str]]
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


async def df(request: web.Request) -> web.StreamResponse:
    """GET /system/df, of the kinds that `type` names."""
    engine = request.app[ENGINE]
    kinds = set(request.query.getall("type", [])) or {"container", "image", "volume", "build-cache"}
    found: dict[str, Any] = {}
    if "image" in kinds:
        images = engine.images.images()
        uses = uses_of(images)
        sizes = {layer.chain_id: layer.size for image in images for layer in image.layers}
        found |= {"LayersSize": sum(sizes.values()), "Images": [_image(engine, image, uses) for image in images]}
    if "container" in kinds:
        found["Containers"] = await asyncio.to_thread(_containers, engine)
    if "volume" in kinds:
        found["Volumes"] = await asyncio.to_thread(_volumes, engine)
    if "build-cache" in kinds:
        found["BuildCache"] = await asyncio.to_thread(_cache, engine)
        found["BuilderSize"] = sum(row["Size"] for row in found["BuildCache"])
    return answers.json(found)


def _image(engine: Engine, image: Image, uses: Counter[str]) -> dict[str, Any]:
    return image_views.summary(image, len(engine.containers.using(image.id)), shared=shared(image, uses))


def uses_of(images: Iterable[Image]) -> Counter[str]:
    """How many images have a layer, by chain id."""
    return Counter(layer.chain_id for image in images for layer in image.layers)


def shared(image: Image, uses: Counter[str]) -> int:
    """The size of the layers that other images have too."""
    return sum(layer.size for layer in image.layers if uses[layer.chain_id] > 1)


def _containers(engine: Engine) -> list[dict[str, Any]]:
    rows = []
    for container in engine.containers.all():
        if measured := size(engine, container):  # one that goes while we look has none
            rows.append(views.container_summary(container, engine.image_name(container)) | measured)
    return rows


def _volumes(engine: Engine) -> list[dict[str, Any]]:
    rows = []
    for one in engine.volumes.all():
        with contextlib.suppress(KeyError, OSError):  # one that goes while we look
            used = {"RefCount": len(engine.volumes.holders(one.name)), "Size": engine.volumes.usage(one.name)}
            rows.append(views.volume(one, engine.volumes.data(one.name)) | {"UsageData": used})
    return rows


def _cache(engine: Engine) -> list[dict[str, Any]]:
    rows = []
    for chain in sorted(engine.builder.cache.chains()):
        with contextlib.suppress(NotFound, OSError):
            folder = engine.snapshots.layer_path(chain)
            made = views.when(folder.parent.stat().st_mtime_ns)
            row: dict[str, Any] = {"ID": chain.removeprefix("sha256:"), "Parents": None, "Type": "regular"}
            row |= {
                "Description": "build step",
                "InUse": False,
                "Shared": False,
                "Size": trees.usage(folder),
                "UsageCount": 1,
            }
            rows.append(row | {"CreatedAt": made, "LastUsedAt": made})
    return rows


async def prune_containers(request: web.Request) -> web.StreamResponse:
    """POST /containers/prune: those that do not run."""
    engine = request.app[ENGINE]
    wanted = checked(filters(request), "until", "label", "label!")
    gone, space = [], 0
    for container in engine.containers.all():
        labels = container.config.labels or {}
        if container.state.running or not selected(wanted, container.created / 1e9, labels):
            continue
        with contextlib.suppress(NotFound, Conflict):  # started or removed by somebody else meanwhile
            size = await asyncio.to_thread(engine.snapshots.usage, container.id)
            await engine.containers.remove(container.id)
            gone.append(container.id)
            space += size
    engine.events.publish("container", "prune", "", {"reclaimed": str(space)})
    return answers.json({"ContainersDeleted": gone or None, "SpaceReclaimed": space})


async def prune_images(request: web.Request) -> web.StreamResponse:
    """POST /images/prune: those without a tag; with dangling=false all that no container was made from."""
    engine = request.app[ENGINE]
    wanted = checked(filters(request), "dangling", "until", "label", "label!")
    everything = wanted.pop("dangling", ["true"])[0].lower() in ("0", "false")
    rows: list[dict[str, str]] = []
    sizes: dict[str, int] = {}
    for image in engine.images.images():
        config = image.config
        named = bool(image.repo_tags) and not everything
        if named or engine.containers.using(image.id):
            continue
        if not selected(wanted, image_views.seconds(config.created), config.config.labels or {}):
            continue
        sizes |= {layer.chain_id: layer.size for layer in image.layers}
        with contextlib.suppress(NotFound, Conflict):
            rows += await engine.remove_image(image.id, force=True)
    space = sum(sizes.get(row.get("Deleted", ""), 0) for row in rows)
    for row in rows:
        for action, what in row.items():
            engine.events.publish("image", {"Untagged": "untag", "Deleted": "delete"}[action], what, {"name": what})
    engine.events.publish("image", "prune", "", {"reclaimed": str(space)})
    return answers.json({"ImagesDeleted": rows or None, "SpaceReclaimed": space})


async def prune_build(request: web.Request) -> web.StreamResponse:
    """POST /build/prune: the whole cache of the builder."""
    engine = request.app[ENGINE]
    held = {f"sha256:{row['ID']}": row["Size"] for row in await asyncio.to_thread(_cache, engine)}
    engine.builder.prune()
    await asyncio.to_thread(engine.images.sweep)
    gone = [chain for chain in held if not engine.snapshots.layer_path(chain).exists()]
    space = sum(held[chain] for chain in gone)
    engine.events.publish("builder", "prune", "", {"reclaimed": str(space)})
    caches = [chain.removeprefix("sha256:") for chain in gone]
    return answers.json({"CachesDeleted": caches or None, "SpaceReclaimed": space})


def checked(wanted: Filters, *known: str) -> Filters:
    """The filters, of which each is known; raises InvalidParameter."""
    for name in wanted:
        if name not in known:
            raise InvalidParameter(f"invalid filter '{name}'")
    return wanted


def selected(wanted: Filters, created: float, labels: dict[str, str]) -> bool:
    """Whether an object made at `created` (seconds) passes `until`, `label` and `label!`."""
    if any(created > _moment(text) for text in wanted.get("until", ())):
        return False
    if not all(_labelled(labels, text) for text in wanted.get("label", ())):
        return False
    return not any(_labelled(labels, text) for text in wanted.get("label!", ()))


def _labelled(labels: dict[str, str], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _moment(text: str) -> float:
    """Unix seconds of `1716912345`, of RFC 3339, or of how long ago it is (`24h`, `1h30m`)."""
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return time.time() - sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise InvalidParameter(f"invalid value for until: {text!r}", "Give a time, or an age such as 24h.") from None
