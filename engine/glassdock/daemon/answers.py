"""How the daemon answers: JSON, streams of JSON lines, and errors.

Interface:
- `ENGINE`: the key under which an application holds its engine.
- `json(value)`, `encode(value)`: a JSON body, a JSON line.
- `errors`: the one middleware that maps the tree of errors to responses.
- `Lines`: a stream of JSON lines that begins with its first line.
- `await document(request)`: the JSON that came.
- `flag`, `number`, `filters`: query parameters.

Rules: an unexpected exception is a 500 with its text and is logged with its traceback; nothing else logs errors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

from glassdock.engine import Engine
from glassdock.errors import BuildError, GlassdockError, InvalidParameter, NotModified, from_oserror, to_body

log = logging.getLogger("glassdock.daemon")
API_VERSION, MIN_API_VERSION = "1.47", "1.24"
ENGINE: web.AppKey[Engine] = web.AppKey("engine", Engine)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON body."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers
    )


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Map the tree of errors to the API's error bodies."""
    try:
        return await handler(request)
    except NotModified:
        return web.Response(status=304)
    except GlassdockError as error:
        return json(to_body(error), status=error.status)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):  # Docker's router tells no difference
        return json({"message": "page not found"}, status=404)
    except ConnectionResetError:
        return web.Response()  # the client has gone: nobody reads this
    except (web.HTTPException, asyncio.CancelledError):
        raise
    except OSError as error:
        log.exception("%s %s", request.method, request.path)
        known = from_oserror(error, "writing the engine's state")
        return json(to_body(known), status=known.status)
    except Exception as error:
        log.exception("%s %s", request.method, request.path)
        return json({"message": f"{type(error).__name__}: {error}"}, status=500)


class Lines:
    """A stream of JSON lines, one progress message each; an error after the first line becomes the last line."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response = web.StreamResponse(headers={"Content-Type": "application/json"})
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.Task[None] | None = None

    def __call__(self, message: dict[str, Any]) -> None:
        """Send a message; may be called from any thread."""
        line = msgspec.json.encode(message) + b"\r\n"
        try:
            inside = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            inside = False
        if inside:
            self._queue.put_nowait(line)
        else:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, line)

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool:
        started = self._response.prepared or not self._queue.empty()
        told = isinstance(error, GlassdockError) and started
        if told and isinstance(error, GlassdockError):
            detail = to_body(error)
            if isinstance(error, BuildError) and error.code:
                detail["code"] = error.code  # what `docker build` exits with
            self({"errorDetail": detail, "error": error.message})
        await asyncio.sleep(0)  # messages of worker threads that are already on their way
        self._queue.put_nowait(None)
        if self._writer is not None:
            await self._writer
        return told

    @property
    def response(self) -> web.StreamResponse:
        """What the handler returns after the `async with`."""
        return self._response if self._response.prepared else web.Response(content_type="application/json")

    async def _write(self) -> None:
        while (line := await self._queue.get()) is not None:
            if not self._response.prepared:
                await self._response.prepare(self._request)
            await self._response.write(line)
        if self._response.prepared:
            await self._response.write_eof()


async def document(request: web.Request) -> bytes:
    """The JSON document that a request brings; raises InvalidParameter where it says that it brings something else."""
    data = await request.read()
    if data and request.content_type != "application/json":
        kind = request.headers.get("Content-Type", "")
        raise InvalidParameter(f"unsupported Content-Type header ({kind}): must be 'application/json'")
    return data


def flag(request: web.Request, name: str, default: bool = False) -> bool:
    """A boolean query parameter, by Docker's rule: absent is the default; "", 0, no, false, none are false."""
    value = request.query.get(name)
    return default if value is None else value.strip().lower() not in ("", "0", "no", "false", "none")


def number(request: web.Request, name: str, default: int) -> int:
    """An integer query parameter; raises InvalidParameter."""
    value = request.query.get(name, "")
    if not value:
        return default
    try:
        return int(value)
    except ValueError:
        raise InvalidParameter(f"invalid value for {name}: {value!r}") from None


def filters(request: web.Request) -> dict[str, list[str]]:
    """The `filters` parameter: {"name": ["a"]}, or the old {"name": {"a": true}}; raises InvalidParameter."""
    text = request.query.get("filters", "")
    if not text:
        return {}
    try:
        read = msgspec.json.decode(text.encode(), type=dict[str, list[str] | dict[str, bool]])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidParameter(f"invalid filters: {error}") from error
    return {
        name: [v for v, on in values.items() if on] if isinstance(values, dict) else values
        for name, values in read.items()
    }


def encode(value: Any) -> bytes:
    """One JSON line."""
    return msgspec.json.encode(value) + b"\n"
