"""How urgent the process is: its scheduler, its input and output, where its memory comes from, its personality.

Interface: `steps(process, linux)`: the steps of what is asked for, checked; `cpus(text)`: 0-3,7 as numbers;
`use_all_cpus()` for a process whose maker had fewer.
Steps: `SetScheduler`, `IOPriority`, `MemoryPolicy`, `SetPersonality`.

Rules: nothing is set that is not asked for. runc's words for what makes no sense.

Sources: sched(7), ioprio_set(2), set_mempolicy(2), personality(2).
"""

from __future__ import annotations

import errno
import os
from typing import TypeAlias

from glassdock.errors import InvalidParameter, StartFailed
from glassdock.linux import process as linux
from glassdock.linux import scheduling
from glassdock.linux.scheduling import IOClass, MemoryFlag, MemoryMode, Policy, SchedFlag
from glassdock.oci import runtime as oci
from glassdock.runtime.stage import Stage, Step, attempt, reason

_DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}
_LARGEST_NODE = 1023
_LARGEST_CPU = 8191


class SetScheduler(Step, frozen=True, tag="scheduler"):
    """The scheduling policy, with what it takes."""

    policy: str
    flags: int = 0
    nice: int = 0
    priority: int = 0
    runtime: int = 0
    deadline: int = 0
    period: int = 0

    def describe(self) -> str:
        return f"scheduler {self.policy}, nice {self.nice}, priority {self.priority}"

    def apply(self, stage: Stage) -> None:
        try:
            scheduling.sched_setattr(
                Policy[self.policy],
                flags=SchedFlag(self.flags),
                nice=self.nice,
                priority=self.priority,
                runtime=self.runtime,
                deadline=self.deadline,
                period=self.period,
            )
        except OSError as error:
            text = f"setting scheduler: {reason(error)}"
            if error.errno == errno.EPERM and self.policy == "SCHED_DEADLINE":  # sched_setattr(2) on EPERM
                text += ": process scheduler can't be used together with AllowedCPUs"
            raise StartFailed(text, errno=error.errno or 0) from error


class IOPriority(Step, frozen=True, tag="io_priority"):
    """Class and level of its input and output."""

    kind: str
    level: int

    def describe(self) -> str:
        return f"I/O priority {self.kind} {self.level}"

    def apply(self, stage: Stage) -> None:
        with attempt("setting I/O priority"):
            scheduling.ioprio_set(IOClass[self.kind], self.level)


class MemoryPolicy(Step, frozen=True, tag="memory_policy"):
    """Which memory nodes its pages come from."""

    mode: str
    nodes: tuple[int, ...] = ()
    flags: int = 0

    def describe(self) -> str:
        return f"memory policy {self.mode} on nodes {' '.join(map(str, self.nodes)) or '-'}"

    def apply(self, stage: Stage) -> None:
        with attempt("setting memory policy"):
            scheduling.set_mempolicy(MemoryMode[self.mode], self.nodes, MemoryFlag(self.flags))


class SetPersonality(Step, frozen=True, tag="personality"):
    """What the kernel pretends to be: LINUX32 is a machine of 32 bits."""

    domain: str

    def describe(self) -> str:
        return f"personality {self.domain}"

    def apply(self, stage: Stage) -> None:
        with attempt("setting personality"):
            linux.personality(_DOMAINS[self.domain])


PriorityStep: TypeAlias = SetScheduler | IOPriority | MemoryPolicy | SetPersonality


def steps(body: oci.Process, kernel: oci.Linux) -> list[PriorityStep]:
    """What the specification asks for. Raises InvalidParameter."""
    found: list[PriorityStep] = []
    if body.scheduler:
        found.append(_scheduler(body.scheduler))
    if body.io_priority:
        found.append(_io_priority(body.io_priority))
    if kernel.personality:
        if kernel.personality.domain not in _DOMAINS:
            raise InvalidParameter(f"invalid personality domain {kernel.personality.domain}")
        found.append(SetPersonality(kernel.personality.domain))
    if kernel.memory_policy:
        found.append(_memory_policy(kernel.memory_policy))
    if affinity := body.exec_cpu_affinity:  # for execs; what could not be used is said now
        cpus(affinity.initial)
        cpus(affinity.final)
    return found


