"""Handlers for execs: make one, start it, look at it.

Rules: as in `containers.py`. A program that cannot be started is said on the stream where somebody is attached, as
Docker does, and in the answer where nobody is.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Exec
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from typing import Any

import msgspec
from aiohttp import web

from glassdock.containers import detach
from glassdock.containers.execs import Exec, ExecConfig, Execs
from glassdock.containers.streams import pair
from glassdock.daemon import answers, hijack
from glassdock.daemon.answers import ENGINE, number
from glassdock.errors import GlassdockError, InvalidParameter


class _Start(msgspec.Struct, frozen=True, rename="pascal"):
    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None


async def create(request: web.Request) -> web.StreamResponse:
    """POST /containers/{name}/exec."""
    config = ExecConfig.parse(await answers.document(request))
    made = request.app[ENGINE].execs.create(request.match_info["name"], config)
    return answers.json({"Id": made.id}, status=201)


async def start(request: web.Request) -> web.StreamResponse:
    """POST /exec/{id}/start."""
    execs, identity = request.app[ENGINE].execs, request.match_info["id"]
    try:
        asked = msgspec.json.decode(await request.read() or b"{}", type=_Start)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidParameter(f"invalid start of an exec: {error}") from error
    made = execs.check(identity)
    if asked.detach:
        await execs.start(identity, size=asked.console_size)
        return web.Response(status=200)
    ours, theirs = pair()
    # The head of the answer goes first, as with Docker: the SDK for Python loses output that comes together with it.
    starting = asyncio.create_task(_start(execs, made, theirs, asked))
    kind = hijack.stream_type(request.match_info.get("version", answers.API_VERSION), tty=asked.tty)
    keys = b""
    if made.config.tty and made.config.attach_stdin:
        with contextlib.suppress(InvalidParameter):  # Docker falls back to its own here
            keys = detach.parse("")
            keys = detach.parse(made.config.detach_keys)
    left = await hijack.splice(request, ours, kind, keys=keys)
    await starting
    if left:
        execs.detached(made)
    return web.Response()  # never sent: the transport is closed


async def _start(execs: Execs, made: Exec, client: int, asked: _Start) -> None:
    """Start it; a refusal is said on the stream. How the client reads is said with the start, as with Docker."""
    with socket.socket(fileno=os.dup(client)) as stream:
        try:
            await execs.start(made.id, client, size=asked.console_size, framed=not asked.tty)
        except GlassdockError as error:
            text = f"{error.message}\r\n".encode()
            stream.sendall(text if asked.tty else struct.pack(">BxxxL", 1, len(text)) + text)


async def resize(request: web.Request) -> web.StreamResponse:
    """POST /exec/{id}/resize."""
    execs, identity = request.app[ENGINE].execs, request.match_info["id"]
    await execs.resize(identity, number(request, "h", 0), number(request, "w", 0))
    return web.Response(status=200)


async def inspect(request: web.Request) -> web.StreamResponse:
    """GET /exec/{id}/json."""
    made = request.app[ENGINE].execs.get(request.match_info["id"])
    config, command = made.config, made.config.cmd or ("",)
    found: dict[str, Any] = {
        "ID": made.id,
        "Running": made.running,
        "ExitCode": made.exit_code,
        "ProcessConfig": {
            "tty": config.tty,
            "entrypoint": command[0],
            "arguments": list(command[1:]),
            "privileged": config.privileged,
            **({"user": config.user} if config.user else {}),
        },
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": made.exit_code is not None,
        "ContainerID": made.container.id,
        "DetachKeys": config.detach_keys,
        "Pid": made.process.pid if made.process else 0,
    }
    return answers.json(found)
