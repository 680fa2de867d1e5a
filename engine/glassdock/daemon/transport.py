"""Handlers that make images of what is here or was brought: `docker save`, `load`, `commit` and `import`.

Rules: what is sent is read whole before the first byte goes. `load` answers 200 and tells an error in its stream, as
Docker does. A commit takes the writable layer as it is: a running container is not paused.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import IO

from aiohttp import web

from glassdock.build import archive as archives
from glassdock.build.committing import Commit, commit_container, import_tar
from glassdock.containers.config import words
from glassdock.daemon import answers
from glassdock.daemon.answers import ENGINE, Lines
from glassdock.errors import Corrupt, GlassdockError, NotSupported, to_body
from glassdock.images import layer
from glassdock.images.saving import load as load_images
from glassdock.images.saving import save as save_images
from glassdock.oci import image as oci
from glassdock.oci.reference import Reference

_CHUNK = 1 << 18


async def save(request: web.Request) -> web.StreamResponse:
    """GET /images/{name}/get and GET /images/get?names=…"""
    engine = request.app[ENGINE]
    name = request.match_info.get("name")
    names = [name] if name else [one for text in request.query.getall("names", []) for one in text.split(",")]
    with tempfile.TemporaryFile(dir=engine.paths.tmp) as spool:
        await asyncio.to_thread(save_images, engine.images, names, spool, engine.paths.tmp)
        for one in names:
            engine.events.publish("image", "save", engine.images.get(one).id, {"name": one})
        response = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
        await response.prepare(request)
        spool.seek(0)
        while data := await asyncio.to_thread(spool.read, _CHUNK):
            await response.write(data)
        await response.write_eof()
    return response


async def load(request: web.Request) -> web.StreamResponse:
    """POST /images/load."""
    engine = request.app[ENGINE]
    async with Lines(request) as lines:
        with (
            tempfile.TemporaryFile(dir=engine.paths.tmp) as spool,
            tempfile.TemporaryDirectory(dir=engine.paths.tmp, prefix="load-") as folder,
        ):
            async for chunk in request.content.iter_chunked(_CHUNK):
                spool.write(chunk)
            try:
                await asyncio.to_thread(_unpack, spool, Path(folder))
                for key in await asyncio.to_thread(load_images, engine.images, Path(folder), lines):
                    engine.events.publish("image", "load", key, {"name": key})
            except GlassdockError as error:
                lines({"errorDetail": to_body(error), "error": error.message})
    return lines.response


def _unpack(spool: IO[bytes], folder: Path) -> None:
    content = archives.content(spool)
    if content is None:
        raise Corrupt("this is no archive of images: it is no tar")
    layer.unpack(content, folder)


async def commit(request: web.Request) -> web.StreamResponse:
    """POST /commit: a container's writable layer becomes an image."""
    engine, query = request.app[ENGINE], request.query
    container = engine.containers.get(query.get("container", ""))
    repo = query.get("repo", "")
    config = container.config
    asked = Commit(
        key=container.id,
        image=engine.images.get(container.image),
        config=oci.ContainerConfig(
            user=config.user or "",
            exposed_ports=config.exposed_ports,
            env=config.env,
            entrypoint=words(config.entrypoint) or None,
            cmd=words(config.cmd) or None,
            volumes=config.volumes,
            working_dir=config.working_dir or "",
            labels=config.labels,
            stop_signal=config.stop_signal or "",
            healthcheck=config.healthcheck,
            on_build=config.on_build,
            shell=config.shell,
        ),
        created_by=" ".join(container.argv),
        author=query.get("author", ""),
        comment=query.get("comment", ""),
        changes=_changes(request),
        tags=_tags(request),
    )
    image = await commit_container(engine.images, asked)
    engine.events.publish("container", "commit", container.id, {"imageID": image.id, "imageRef": repo})
    return answers.json({"Id": image.id}, status=201)


async def bring(request: web.Request) -> web.StreamResponse:
    """POST /images/create with `fromSrc`: `docker import`."""
    engine = request.app[ENGINE]
    if request.query["fromSrc"] != "-":
        raise NotSupported("importing from a URL is not supported yet", "Fetch it, and import the file.")
    async with Lines(request) as lines:
        with tempfile.TemporaryFile(dir=engine.paths.tmp) as spool:
            async for chunk in request.content.iter_chunked(_CHUNK):
                spool.write(chunk)
            message = request.query.get("message") or "Imported from -"
            image = await import_tar(engine.images, spool, _changes(request), message, _tags(request))
        engine.events.publish("image", "import", image.id, {"name": image.id})
        lines({"status": image.id})
    return lines.response


def _changes(request: web.Request) -> tuple[str, ...]:
    texts = request.query.getall("changes", [])
    return tuple(line for text in texts for line in text.splitlines() if line.strip())


def _tags(request: web.Request) -> tuple[Reference, ...]:
    repo, tag = request.query.get("repo", ""), request.query.get("tag", "")
    return (Reference.parse(f"{repo}:{tag}" if tag else repo),) if repo else ()
