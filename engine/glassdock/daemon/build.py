"""The handlers of `docker build`: the classic endpoint, a tar of the context in, JSON lines out; and how it went.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image/operation/ImageBuild
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path

import msgspec
from aiohttp import web

from glassdock.build.options import BuildOptions
from glassdock.daemon import answers
from glassdock.daemon.answers import ENGINE, Lines
from glassdock.errors import NotFound

_LOOK = 0.2  # seconds between two looks for the client


async def build(request: web.Request) -> web.StreamResponse:
    """POST /build."""
    engine = request.app[ENGINE]
    query = {**request.query, **{name: request.query.getall(name, []) for name in ("t", "extrahosts", "securityopt")}}
    options = BuildOptions.from_query(query, request.headers.get("X-Registry-Config", ""))
    folder = Path(tempfile.mkdtemp(prefix="context-", dir=engine.paths.tmp))
    try:
        (context := folder / "context").mkdir(0o755)  # a step's user looks at it, this machine's users do not
        if options.remote and options.remote != "client-session":
            await engine.builder.fetch(options.remote, context)
        else:
            await engine.builder.receive(request.content.iter_chunked(1 << 20), context)
        async with Lines(request) as lines:
            image = await _while_connected(request, engine.builder.build(context, options, lines))
            engine.events.publish("image", "build", image, {"name": ", ".join(options.tags)})
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)
    return lines.response


async def _while_connected(request: web.Request, build: Coroutine[None, None, str]) -> str:
    """Carry out the build, and stop it when the client goes away: Ctrl-C ends a `docker build`."""
    task = asyncio.create_task(build)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=_LOOK)
            if request.transport is None:
                raise ConnectionResetError("the client went away")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


async def record(request: web.Request) -> web.StreamResponse:
    """GET /glassdock/builds/{name}: which line of the Dockerfile made which layer, how, and why not from the cache."""
    engine = request.app[ENGINE]
    image = engine.images.get(request.match_info["name"])
    found = engine.builder.record(image.id)
    if found is None:
        raise NotFound(f"{request.match_info['name']} was not built here")
    return answers.json(msgspec.to_builtins(found))


async def trace(request: web.Request) -> web.StreamResponse:
    """GET /glassdock/builds/{name}/trace: the spans of its last build, times in ns of CLOCK_MONOTONIC."""
    engine = request.app[ENGINE]
    image = engine.images.get(request.match_info["name"])
    return answers.json(
        {"id": image.id, "spans": [msgspec.to_builtins(span) for span in engine.builder.spans(image.id)]}
    )
