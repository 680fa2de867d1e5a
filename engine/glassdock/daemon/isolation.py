"""Where the daemon lives: root on the machine itself, anybody else in a user and a mount namespace of the engine's own.

Interface: `enter(paths, wanted)` → `Home`; `wanted` is one of `CHOICES`.

Rules: called once, holding the state folder's lock, before there are threads. The namespaces live as long as somebody
is in them: the daemon, or a container's shim. A daemon that finds a living shim joins it, or it could not look after
what the last one started. Files of a state folder are owned as its first daemon could own them, so that stays.

Sources: user_namespaces(7), unix(7) for SO_PEERCRED.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

from glassdock.errors import Conflict, NotSupported
from glassdock.linux import ids, refusals, rungs, userns
from glassdock.paths import Paths, atomic_write
from glassdock.runtime.launch import connect

CHOICES = ("auto", "root", "range", "single", "none")
_RUNGS = {"root": "root", "range": "userns-range", "single": "userns-single"}


@dataclass(frozen=True, slots=True)
class Home:
    """`level` is root, range or single; "" where no container can run here, and `refusal` says why."""

    level: str
    refusal: NotSupported | None = None


def enter(paths: Paths, wanted: str = "auto") -> Home:
    """Go where containers can be made, by the best rung that works, or stay where none does.

    Raises Conflict where the state folder was begun with another isolation than the one that is asked for.
    """
    if wanted == "none":
        return _images_only("this daemon was started with --isolation none", "Start it without that option.")
    wanted = _agreed(paths, wanted)
    if shim := _living_shim(paths):
        userns.join(shim)
        return Home(ids.mapping().kind)
    outcome = rungs.isolation(_RUNGS.get(wanted, ""))
    if outcome.level not in _RUNGS.values():
        cause, remedy = refusals.explain(outcome.step, outcome.errno, refusals.Facts.read())
        return _images_only(cause, remedy)
    rungs.enter(outcome.level)
    level = "root"
    if not ids.initial():
        userns.own_mounts()
        level = ids.mapping().kind
        atomic_write(paths.isolation, level.encode(), mode=0o644)
    return Home(level)


def _images_only(cause: str, remedy: str) -> Home:
    message = f"no container can run here: {cause}"
    return Home("", NotSupported(message, f"{remedy} Images and registries work without.".strip()))


def _agreed(paths: Paths, wanted: str) -> str:
    """What is wanted, or what the state folder was begun with."""
    kept = paths.isolation.read_text() if paths.isolation.exists() else ""
    if not kept or wanted == kept or (os.geteuid() == 0 and ids.initial()):
        return wanted
    if wanted == "auto":
        return kept
    raise Conflict(
        f"the state folder {paths.root} was begun with the isolation {kept}, and its files are owned accordingly",
        f"Use --isolation {kept}, or another state folder with --root.",
    )


def _living_shim(paths: Paths) -> int:
    """The process of a shim that is ours and lives in other namespaces than we do; 0 where there is none."""
    for folder in paths.containers.iterdir():
        try:
            with connect(folder / "run") as connection:
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, user = struct.unpack_from("iI", credentials)
            # Somebody else's namespaces are not to be trusted: whoever owns them chooses what is mounted there.
            if user == os.geteuid() and not os.path.samefile(f"/proc/{pid}/ns/user", "/proc/self/ns/user"):
                return int(pid)
        except OSError:
            continue  # it ended, or was never started
    return 0
