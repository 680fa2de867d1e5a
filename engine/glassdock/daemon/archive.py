"""Handlers for a container's files: `docker cp`, `docker diff`, `docker export`.

Rules: what is sent is read whole before the first byte goes, so that an error is a status and not half an archive; what
comes is unpacked beside and then copied in, as ADD does it.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container/operation/ContainerArchive
"""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import stat as modes
import tempfile
from pathlib import Path
from typing import IO, Any

import msgspec
from aiohttp import web

from glassdock.build import archive as archives
from glassdock.build import copying
from glassdock.containers.model import Container
from glassdock.daemon import answers, rooted, views
from glassdock.daemon.answers import ENGINE
from glassdock.daemon.rooted import Found, in_container
from glassdock.errors import Forbidden, InvalidParameter
from glassdock.images import layer
from glassdock.unionfs.rooted import in_roots

_CHUNK = 1 << 18
# Go's os.FileMode, which is not the kernel's.
_GO_KINDS = {
    modes.S_IFDIR: 1 << 31,
    modes.S_IFLNK: 1 << 27,
    modes.S_IFBLK: 1 << 26,
    modes.S_IFIFO: 1 << 25,
    modes.S_IFSOCK: 1 << 24,
    modes.S_IFCHR: 1 << 26 | 1 << 21,
}
_GO_BITS = {modes.S_ISUID: 1 << 23, modes.S_ISGID: 1 << 22, modes.S_ISVTX: 1 << 20}


async def stat(request: web.Request) -> web.StreamResponse:
    """HEAD /containers/{name}/archive: what is at a path, in a header."""
    engine = request.app[ENGINE]
    container = engine.containers.get(request.match_info["name"])
    path = _path(request)
    found = await in_container(engine, container, lambda root: rooted.look(root, path))
    return web.Response(headers=_described(found))


async def get(request: web.Request) -> web.StreamResponse:
    """GET /containers/{name}/archive: a file or folder as a tar."""
    engine = request.app[ENGINE]
    container = engine.containers.get(request.match_info["name"])
    path = _path(request)

    def read(root: int, spool: IO[bytes]) -> dict[str, str]:
        found = rooted.look(root, path)
        rooted.write(root, found, spool)
        return _described(found)

    with tempfile.TemporaryFile(dir=engine.paths.tmp) as spool:
        headers = await in_container(engine, container, lambda root: read(root, spool))
        engine.containers.event("archive-path", container, path=path)
        return await _send(request, spool, headers)


async def put(request: web.Request) -> web.StreamResponse:
    """PUT /containers/{name}/archive: unpack a tar in a directory of the container."""
    engine = request.app[ENGINE]
    container = engine.containers.get(request.match_info["name"])
    path = _path(request)
    with tempfile.TemporaryDirectory(dir=engine.paths.tmp, prefix="cp-") as folder:
        with tempfile.TemporaryFile(dir=engine.paths.tmp) as spool:
            async for chunk in request.content.iter_chunked(_CHUNK):
                spool.write(chunk)
            await asyncio.to_thread(_unpack, spool, Path(folder))
        try:
            await in_container(engine, container, lambda root: _copy_in(root, path, folder))
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            raise _read_only(container, path) from error
        engine.containers.event("extract-to-dir", container, path=path)
    return web.Response(status=200)


def _read_only(container: Container, path: str) -> Forbidden:
    """What of it cannot be written: the volume that the path is on, or the root."""
    inside = os.path.normpath("/" + path.lstrip("/")) + "/"
    if any(inside.startswith(point.destination + "/") for point in container.mounts if not point.writable):
        return Forbidden("mounted volume is marked read-only", "Copy by another container that may write to it.")
    return Forbidden("container rootfs is marked read-only", "Copy into a volume that can be written.")


def _unpack(spool: IO[bytes], folder: Path) -> None:
    size = spool.tell()
    content = archives.content(spool)
    if content is not None:
        layer.unpack(content, folder)
    elif size and not _empty(spool):
        raise InvalidParameter("the body is no tar archive", "Send a tar, plain or compressed.")


def _empty(spool: IO[bytes]) -> bool:
    """A tar without members is blocks of zeros."""
    spool.seek(0)
    return not spool.read(_CHUNK).strip(b"\0")


def _copy_in(root: int, path: str, folder: str) -> None:
    top = rooted.destination(root, path)
    try:
        source = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copying.merge(source, top)
        except ValueError as error:
            raise InvalidParameter(str(error)) from error
        finally:
            os.close(source)
    finally:
        os.close(top)


async def changes(request: web.Request) -> web.StreamResponse:
    """GET /containers/{name}/changes: `docker diff`; 0 changed, 1 added, 2 deleted."""
    engine = request.app[ENGINE]
    container = engine.containers.get(request.match_info["name"])
    found = await asyncio.to_thread(engine.changes_of, container.id)
    kinds = {path: 0 for path, _ in found.changed}
    kinds |= {path: 1 for path, _ in found.added} | {path: 2 for path, _ in found.deleted}
    for path in list(kinds):  # the folders on the way count as changed
        above = os.path.dirname(path)
        while above != "/" and above not in kinds:
            kinds[above] = 0
            above = os.path.dirname(above)
    return answers.json([{"Path": path, "Kind": kind} for path, kind in sorted(kinds.items())] or None)


async def export(request: web.Request) -> web.StreamResponse:
    """GET /containers/{name}/export: the whole root as a tar."""
    engine = request.app[ENGINE]
    container = engine.containers.get(request.match_info["name"])
    view = engine.snapshots.frozen(container.id)
    with tempfile.TemporaryFile(dir=engine.paths.tmp) as spool:
        await in_roots([view], engine.paths.tmp, lambda roots: rooted.whole(roots[0], spool))
        engine.containers.event("export", container)
        return await _send(request, spool, {})


async def _send(request: web.Request, spool: IO[bytes], headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-tar", **headers})
    await response.prepare(request)
    spool.seek(0)
    while data := await asyncio.to_thread(spool.read, _CHUNK):
        await response.write(data)
    await response.write_eof()
    return response


def _path(request: web.Request) -> str:
    path = request.query.get("path", "")
    if not path:
        raise InvalidParameter("bad parameter: path cannot be empty")
    return path


def _described(found: Found) -> dict[str, str]:
    status = found.status
    mode = modes.S_IMODE(status.st_mode) & 0o777 | _GO_KINDS.get(modes.S_IFMT(status.st_mode), 0)
    mode |= sum(go for bit, go in _GO_BITS.items() if status.st_mode & bit)
    row: dict[str, Any] = {
        "name": found.shown,
        "size": status.st_size,
        "mode": mode,
        "mtime": views.when(status.st_mtime_ns),
        "linkTarget": found.link,
    }
    return {"X-Docker-Container-Path-Stat": base64.b64encode(msgspec.json.encode(row)).decode()}
