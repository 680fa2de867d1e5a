"""The first process of a bundle's container: does the plan's steps, waits at the gate for `start`, becomes the program.

Interface: `run(entry)` never returns; `Entry` is what the maker knows. `HOOKS`, `GO`: what the two say to each other.

Rules: as in `init.py`, whose steps and exec these are; but the maker goes once the container is created, so the process
dies with it only until then. It is forked with everything at hand, so nothing is read or imported after the clone.

Sources: runtime.md#lifecycle of the specification, prctl(2).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from glassdock import trace
from glassdock.errors import StartFailed
from glassdock.linux import keyctl, prctl
from glassdock.runtime import init, messages, plan, priority, process
from glassdock.runtime.bundle_root import ChangeRoot, MoveRoot
from glassdock.runtime.cgroups import Cgroup
from glassdock.runtime.messages import Report, Task
from glassdock.runtime.plan import Plan
from glassdock.runtime.rootfs import Pivot
from glassdock.runtime.stage import Stage, Step, attempt, keep_only, reason

HOOKS, GO = b"hooks", b"go"
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

Environment: TypeAlias = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the process is to do. `trees` as `Stage.trees`.

    Hooks are called with its number and the environment of those that have none of their own; they raise StartFailed.

    `group` is what it has to join itself; with `keyring` it gets a session keyring of its own.
    """

    id: str
    plan: Plan
    steps: tuple[Step, ...]
    terminal: bool
    channel: socket.socket
    gate: socket.socket
    trees: dict[str, list[int]]
    preserved: int = 0
    group: Cgroup | None = None
    keyring: bool = True
    create_hooks: Callable[[int, Environment], None] | None = None
    start_hooks: Callable[[int, Environment], None] | None = None


def run(entry: Entry, stage: Stage | None = None) -> NoReturn:
    """Until the gate the maker is told of a failure, from then on the one who starts.

    `stage` has what was made outside (birth.py).
    """
    spans: list[trace.Span] = []
    stage = stage or Stage()
    stage.channel = entry.channel
    stage.trees.update(entry.trees)
    try:
        with trace.recording("init") as recording:
            spans = recording.spans
            _let_go(entry, stage)
            if entry.keyring:
                _own_keyring(entry.id, stage)
            number = 0
            for step in (*plan.early(entry.plan.namespaces), *entry.steps):
                if isinstance(step, Pivot | MoveRoot | ChangeRoot):
                    number = _before_pivot(entry)
                init.do(step, stage)
            task = Task(entry.id, "", entry.plan, stdin=True, terminal=entry.terminal)
            if entry.terminal:
                # Now, because the maker's caller waits for the end of what the maker's own streams say.
                init.standard_streams(task, stage)
            stage.channel = _wait(entry, stage)
            if entry.start_hooks:
                entry.start_hooks(number, process.environment(entry.plan.env, stage.home))
            init.execute(task, stage, recording, orphan=True, kept=entry.preserved)
    except BaseException as error:  # noqa: BLE001 - told to the one who waits
        with contextlib.suppress(OSError):
            assert stage.channel is not None
            messages.send(stage.channel, Report([], failure=init.failure_of(error, spans)))
    finally:
        os._exit(1)


def _let_go(entry: Entry, stage: Stage) -> None:
    """Own a session, hide, hold only what the steps need; wait until it is in its cgroup."""
    prctl.set_parent_death_signal(signal.SIGKILL)
    init.isolate(entry.plan.namespaces)
    sources = [descriptor for group in stage.trees.values() for descriptor in group]
    keep_only([entry.channel.fileno(), entry.gate.fileno(), *sources, *range(3, 3 + entry.preserved)])
    if entry.channel.recv(16) != init.JOINED:
        os._exit(1)
    init.arrive(entry.plan.namespaces)
    if entry.group:
        with attempt("joining the cgroup"):
            entry.group.enter()
    priority.use_all_cpus()


def _own_keyring(identity: str, stage: Stage) -> None:
    """Keys of the caller's session are not the container's."""
    try:
        keyctl.join_session_keyring(f"_ses.{identity}")
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise StartFailed(f"unable to join session keyring: {reason(error)}", errno=error.errno or 0) from error
        stage.warnings.append("this machine does not let it have a session keyring; it keeps the caller's")


def _before_pivot(entry: Entry) -> int:
    """The maker runs its hooks now, those of the container's namespaces are run here; returns the machine's number."""
    entry.channel.send(HOOKS)
    answer = entry.channel.recv(32)
    if not answer.startswith(GO):
        os._exit(1)
    number = int(answer[len(GO) :])
    if entry.create_hooks:
        entry.create_hooks(number, {})
    return number


def _wait(entry: Entry, stage: Stage) -> socket.socket:
    """Tell the maker that all is made, let it go, and wait for the one who starts."""
    # Changing the user took the death signal back already; a user who stays the same keeps it.
    prctl.set_parent_death_signal(0)
    messages.send(entry.channel, Report([], warnings=stage.warnings))
    entry.channel.close()
    stage.warnings.clear()
    # The first process of a PID namespace gets no signal that it has no handler for: pid_namespaces(7).
    for number in _ENDING:
        signal.signal(number, lambda received, _: os._exit(128 + received))
    connection, _ = entry.gate.accept()
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
    entry.gate.close()
    return connection
