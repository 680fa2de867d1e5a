"""The child: it was cloned into new namespaces, does the plan's steps one after another, and becomes the program.

Interface: `run(channel, namespaces)` never returns. For the child of an exec too (exec_child.py): `do(step, stage)`,
`execute(...)`, `failure_of(error, spans)`. For the first process of a bundle (bundle_init.py) `standard_streams(...)`.

Rules: nothing is imported after the clone, nothing is looked up outside the plan. Each step is a span; a failure names
its step, errno and text. The child dies with its shim. Until exec it is not dumpable, so nothing in the container can
reach its memory, its descriptors or the machine's Python through /proc/1 (2016-9962, 2019-5736).

Sources: execve(2), prctl(2), signal(7).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import sys
import termios
from collections.abc import Iterable, Mapping
from typing import NoReturn, TypeAlias

from glassdock import trace
from glassdock.errors import GlassdockError, StartFailed
from glassdock.linux import prctl
from glassdock.linux.process import CloseRange, close_range
from glassdock.runtime import cgroups, messages, plan, process, reaper, userns
from glassdock.runtime.cgroups import Cgroup
from glassdock.runtime.listener import Call, Waiting
from glassdock.runtime.messages import Failure, Report, Task
from glassdock.runtime.plan import AnyStep
from glassdock.runtime.rootfs import Scaffold
from glassdock.runtime.stage import Stage, Step, attempt, keep_only, reason
from glassdock.trace import Recording

JOINED, INSIDE, STOCK, TASK, EXECUTE = b"joined", b"inside", b"stock", b"task", b"execute"

Made: TypeAlias = Mapping[str, tuple[AnyStep, ...]]


def run(
    channel: socket.socket, namespaces: tuple[str, ...], stage: Stage | None = None, *, entering: Cgroup | None = None
) -> NoReturn:
    """Prepare, wait for the task, do its steps, execute. The channel is the shim's; its end closes with exec.

    `stage` has what was made outside (birth.py); `entering` is the cgroup to enter, None where the shim sees to that.
    """
    spans: list[trace.Span] = []
    stage = stage or Stage()
    stage.channel = channel
    try:
        _become_nobodys_child(channel, stage, namespaces, entering)
        with trace.recording("init") as recording:
            spans = recording.spans
            for step in plan.early(namespaces):
                do(step, stage)
            word, descriptors = _hear(channel)
            made = plan.ahead(cgroups.layout()) if word == STOCK else {}
            if made:
                _stock(made, stage, descriptors)
                for span in spans:
                    span.attributes["prepared"] = True
                word, descriptors = _hear(channel)
        task = _take(descriptors, made, stage)
        if task.init:
            reaper.retitle(task.plan.args)
        with trace.recording("init", syscalls=task.syscalls) as recording:
            recording.spans[:0] = spans
            spans = recording.spans
            for step in plan.graft(task.plan.steps, made):
                do(step, stage)
            # Meanwhile the shim has set the limits; the program begins when they hold.
            if channel.recv(16) != EXECUTE:
                os._exit(1)
            execute(task, stage, recording)
    except BaseException as error:  # noqa: BLE001 - told to the shim, which tells the daemon
        # A shim that is dead cannot be told, and its death signal is on the way.
        with contextlib.suppress(OSError):
            messages.send(channel, Report(spans, failure=failure_of(error, spans)))
    finally:
        os._exit(1)


def _become_nobodys_child(
    channel: socket.socket, stage: Stage, namespaces: tuple[str, ...], entering: Cgroup | None
) -> None:
    """Die with the shim, own a session, hide, hold no descriptor but the channel and the standard ones."""
    isolate(namespaces)
    prctl.set_parent_death_signal(signal.SIGKILL)
    keep_only([channel.fileno(), *(tree for trees in stage.trees.values() for tree in trees)])
    if entering:
        with attempt("joining the cgroup"):
            entering.enter()
        channel.send(INSIDE)
    elif channel.recv(16) != JOINED:  # the shim died before it could put us into our cgroup
        os._exit(1)
    arrive(namespaces)


def isolate(namespaces: tuple[str, ...]) -> None:
    """What is done first in a clone: hide, import nothing any more, own a session."""
    if "user" not in namespaces:  # nobody else is in a new one, and its maker may have to be able to look into us
        prctl.set_dumpable(False)
    prctl.set_name("glassdock-init")
    # What has to be imported is there. From inside the container's root nothing may ever be (2019-14271).
    sys.path.clear()
    sys.meta_path.clear()
    os.setsid()


def arrive(namespaces: tuple[str, ...]) -> None:
    """The maker has written the maps: in a user namespace of its own the first process becomes its root."""
    if "user" in namespaces:
        userns.become_root()
        # Changing the user took these back.
        prctl.set_dumpable(False)
        prctl.set_parent_death_signal(signal.SIGKILL)


def _hear(channel: socket.socket) -> tuple[bytes, list[int]]:
    """A word of the shim's and its descriptors; a shim that is gone ends us."""
    word, descriptors, _, _ = socket.recv_fds(channel, 64, messages.MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    if not word:
        os._exit(1)
    return word, list(descriptors)


def _stock(made: Made, stage: Stage, descriptors: list[int]) -> None:
    """Mount on a scaffold what every container gets, before anybody asks for one."""
    steps = [step for group in made.values() for step in group]
    _hand_out(steps, descriptors, stage)
    do(Scaffold(), stage)
    for step in steps:
        do(step, stage)


def _take(descriptors: list[int], made: Made, stage: Stage) -> Task:
    """The task. Descriptors: its memfd, [the network namespace], [[stdin], stdout, stderr], the sources in order."""
    memory, *rest = descriptors
    task = messages.unpack_task(memory)
    os.close(memory)
    if task.netns:
        stage.netns = rest.pop(0)
    first = 3 if task.terminal else 0 if task.stdin else 1
    for number in range(first, 3):
        descriptor = rest.pop(0)
        os.dup2(descriptor, number)
        os.close(descriptor)
    _hand_out(plan.graft(task.plan.steps, made), rest, stage)
    return task


def _hand_out(steps: Iterable[AnyStep], descriptors: list[int], stage: Stage) -> None:
    sources = [source for step in steps for source in step.sources()]
    for source, descriptor in zip(sources, descriptors, strict=True):
        stage.trees.setdefault(source, []).append(descriptor)


def do(step: Step, stage: Stage) -> None:
    """Apply one step, as a span that points at its code."""
    with trace.span(f"runtime.{step.__struct_config__.tag}", what=step.describe()) as span:
        if span is not None:
            span.file, span.line = step.apply.__code__.co_filename, step.apply.__code__.co_firstlineno
        step.apply(stage)


def execute(task: Task, stage: Stage, recording: Recording, *, orphan: bool = False, kept: int = 0) -> NoReturn:
    """Standard streams, signals as a new program expects them, one report, exec.

    An `orphan` lives on when its parent dies; the program inherits `kept` descriptors beside the standard ones.
    """
    standard_streams(task, stage)
    environment = process.environment(task.plan.env, stage.home)
    arguments = [os.fsencode(argument) for argument in task.plan.args]
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:  # exec keeps what is ignored, such as Python's SIGPIPE
            signal.signal(number, signal.SIG_DFL)
    if task.init:
        reaper.stay_behind(terminal=task.terminal)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    close_range(3 + kept, flags=CloseRange.CLOEXEC)
    # Changing the user took this back; if the shim died meanwhile, its end of the channel is closed: EPIPE below.
    prctl.set_parent_death_signal(0 if orphan else signal.SIGKILL)
    assert stage.channel is not None
    with trace.span("runtime.exec", what=f"execve {stage.program}") as span:
        if span is not None:
            span.file, span.line = execute.__code__.co_filename, execute.__code__.co_firstlineno
        agent, call, page, waiting = task.plan.listener, None, [], None
        if agent:
            waiting = Waiting.begin()
            call, page = Call(waiting.number, task.id, agent), [waiting.page]
        for step in task.plan.last:
            with trace.span(f"runtime.{step.__struct_config__.tag}", what=step.describe()):
                pass  # told before it is done: afterwards there may be no call left to tell anything with
        messages.send(stage.channel, Report(recording.spans, warnings=stage.warnings, call=call), page)
        for step in task.plan.last:
            step.apply(stage)
        if waiting:
            waiting.until_taken()
        try:
            os.execve(stage.program, arguments, environment)
        except OSError as error:
            raise _refused(stage.program, error) from error


def standard_streams(task: Task, stage: Stage) -> None:
    """The terminal, or nothing to read where no input was asked for; to do it twice does no harm."""
    if task.terminal:
        for number in range(3):
            os.dup2(stage.terminal, number)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    elif not task.stdin:
        # The container's own node: the machine's could be changed with fchmod(0, ...).
        os.dup2(_nothing(), 0)


def _nothing() -> int:
    """The null device, or an empty pipe where the image has something else there: a FIFO would hold up the start."""
    try:
        found = os.open("/dev/null", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        if os.fstat(found).st_rdev == os.makedev(1, 3):
            os.set_blocking(found, True)
            return found
    except OSError:
        pass  # a link to nowhere, a socket, a device of the image's
    return os.pipe()[0]  # its writing end goes with the others at exec: end of file


def _refused(program: str, error: OSError) -> StartFailed:
    from_kind = {errno.ENOENT: "CommandNotFound", errno.ENOTDIR: "CommandNotFound"}
    kind = from_kind.get(error.errno or 0, "CommandNotExecutable")
    made = Failure(kind, f"exec {program}: {reason(error)}", "runtime.exec", error.errno or 0).error()
    assert isinstance(made, StartFailed)
    return made


def failure_of(error: BaseException, spans: list[trace.Span]) -> Failure:
    """What went wrong, and in which step: the last span that ended with an error."""
    step = next((span.name for span in reversed(spans) if span.error), "")
    number = getattr(error, "errno", None) or 0
    if isinstance(error, GlassdockError):
        return Failure(type(error).__name__, error.message, step, number)
    if isinstance(error, OSError):
        return Failure("StartFailed", f"{step or 'the child'}: {reason(error)}", step, number)
    return Failure("StartFailed", f"{step or 'the child'}: {type(error).__name__}: {error}", step, 0)
