"""Handlers for containers: the verbs of `docker run`, `logs`, `stop` and their kin.

Rules: a handler reads the request, calls one verb of `Engine.containers`, and shapes the answer; nothing is
decided here.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container
"""

from __future__ import annotations

import asyncio
import os
import struct
import time

from aiohttp import web

from glassdock.containers import detach, logging
from glassdock.containers import top as processes
from glassdock.containers.config import CreateRequest
from glassdock.containers.logs import Entry, LogQuery, read
from glassdock.containers.model import Container, Status
from glassdock.containers.streams import Streams, pair
from glassdock.daemon import answers, hijack, views
from glassdock.daemon.answers import ENGINE, flag, number
from glassdock.daemon.ps import size
from glassdock.errors import Conflict, InvalidParameter


async def create(request: web.Request) -> web.StreamResponse:
    """POST /containers/create."""
    asked = CreateRequest.parse(await answers.document(request))
    made, warnings = await request.app[ENGINE].containers.create(asked, request.query.get("name", ""))
    return answers.json({"Id": made.id, "Warnings": warnings}, status=201)


async def start(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/start."""
    await request.app[ENGINE].containers.start(request.match_info["name"])
    return web.Response(status=204)


async def stop(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/stop."""
    grace = number(request, "t", -2)
    await request.app[ENGINE].containers.stop(
        request.match_info["name"],
        grace=None if grace == -2 else grace,
        signal_name=request.query.get("signal", ""),
    )
    return web.Response(status=204)


async def restart(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/restart."""
    grace = number(request, "t", -2)
    await request.app[ENGINE].containers.restart(
        request.match_info["name"],
        grace=None if grace == -2 else grace,
        signal_name=request.query.get("signal", ""),
    )
    return web.Response(status=204)


async def pause(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/pause."""
    await request.app[ENGINE].containers.pause(request.match_info["name"])
    return web.Response(status=204)


async def unpause(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/unpause."""
    await request.app[ENGINE].containers.unpause(request.match_info["name"])
    return web.Response(status=204)


async def top(request: web.Request) -> web.StreamResponse:
    """GET /containers/{name}/top."""
    engine = request.app[ENGINE]
    container = engine.containers.get(request.match_info["name"])
    if container.state.status is Status.RESTARTING:
        raise Conflict(f"container {container.id} is restarting, wait until the container is running")
    if not container.state.running:
        raise Conflict(f"container {container.id} is not running")
    pids = processes.processes(container, engine.paths.tag)
    titles, rows = processes.table(pids, request.query.get("ps_args", "-ef"))
    engine.containers.event("top", container)
    return answers.json({"Titles": titles, "Processes": rows})


async def kill(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/kill."""
    await request.app[ENGINE].containers.kill(request.match_info["name"], request.query.get("signal") or "KILL")
    return web.Response(status=204)


async def wait(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/wait: the headers go at once, the body comes with the end."""
    containers = request.app[ENGINE].containers
    name, condition = request.match_info["name"], request.query.get("condition", "not-running")
    ending = asyncio.ensure_future(containers.wait(name, condition))
    await asyncio.sleep(0)  # a wrong name or condition is an error before any header
    if ending.done() and ending.exception() is not None:
        ending.result()
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Api-Version": answers.API_VERSION})
    try:
        await response.prepare(request)
        code = await ending
    finally:
        ending.cancel()
    await response.write(answers.encode({"StatusCode": code}))
    await response.write_eof()
    return response


async def remove(request: web.Request) -> web.StreamResponse:
    """DELETE /containers/{name}."""
    await request.app[ENGINE].containers.remove(
        request.match_info["name"], force=flag(request, "force"), volumes=flag(request, "v")
    )
    return web.Response(status=204)


async def rename(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/rename."""
    name = request.query.get("name", "")
    if not name:
        raise InvalidParameter("Neither old nor new names may be empty")
    await request.app[ENGINE].containers.rename(request.match_info["name"], name)
    return web.Response(status=204)


async def resize(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/resize."""
    await request.app[ENGINE].containers.resize(
        request.match_info["name"], number(request, "h", 24), number(request, "w", 80)
    )
    return web.Response(status=200)


async def inspect(request: web.Request) -> web.StreamResponse:
    """GET /containers/{name}/json."""
    engine = request.app[ENGINE]
    containers = engine.containers
    found = containers.get(request.match_info["name"])
    shown = views.container_inspect(found, containers.folder(found), containers.log_path(found))
    shown |= views.driver(engine.snapshots.driver.name, engine.snapshots.mount_of(found.id), found.state.pid)
    if flag(request, "size"):
        shown |= await asyncio.to_thread(size, engine, found)
    shown["ExecIDs"] = engine.execs.of(found) or None
    return answers.json(shown)


async def attach(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/attach."""
    engine = request.app[ENGINE]
    container = engine.containers.get(request.match_info["name"])
    streams = Streams(stdin=flag(request, "stdin"), stdout=flag(request, "stdout"), stderr=flag(request, "stderr"))
    keys = detach.parse(request.query.get("detachKeys", "")) if streams.stdin and container.config.tty else b""
    earlier = b""
    if flag(request, "logs") and (streams.stdout or streams.stderr):
        query = LogQuery(stdout=streams.stdout, stderr=streams.stderr)
        entries = read(engine.containers.log_path(container), query, lambda: False)
        earlier = b"".join([_framed(container, entry, query) async for entry in entries])
    if flag(request, "stream"):
        descriptor = await engine.containers.attach(container.id, streams)
    else:  # only what was written so far: a stream that is at its end
        descriptor, ended = pair()
        os.close(ended)
    if await hijack.splice(request, descriptor, content_type(request, container), earlier, keys=keys):
        engine.containers.event("detach", container)
    return web.Response()  # never sent: the transport is closed


def _framed(container: Container, entry: Entry, query: LogQuery) -> bytes:
    """An entry of the log as the stream has it: raw with a terminal, else in a frame."""
    text = entry.text(query)
    if container.config.tty:
        return text
    return struct.pack(">BxxxL", 2 if entry.stream == "stderr" else 1, len(text)) + text


async def logs(request: web.Request) -> web.StreamResponse:
    """GET /containers/{name}/logs."""
    engine = request.app[ENGINE]
    container = engine.containers.get(request.match_info["name"])
    query = log_query(request)
    logging.readable(container)
    response = web.StreamResponse(headers={"Content-Type": content_type(request, container)})
    await response.prepare(request)
    async for entry in read(engine.containers.log_path(container), query, lambda: container.state.running):
        await response.write(_framed(container, entry, query))
    await response.write_eof()
    return response


def log_query(request: web.Request) -> LogQuery:
    """The query of `logs`; raises InvalidParameter where no stream is chosen, as Docker does."""
    stdout, stderr = flag(request, "stdout"), flag(request, "stderr")
    if not stdout and not stderr:
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    tail = request.query.get("tail", "all")
    return LogQuery(
        stdout=stdout,
        stderr=stderr,
        follow=flag(request, "follow"),
        tail=int(tail) if tail.isdigit() else -1,
        since=_moment(request, "since"),
        until=_moment(request, "until"),
        timestamps=flag(request, "timestamps"),
        details=flag(request, "details"),
    )


def _moment(request: web.Request, name: str) -> float:
    text = request.query.get(name, "") or "0"
    try:
        moment = float(text)
    except ValueError:
        raise InvalidParameter(f"invalid value for {name}: {text!r}", "Give Unix seconds.") from None
    return moment if moment >= 0 else time.time() + moment


def content_type(request: web.Request, container: Container) -> str:
    """Raw with a terminal; framed without, under its own name from API 1.42."""
    version = request.match_info.get("version", answers.API_VERSION)
    return hijack.stream_type(version, tty=container.config.tty)
