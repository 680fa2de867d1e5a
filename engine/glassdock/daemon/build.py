"""The handler of `docker build`: the classic endpoint, a tar of the context in, JSON lines out.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image/operation/ImageBuild
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from aiohttp import web

from glassdock.daemon.answers import ENGINE, Lines
from glassdock.errors import NotSupported


async def build(request: web.Request) -> web.StreamResponse:
    """POST /build."""
    engine = request.app[ENGINE]
    if request.query.get("version") == "2":
        raise NotSupported("this engine has no BuildKit", "Set DOCKER_BUILDKIT=0; the classic endpoint builds.")
    options = engine.build_options(dict(request.query), request.headers.get("X-Registry-Config", ""))
    with tempfile.TemporaryDirectory(prefix="context-", dir=engine.paths.tmp) as folder:
        context = Path(folder)
        await engine.receive_context(request.content.iter_chunked(1 << 20), context)
        async with Lines(request) as lines:
            await engine.build(context, options, lines)
    return lines.response
