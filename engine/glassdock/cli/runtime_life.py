"""The verbs of `glassdock-runtime` that a container lives by: create, run, start, state, kill, delete, pause, resume.

Interface: one function a verb; it takes the `Call`, and returns the exit code.
Source: runc(8)
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import msgspec

from glassdock.cli.runtime_log import Log
from glassdock.cli.runtime_words import Call
from glassdock.errors import GlassdockError, InvalidParameter, NotFound
from glassdock.runtime import bundle, bundle_sockets, bundle_state
from glassdock.runtime.bundle import Wishes
from glassdock.runtime.bundle_state import Place, Record

_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGALRM", "SIGWINCH")


def create(call: Call) -> int:
    """Make a container that waits for `start`."""
    found = bundle.load(str(call.options["bundle"]) or ".")
    terminal = bool(found.spec.process and found.spec.process.terminal)
    _check_console(call, terminal=terminal, stays=False)
    log = Log(call)
    log.explain(lambda: bundle.explain(found))
    record, warnings = bundle.create(place_of(call), found, wishes_of(call))
    log.note(warnings)
    try:
        tell_process(call, record.pid)
    except (GlassdockError, OSError):
        bundle.delete(place_of(call), force=True)
        raise
    return 0


def run(call: Call) -> int:
    """Create, start, wait, delete; the exit code is the container's."""
    place = place_of(call)
    found = bundle.load(str(call.options["bundle"]) or ".")
    terminal = bool(found.spec.process and found.spec.process.terminal)
    stays = not call.options["detach"]
    _check_console(call, terminal=terminal, stays=stays)
    outer: list[int] = []
    wishes = wishes_of(call)
    if terminal and not call.options["console-socket"]:
        wishes = msgspec.structs.replace(wishes, console=keeper(outer))
    log = Log(call)
    log.explain(lambda: bundle.explain(found))
    record, warnings = bundle.create(place, found, wishes)
    log.note(warnings)
    try:
        tell_process(call, record.pid)
        log.note(bundle.start(place))
    except (GlassdockError, OSError):
        bundle.delete(place, force=True)
        raise
    if not stays:
        return 0
    code = wait(record.pid, outer[0] if outer else -1)
    if not call.options["keep"]:
        log.note(bundle.delete(place, force=True))
    return code


def start(call: Call) -> int:
    """Let the program of a created container begin."""
    Log(call).note(bundle.start(place_of(call)))
    return 0


def state(call: Call) -> int:
    """Show the state of a container."""
    place = place_of(call)
    show(bundle_state.state(place, place.read()))
    return 0


def kill(call: Call) -> int:
    """Send a signal, SIGTERM if none is named."""
    place = place_of(call)
    place.read()  # that it is not there is said before what is wrong with the signal
    word = call.arguments[1] if len(call.arguments) > 1 else "SIGTERM"
    bundle.kill(place, _signal(word), everything=bool(call.options["all"]))
    return 0


def delete(call: Call) -> int:
    """Remove a stopped container."""
    place = place_of(call)
    force = bool(call.options["force"])
    try:
        Log(call).note(bundle.delete(place, force=force))
    except NotFound:
        place.remove()  # a create that was cut off before it wrote anything
        if not force:
            raise
    return 0


def pause(call: Call) -> int:
    """Stop all processes where they are."""
    bundle.freeze(place_of(call), frozen=True)
    return 0


def resume(call: Call) -> int:
    """Let paused processes go on."""
    bundle.freeze(place_of(call), frozen=False)
    return 0


def place_of(call: Call) -> Place:
    """The container that the line names."""
    return Place(os.path.abspath(str(call.settings["root"])), call.arguments[0])


def record_of(call: Call) -> Record:
    """Its record; raises NotFound."""
    return place_of(call).read()


def wishes_of(call: Call) -> Wishes:
    """What the options of `create` and `run` say about the making."""
    options = call.options
    return Wishes(
        console=bundle_sockets.console_of(str(options["console-socket"])),
        preserved=int(options["preserve-fds"] or 0),
        pivot=not options["no-pivot"],
        keyring=not options["no-new-keyring"],
    )


def tell_process(call: Call, pid: int) -> None:
    """Write the file that `--pid-file` names, hand the process to who listens at `--pidfd-socket`."""
    bundle_sockets.send_pidfd(str(call.options["pidfd-socket"]), pid)
    if call.options["pid-file"]:
        bundle_state.write_at_once(str(call.options["pid-file"]), str(pid).encode())


def keeper(outer: list[int]) -> Callable[[int], None]:
    """What takes a terminal's outer end for `wait`, before the program begins."""

    def keep(terminal: int) -> None:
        from glassdock.cli.runtime_terminal import leave_newlines

        leave_newlines(terminal)
        outer.append(terminal)

    return keep


def wait(pid: int, terminal: int = -1) -> int:
    """Pass signals on, and what the terminal says, until it ends; 128+n for an end by signal n."""
    if terminal >= 0:
        from glassdock.cli.runtime_terminal import relay

        status = relay(pid, terminal)
    else:
        for name in _PASSED_ON:
            signal.signal(getattr(signal, name), lambda number, _: _pass_on(pid, number))
        status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _pass_on(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has just ended


def _check_console(call: Call, *, terminal: bool, stays: bool) -> None:
    """Somebody has to hold the terminal's outer end."""
    socket = call.options["console-socket"]
    if terminal and not stays and not socket:
        raise InvalidParameter(
            "cannot allocate tty if glassdock-runtime will detach without setting console socket",
            "Name one with --console-socket, or run in the foreground.",
        )
    if socket and not (terminal and not stays):
        raise InvalidParameter(
            "cannot use console socket if glassdock-runtime will not detach or allocate tty",
            "Leave --console-socket out, or set process.terminal and detach.",
        )


def show(document: object) -> None:
    """A document over several lines."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


def _signal(word: str) -> int:
    name = word.upper().removeprefix("SIG")
    number = int(word) if word.isdecimal() else getattr(signal, f"SIG{name}", 0)
    if word.isdecimal() and number >= signal.NSIG:
        raise InvalidParameter("unable to signal init: invalid argument")
    if not number and not word.isdecimal():
        raise InvalidParameter(f'unknown signal "{word}"')
    return int(number)
