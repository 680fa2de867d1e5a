"""The child of an exec: forked by the shim into a container that runs, it joins what is left and becomes the program.

Interface: `run(entry)` never returns; `Entry` is what the shim knows; `steps_of(plan, task)`: what makes it a process
like the container's own.

Rules: it was cloned into the container's PID namespace, so it can be seen there: it is not dumpable from its first
moment until exec (2016-9962), and holds no descriptor of the shim's but the channel when it enters. Nothing is imported
and nothing is executed from the container's root before exec (2019-14271). It dies with its shim, but for an orphan's.

Sources: setns(2), pidfd_open(2), cgroups(7).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from glassdock import trace
from glassdock.errors import StartFailed
from glassdock.linux import clone, prctl
from glassdock.linux.clone import KINDS, CloneFlag
from glassdock.runtime import capabilities, counted, init, messages, priority, process, userns
from glassdock.runtime.bundle_root import ChangeRoot
from glassdock.runtime.capabilities import DropBounding, SetCapabilities
from glassdock.runtime.cgroup_places import Places
from glassdock.runtime.cgroups import Cgroup
from glassdock.runtime.counted import Counted
from glassdock.runtime.fakechown import FakeOwners
from glassdock.runtime.labels import ExecLabel
from glassdock.runtime.messages import ExecTask, Report, Task
from glassdock.runtime.namespaces import JoinNamespace
from glassdock.runtime.only_id import OnlyId
from glassdock.runtime.plan import Plan
from glassdock.runtime.priority import IOPriority, MemoryPolicy, SetPersonality, SetScheduler
from glassdock.runtime.process import (
    FindProgram,
    NoNewPrivileges,
    OomScore,
    ResolveUser,
    Rlimits,
    SetUser,
    UseIds,
    WorkingDirectory,
)
from glassdock.runtime.seccomp import InstallSeccomp
from glassdock.runtime.stage import Stage, Step, attempt, keep_only, reason
from glassdock.runtime.terminal import ExecTerminal

_KEPT = (
    ExecLabel,
    SetScheduler,
    IOPriority,
    MemoryPolicy,
    SetPersonality,
    Rlimits,
    Counted,
    OnlyId,
    DropBounding,
    SetUser,
    FakeOwners,
    SetCapabilities,
    NoNewPrivileges,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is joined, and what then runs. `streams`: [stdin], stdout, stderr, none with a terminal.

    `container` is the pidfd of its first process, `first` that one's number out here.
    An `orphan` lives on when its maker ends; its program inherits `preserved` descriptors from 3 on. `cpus`: where it
    is to run once it is in the cgroup: () is for the kernel to decide, None all that the cgroup has.
    """

    task: ExecTask
    plan: Plan
    cgroup: Cgroup | Places | None
    container: int
    first: int
    channel: socket.socket
    streams: tuple[int, ...]
    orphan: bool = False
    preserved: int = 0
    cpus: tuple[int, ...] | None = None


class ChangeDirectory(Step, frozen=True, tag="exec_cwd"):
    """Stand in a directory of the container, which is there, and make sure that it is inside (2024-21626)."""

    path: str

    def describe(self) -> str:
        return f"chdir {self.path}"

    def apply(self, stage: Stage) -> None:
        try:
            os.chdir(self.path)
            inside = os.getcwd().startswith("/")
        except OSError as error:
            text = f"chdir to cwd ({self.path!r}) set in config.json failed: {reason(error)}"
            raise StartFailed(text.replace("'", '"'), errno=error.errno or 0) from error
        if not inside:
            raise StartFailed("current working directory is outside of container mount namespace root")


def run(entry: Entry, *, in_cgroup: bool) -> NoReturn:
    """Join, become like the container's own process, execute."""
    spans: list[trace.Span] = []
    channel = entry.channel
    stage = Stage(channel=channel)
    try:
        with trace.recording("exec") as recording:
            spans = recording.spans
            container = _let_go(entry)
            with trace.span("runtime.exec_join"):
                _join(entry, stage, container, in_cgroup)
            for step in steps_of(entry.plan, entry.task):
                init.do(step, stage)
            task = entry.task
            plan = Plan((), (), task.args, task.env, last=last_of(entry.plan, task), listener=entry.plan.listener)
            as_task = Task(task.id, "", plan, stdin=task.stdin, terminal=task.terminal)
            init.execute(as_task, stage, recording, orphan=entry.orphan, kept=entry.preserved)
    except BaseException as error:  # noqa: BLE001 - told to the shim, which tells the daemon
        with contextlib.suppress(OSError):
            messages.send(channel, Report(spans, failure=init.failure_of(error, spans)))
    finally:
        os._exit(1)


