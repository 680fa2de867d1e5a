"""Handlers for images: `pull`, `push`, `images`, `history`, `tag`, `rmi`.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable

import msgspec
from aiohttp import web

from glassdock import trace
from glassdock.daemon import answers, disk, image_views, transport
from glassdock.daemon.answers import ENGINE, Lines, filters, flag
from glassdock.engine import Engine
from glassdock.errors import InvalidParameter
from glassdock.images.model import Image
from glassdock.images.pull import pull as pull_image
from glassdock.images.push import push as push_image
from glassdock.oci.reference import Reference
from glassdock.registry.auth import Credentials


async def ls(request: web.Request) -> web.StreamResponse:
    """GET /images/json, the newest first."""
    engine = request.app[ENGINE]
    images = engine.images.images()
    tests = [_test(engine, name, values) for name, values in filters(request).items()]
    uses = disk.uses_of(images) if flag(request, "shared-size") else None
    rows = [
        image_views.summary(
            image, len(engine.containers.using(image.id)), shared=-1 if uses is None else disk.shared(image, uses)
        )
        for image in images
        if all(test(image) for test in tests)
    ]
    return answers.json(sorted(rows, key=lambda row: -row["Created"]))


def _test(engine: Engine, name: str, values: list[str]) -> Callable[[Image], bool]:
    """One filter: any of its values is enough, but for labels and times. Raises InvalidParameter, NotFound."""
    if name == "reference":
        return lambda image: any(_named(tag, value) for tag in image.repo_tags for value in values)
    if name == "label":
        return lambda image: disk.selected({"label": values}, 0, image.config.config.labels or {})
    if name == "until":
        return lambda image: disk.selected({"until": values}, image_views.seconds(image.config.created), {})
    if name == "dangling":
        if values[0] not in ("true", "1", "false", "0"):
            raise InvalidParameter(f"invalid filter 'dangling=[{values[0]}]'", "It is true or false.")
        return lambda image: (values[0] in ("true", "1")) == (not image.repo_tags)
    if name in ("before", "since"):
        moments = [image_views.seconds(engine.images.get(value).config.created) for value in values]
        later = name == "since"
        return lambda image: all(
            (image_views.seconds(image.config.created) - moment) * (1 if later else -1) > 0 for moment in moments
        )
    raise InvalidParameter(f"invalid filter '{name}'")


def _named(tag: str, pattern: str) -> bool:
    """By the whole name or without its tag; a star does not reach over a slash, as in Docker's patterns."""
    for name in (tag, tag.rpartition(":")[0]):
        if name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern):
            return True
    return False


async def inspect(request: web.Request) -> web.StreamResponse:
    """GET /images/{name}/json."""
    engine = request.app[ENGINE]
    found = engine.images.get(request.match_info["name"])
    return answers.json(image_views.inspect(found, engine.snapshots.driver.name))


async def history(request: web.Request) -> web.StreamResponse:
    """GET /images/{name}/history."""
    return answers.json(image_views.history(request.app[ENGINE].images.get(request.match_info["name"])))


async def pull(request: web.Request) -> web.StreamResponse:
    """POST /images/create: a pull, or with `fromSrc` an import."""
    engine = request.app[ENGINE]
    if "fromSrc" in request.query:
        return await transport.bring(request)
    name, tag = request.query.get("fromImage", ""), request.query.get("tag", "")
    if tag:
        name += f"@{tag}" if ":" in tag else f":{tag}"
    reference = Reference.parse(name)
    credentials = Credentials.from_header(request.headers.get("X-Registry-Auth", ""))
    async with Lines(request) as lines:
        with trace.recording("daemon") as recording, trace.span("images.pull", image=reference.familiar()):
            image = await pull_image(
                engine.images,
                engine.registry,
                reference,
                progress=lines,
                credentials=credentials,
                platform=request.query.get("platform") or None,
            )
        if "Glassdock-Trace" in request.headers:  # a pull belongs to no container: whoever records gets its spans here
            lines({"aux": {"Spans": [msgspec.to_builtins(span) for span in recording.spans]}})
        engine.events.publish("image", "pull", reference.familiar(), {"name": image.id})
    return lines.response


async def push(request: web.Request) -> web.StreamResponse:
    """POST /images/{name}/push."""
    engine = request.app[ENGINE]
    name, tag = request.match_info["name"], request.query.get("tag", "")
    reference = Reference.parse(f"{name}:{tag}" if tag else name)
    engine.images.get(str(reference))
    credentials = Credentials.from_header(request.headers.get("X-Registry-Auth", ""))
    async with Lines(request) as lines:
        await push_image(engine.images, engine.registry, reference, progress=lines, credentials=credentials)
        engine.events.publish("image", "push", reference.familiar(), {})
    return lines.response


async def tag(request: web.Request) -> web.StreamResponse:
    """POST /images/{name}/tag."""
    engine = request.app[ENGINE]
    image = engine.images.get(request.match_info["name"])
    repo, name = request.query.get("repo", ""), request.query.get("tag", "")
    engine.images.tag(image, Reference.parse(f"{repo}:{name}" if name else repo))
    engine.events.publish("image", "tag", image.id, {"name": f"{repo}:{name}" if name else repo})
    return web.Response(status=201)


async def remove(request: web.Request) -> web.StreamResponse:
    """DELETE /images/{name}."""
    engine = request.app[ENGINE]
    rows = await engine.remove_image(request.match_info["name"], force=flag(request, "force"))
    for row in rows:
        for action, what in row.items():
            engine.events.publish("image", {"Untagged": "untag", "Deleted": "delete"}[action], what, {"name": what})
    return answers.json(rows)
