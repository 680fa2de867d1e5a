"""The handler of `docker build`: the classic endpoint, a tar of the context in, JSON lines out.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image/operation/ImageBuild
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from aiohttp import web

from glassdock.build.options import BuildOptions
from glassdock.daemon.answers import ENGINE, Lines


async def build(request: web.Request) -> web.StreamResponse:
    """POST /build."""
    engine = request.app[ENGINE]
    query = {**request.query, "t": request.query.getall("t", [])}
    options = BuildOptions.from_query(query, request.headers.get("X-Registry-Config", ""))
    with tempfile.TemporaryDirectory(prefix="context-", dir=engine.paths.tmp) as folder:
        context = Path(folder)
        await engine.builder.receive(request.content.iter_chunked(1 << 20), context)
        async with Lines(request) as lines:
            image = await engine.builder.build(context, options, lines)
            engine.events.publish("image", "build", image, {"name": ", ".join(options.tags)})
    return lines.response
