"""The daemon's life: one instance, its socket, its end.

Interface: `serve(socket, root, registry_port, wanted)`: blocks until SIGTERM or SIGINT.

Rules: one daemon a state folder, held by a lock that dies with the process; a socket that nobody answers on is
stale and replaced. On SIGTERM running containers run on, their shims hold them, and the next daemon finds them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
from pathlib import Path

import filelock
from aiohttp import web

from glassdock.daemon import isolation
from glassdock.daemon.app import application
from glassdock.daemon.isolation import Home
from glassdock.engine import Engine
from glassdock.errors import Conflict, Forbidden, from_oserror
from glassdock.paths import Paths

_PATIENCE = 3.0  # seconds: a daemon that was told to stop may still be at it
_GC_AFTER = 20_000  # new objects; every container keeps its trace, so a collection costs more with each of them
log = logging.getLogger("glassdock.daemon")


def serve(socket: Path, root: Path, registry_port: int, wanted: str = "auto") -> None:
    """Run the daemon; raises Conflict where one runs already on this state folder, StorageFull or Forbidden.

    `wanted` is the isolation of its containers: one of `isolation.CHOICES`.
    """
    paths = Paths.of(root)
    try:
        paths.make()
        socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(socket.parent)
        lock = filelock.FileLock(paths.root / "daemon.lock", mode=0o600)
        lock.acquire(timeout=_PATIENCE)
    except filelock.Timeout:
        raise Conflict(
            f"a daemon already runs on the state folder {root}",
            f"Use it (its socket is {_socket_of(paths) or socket}), or give this one another --root.",
        ) from None
    except OSError as error:
        raise from_oserror(error, f"opening the state folder {root}") from error
    with lock:
        (paths.root / "daemon.json").write_text(str(socket))
        home = isolation.enter(paths, wanted)
        asyncio.run(_serve(socket, paths, registry_port, home))


async def _serve(socket: Path, paths: Paths, registry_port: int, home: Home) -> None:
    # A container costs the daemon a descriptor (its network namespace), an attached client two more.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with Engine.open(paths, registry_port, home.refusal) as engine:
        runner = web.AppRunner(application(engine), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await _listen(runner, socket)
            log.info("listening on %s, state in %s, registry on %s", socket, paths.root, engine.registry_address)
            log.info("isolation: %s", home.level or home.refusal)
            gc.collect()
            gc.freeze()  # what is loaded by now stays: the collector need not look at it during a start
            gc.set_threshold(_GC_AFTER)
            await stopping.wait()
        finally:
            await runner.cleanup()
            socket.unlink(missing_ok=True)


def _check_owner(folder: Path) -> None:
    """Raise Forbidden where somebody else made the folder first: in /tmp anybody can, and would own the socket."""
    owner = folder.stat().st_uid
    if os.geteuid() != 0 and owner not in (os.geteuid(), 0):
        raise Forbidden(
            f"the socket's folder {folder} belongs to user {owner}, not to you",
            "Choose another place with --socket or $GLASSDOCK_HOST.",
        )


async def _listen(runner: web.AppRunner, socket: Path) -> None:
    """Listen on the socket, mode 0600 from its first moment."""
    socket.unlink(missing_ok=True)  # we hold the lock: whoever made it is dead
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(socket)).start()
    finally:
        os.umask(before)


def _socket_of(paths: Paths) -> str:
    try:
        return (paths.root / "daemon.json").read_text()
    except OSError:
        return ""