def use_all_cpus() -> None:
    """What the caller was bound to is not the container's: of all processors its cpuset alone decides."""
    there = os.cpu_count() or 1
    if len(os.sched_getaffinity(0)) < there:
        os.sched_setaffinity(0, range(os.sysconf("SC_NPROCESSORS_CONF")))


def cpus(text: str) -> tuple[int, ...]:
    """`0-3,7` → (0, 1, 2, 3, 7); raises InvalidParameter."""
    return _numbers(text, _LARGEST_CPU)


def _numbers(text: str, largest: int) -> tuple[int, ...]:
    found: set[int] = set()
    for part in text.replace(" ", "").split(",") if text.strip() else ():
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InvalidParameter(f"invalid list of numbers {text!r}", "Write it like 0-3,7.")
        begin, end = int(first), int(last or first)
        if begin > end or end > largest:
            raise InvalidParameter(f"invalid list of numbers {text!r}", f"Numbers go up, to {largest} at most.")
        found |= set(range(begin, end + 1))
    return tuple(sorted(found))


def _scheduler(wanted: oci.Scheduler) -> SetScheduler:
    policy = wanted.policy
    if not policy:
        raise InvalidParameter("scheduler policy is required")
    if policy not in Policy.__members__:
        raise InvalidParameter(f"invalid scheduler policy: {policy}")
    if policy in ("SCHED_OTHER", "SCHED_BATCH") and not -20 <= wanted.nice <= 19:
        raise InvalidParameter(f"invalid scheduler.nice: {wanted.nice} when scheduler.policy is {policy}")
    if wanted.priority and policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise InvalidParameter("scheduler.priority can only be specified for SchedFIFO or SchedRR policy")
    if (wanted.runtime or wanted.deadline or wanted.period) and policy != "SCHED_DEADLINE":
        raise InvalidParameter("scheduler runtime/deadline/period can only be specified for SchedDeadline policy")
    flags = SchedFlag(0)
    for word in wanted.flags:
        if word not in SchedFlag.__members__:
            raise InvalidParameter(f"invalid scheduler flag: {word}")
        flags |= SchedFlag[word]
    times = (wanted.runtime, wanted.deadline, wanted.period)
    return SetScheduler(policy, int(flags), wanted.nice, wanted.priority, *times)


def _io_priority(wanted: oci.IOPriority) -> IOPriority:
    if not 0 <= wanted.priority <= 7:
        raise InvalidParameter(f"invalid ioPriority.Priority: {wanted.priority}")
    if wanted.class_ not in IOClass.__members__:
        raise InvalidParameter(f"invalid ioPriority.Class: {wanted.class_!r}")
    return IOPriority(wanted.class_, wanted.priority)


def _memory_policy(wanted: oci.MemoryPolicy) -> MemoryPolicy:
    if wanted.mode not in MemoryMode.__members__:
        raise InvalidParameter(f"invalid memory policy mode {wanted.mode!r}")
    try:
        nodes = _numbers(wanted.nodes, _LARGEST_NODE)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid memory policy nodes: {error.message}", error.remedy) from error
    if wanted.mode in ("MPOL_DEFAULT", "MPOL_LOCAL") and nodes:
        raise InvalidParameter(f"memory policy mode requires 0 nodes but got {len(nodes)}")
    if wanted.mode not in ("MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED") and not nodes:
        raise InvalidParameter("memory policy mode requires at least one node but got 0")
    flags = MemoryFlag(0)
    for word in wanted.flags:
        if word not in MemoryFlag.__members__:
            raise InvalidParameter(f"invalid memory policy flag {word!r}")
        flags |= MemoryFlag[word]
    return MemoryPolicy(wanted.mode, nodes, int(flags))
