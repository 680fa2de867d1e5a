"""Handlers for images: `pull`, `push`, `images`, `history`, `tag`, `rmi`.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from glassdock import trace
from glassdock.daemon import answers, transport, views
from glassdock.daemon.answers import ENGINE, Lines, filters, flag
from glassdock.errors import InvalidParameter
from glassdock.images.model import Image
from glassdock.images.pull import pull as pull_image
from glassdock.images.push import push as push_image
from glassdock.oci.reference import Reference
from glassdock.registry.auth import Credentials


async def ls(request: web.Request) -> web.StreamResponse:
    """GET /images/json."""
    engine = request.app[ENGINE]
    wanted = filters(request)
    rows = []
    for image in engine.images.images():
        if all(_match(image, name, values) for name, values in wanted.items()):
            rows.append(views.image_summary(image, len(engine.containers.using(image.id))))
    return answers.json(sorted(rows, key=lambda row: -row["Created"]))


def _match(image: Image, name: str, values: list[str]) -> bool:
    labels = image.config.config.labels or {}
    tests: dict[str, Callable[[str], bool]] = {
        "reference": lambda value: any(_named(tag, value) for tag in image.repo_tags),
        "dangling": lambda value: (value in ("true", "1")) == (not image.repo_tags),
        "label": lambda value: (
            value.partition("=")[0] in labels
            and ("=" not in value or labels[value.partition("=")[0]] == value.partition("=")[2])
        ),
    }
    if name not in tests:
        raise InvalidParameter(f"invalid filter '{name}'")
    return any(tests[name](value) for value in values)


def _named(tag: str, pattern: str) -> bool:
    import fnmatch

    return fnmatch.fnmatchcase(tag, pattern) or fnmatch.fnmatchcase(tag.rpartition(":")[0], pattern)


async def inspect(request: web.Request) -> web.StreamResponse:
    """GET /images/{name}/json."""
    return answers.json(views.image_inspect(request.app[ENGINE].images.get(request.match_info["name"])))


async def history(request: web.Request) -> web.StreamResponse:
    """GET /images/{name}/history."""
    return answers.json(views.history(request.app[ENGINE].images.get(request.match_info["name"])))


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