def steps_of(plan: Plan, task: ExecTask) -> list[Step]:
    """The steps of the container's own process, with what the exec asks for in their places."""
    found: list[Step] = [ExecTerminal(task.height, task.width)] if task.terminal else []
    there = capabilities.known() if plan.differs("user") else capabilities.available()
    usable = tuple(name for name in capabilities.ALL if name in there)
    for step in plan.steps:
        if isinstance(step, ResolveUser | UseIds):
            groups = step.groups if isinstance(step, ResolveUser) else ()
            found.append(ResolveUser(task.user, groups) if task.user else step)
        elif isinstance(step, WorkingDirectory):
            found.append(ChangeDirectory(task.cwd))
        elif isinstance(step, FindProgram):
            found.append(FindProgram(task.args[0], process.search_path(task.env)))
        elif task.privileged and isinstance(step, DropBounding):
            found.append(DropBounding(usable, step.own_user))
        elif task.privileged and isinstance(step, SetCapabilities):
            found.append(SetCapabilities(usable, usable))
        elif isinstance(step, _KEPT):
            found.append(step)
    return found


def last_of(plan: Plan, task: ExecTask) -> tuple[InstallSeccomp, ...]:
    """The container's own filter; who has all capabilities has CAP_SYS_ADMIN anyway."""
    if not task.privileged:
        return plan.last
    return tuple(msgspec.structs.replace(step, lent=False, drop=False) for step in plan.last)


def separate(plan: Plan) -> set[str]:
    """The kinds of which the container has a namespace of its own: only root may join the machine's."""
    joined = {step.kind for step in plan.steps if isinstance(step, JoinNamespace)}
    return joined | {kind for kind in KINDS if plan.differs(kind)}


def _let_go(entry: Entry) -> int:
    """Hold the streams, the channel and the container's pidfd, returned, and nothing else of the shim's."""
    signal.set_wakeup_fd(-1)
    prctl.set_parent_death_signal(signal.SIGKILL)
    prctl.set_name("glassdock-exec")
    sys.path.clear()
    sys.meta_path.clear()
    os.setsid()
    first = 3 - len(entry.streams)
    for number, descriptor in enumerate(entry.streams, first if entry.streams else 3):
        os.dup2(descriptor, number)
    keep_only([*range(3, 3 + entry.preserved), entry.channel.fileno(), entry.container])
    return entry.container


def _join_all(container: int, first: int, kinds: set[str]) -> None:
    """Every namespace at once. An engine that lives in a chroot is led to the machine's root by that, and turns back.

    setns(2) leads to the root of the namespace, and where its maker was in a chroot, pivot_root(2) left that as it was.
    """
    machine = root = None
    if "mount" in kinds:
        root = os.open(f"/proc/{first}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        clone.setns(own, CloneFlag.NEWNS)
        os.close(own)
        machine = os.stat("/")
    clone.setns(container, CloneFlag(sum(KINDS[kind] for kind in kinds)))
    os.close(container)
    if root is not None and machine is not None:
        if os.path.samestat(os.stat("/"), machine):
            os.fchdir(root)
            os.chroot(".")
        os.close(root)


def _join(entry: Entry, stage: Stage, container: int, in_cgroup: bool) -> None:
    """The cgroup first, where its folders can be seen; then all namespaces at once."""
    with attempt("joining the container"):
        if entry.cgroup and not in_cgroup:
            entry.cgroup.enter()
        if entry.cpus:
            os.sched_setaffinity(0, entry.cpus)
        elif entry.cpus is None:
            priority.use_all_cpus()
        for step in (*entry.plan.outside, *entry.plan.steps):
            if isinstance(step, OomScore) or (isinstance(step, Rlimits) and step in entry.plan.outside):
                init.do(step, stage)
        for step in entry.plan.steps:
            if isinstance(step, Counted):
                stage.trees[step.sources()[0]] = [counted.of(entry.first)]
        kinds = separate(entry.plan) - {"pid"}
        _join_all(container, entry.first, kinds)
        if entry.plan.differs("user"):
            userns.become_root()
            prctl.set_dumpable(False)
            prctl.set_parent_death_signal(signal.SIGKILL)
        for step in entry.plan.steps:
            if isinstance(step, ChangeRoot):
                init.do(step, stage)
        os.chdir("/")
        stage.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if any(isinstance(step, ExecLabel) for step in entry.plan.steps):
            stage.proc_device = os.stat("/proc").st_dev
