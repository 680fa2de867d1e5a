"""Starting the daemon where none answers.

Interface:
- `ensure(socket)`: return once an engine answers on `socket`, starting one if need be.
- `log_path(socket)`: where the started daemon writes.

Rules: the daemon lives in a session of its own, so that neither an interrupt nor the end of its starter reaches it.
Two clients that start at once start one daemon: a file lock beside the socket. A stale socket is not removed here:
the new daemon, which holds the state folder's lock, knows that nobody else can be behind it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from glassdock import errors
from glassdock.client import wire

_PATIENCE = 30.0
_PERIOD = 0.01


def ensure(socket: Path) -> None:
    """Return once an engine answers on `socket`. Raises `Unavailable` with the log's last words if none comes up."""
    if wire.ping(socket):
        return
    from filelock import FileLock

    try:
        socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() != 0 and socket.parent.stat().st_uid not in (0, os.geteuid()):
            raise errors.Forbidden(
                f"the folder {socket.parent} belongs to another user", "Choose another socket with GLASSDOCK_HOST."
            )
        lock = FileLock(socket.with_suffix(".lock"))
        with lock:
            if not wire.ping(socket):
                _start(socket)
    except OSError as error:
        raise errors.from_oserror(error, f"starting the engine on {socket}") from error


def log_path(socket: Path) -> Path:
    """The log of a daemon that was started on demand: next to its socket."""
    return socket.with_suffix(".log")


def _start(socket: Path) -> None:
    log = log_path(socket)
    with open(log, "ab") as out:
        began = out.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "glassdock", "daemon", "--socket", str(socket)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd="/",
            start_new_session=True,
            # The starter may sit in a learner's folder: nothing there may shadow the engine's modules.
            env=os.environ | {"PYTHONSAFEPATH": "1"},
        )
    # The starter may live for days (a kernel): somebody has to collect the daemon if it dies before.
    threading.Thread(target=process.wait, name="glassdock-daemon-reaper", daemon=True).start()
    deadline = time.monotonic() + _PATIENCE
    while not wire.ping(socket):
        if process.poll() is not None:
            raise errors.Unavailable(
                f"the engine did not start: {_last_words(log, began)}",
                f"Run `glassdock daemon --socket {socket}` to watch it; `glassdock doctor` shows what is missing.",
            )
        if time.monotonic() > deadline:
            raise errors.Unavailable(f"the engine did not answer within {_PATIENCE:.0f} seconds", f"Its log is {log}.")
        time.sleep(_PERIOD)


def _last_words(log: Path, began: int) -> str:
    """The last lines of this start's log as one sentence."""
    with open(log, "rb") as file:
        file.seek(began)
        lines = [line.strip() for line in file.read()[-8192:].decode(errors="replace").splitlines()]
    spoken = [line for line in lines if line and not line.startswith(("File ", "^", "Traceback"))]
    return " / ".join(spoken[-2:]) or "it ended without a word"
