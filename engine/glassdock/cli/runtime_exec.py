"""`glassdock-runtime exec`: one more program in a container, with a terminal or without, waited for or not.

Interface: `exec_(call)`: the exit code is the program's.

Rules: what the line does not say is the container's own process': its environment, user, directory, limits.
Source: runc-exec(8)
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import msgspec

from glassdock.cli.runtime_life import keeper, place_of, tell_process, wait
from glassdock.cli.runtime_log import Log
from glassdock.cli.runtime_words import Call
from glassdock.errors import GlassdockError, InvalidParameter, NotFound
from glassdock.oci import runtime as oci
from glassdock.runtime import bundle_exec, bundle_sockets


def exec_(call: Call) -> int:
    """Run one more program."""
    options = call.options
    place = place_of(call)
    running = bundle_exec.find(place, ignore_paused=bool(options["ignore-paused"]))
    own = running.spec.process or oci.Process()
    process = _from_file(str(options["process"])) if options["process"] else _from_line(call, own)
    if not process.args or not process.args[0]:
        raise InvalidParameter("process args cannot be empty")
    outer: list[int] = []
    console = _console(call, process, outer)
    preserved = int(options["preserve-fds"] or 0)
    pid, warnings = bundle_exec.begin(running, process, console=console, preserved=preserved, inner=options["cgroup"])
    Log(call).note(warnings)
    try:
        tell_process(call, pid)
    except (GlassdockError, OSError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return 0 if options["detach"] else wait(pid, outer[0] if outer else -1)


def _console(call: Call, process: oci.Process, outer: list[int]) -> Callable[[int], None] | None:
    path, stays = str(call.options["console-socket"]), not call.options["detach"]
    if process.terminal and not stays and not path:
        raise InvalidParameter("cannot allocate tty if glassdock-runtime will detach without setting console socket")
    if path and not (process.terminal and not stays):
        raise InvalidParameter("cannot use console socket if glassdock-runtime will not detach or allocate tty")
    if path:
        return bundle_sockets.console_of(path)
    return keeper(outer) if process.terminal else None


def _from_file(path: str) -> oci.Process:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=oci.Process)
    except FileNotFoundError:
        raise NotFound(f"open {path}: no such file or directory") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"{path} is not the specification's process: {error}") from error


def _from_line(call: Call, own: oci.Process) -> oci.Process:
    """The container's process with what the line changes."""
    options = call.options
    changes: dict[str, Any] = {
        "args": tuple(call.arguments[1:]),
        "terminal": bool(options["tty"]),
        "console_size": None,
    }
    if options["cwd"]:
        changes["cwd"] = str(options["cwd"])
    if options["env"]:
        changes["env"] = (*own.env, *options["env"])
    if options["apparmor"]:
        changes["apparmor_profile"] = str(options["apparmor"])
    if options["process-label"]:
        changes["selinux_label"] = str(options["process-label"])
    if options["no-new-privs"]:
        changes["no_new_privileges"] = True
    if options["cap"]:
        changes["capabilities"] = _more(own.capabilities or oci.Capabilities(), tuple(options["cap"]))
    if options["user"] or options["additional-gids"]:
        changes["user"] = _user(own.user, str(options["user"]), options["additional-gids"])
    if changes["terminal"] and not any(entry.startswith("TERM=") for entry in changes.get("env", own.env)):
        changes["env"] = (*changes.get("env", own.env), f"TERM={os.environ.get('TERM', 'xterm')}")
    return msgspec.structs.replace(own, **changes)


def _more(own: oci.Capabilities, names: tuple[str, ...]) -> oci.Capabilities:
    # Ambient ones have to be inheritable too: without any in the specification these stay empty (2022-29162).
    sets = ("bounding", "effective", "permitted", *(["ambient"] if own.inheritable else []))
    return msgspec.structs.replace(own, **{word: tuple(dict.fromkeys((*getattr(own, word), *names))) for word in sets})


def _user(own: oci.User, word: str, more: list[str]) -> oci.User:
    changes: dict[str, Any] = {}
    uid, colon, gid = word.partition(":")
    if word:
        changes["uid"] = _number(uid, "uid")
    if colon:
        changes["gid"] = _number(gid, "gid")
    if more:
        changes["additional_gids"] = (*own.additional_gids, *(_number(text, "gid") for text in more))
    return msgspec.structs.replace(own, **changes)


def _number(text: str, kind: str) -> int:
    if not text.isdecimal():
        raise InvalidParameter(f"parsing {text} as int for {kind} failed: invalid syntax")
    return int(text)
