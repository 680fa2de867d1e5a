"""The last part of a plan: who the process is, what it may do, and which program it becomes.

Interface:
- `identity(...)`: the steps; `filters(...)`: what comes last of all; `listener(...)`: who then decides calls.
- `warnings(spec)`: what is left out, a sentence each.

Rules: the order is the kernel's: each step still needs what the next one gives up.

Source: https://github.com/opencontainers/runtime-spec/blob/main/config.md#process
"""

from __future__ import annotations

import functools
import posixpath
from typing import TypeAlias

from glassdock.linux import ids
from glassdock.oci.runtime import Capabilities, Linux, Process, Spec
from glassdock.runtime import capabilities, counted, fakechown, priority, process, seccomp
from glassdock.runtime.capabilities import DropBounding, SetCapabilities
from glassdock.runtime.counted import Counted
from glassdock.runtime.fakechown import FakeOwners
from glassdock.runtime.labels import ExecLabel
from glassdock.runtime.listener import Listener
from glassdock.runtime.only_id import OnlyId
from glassdock.runtime.priority import PriorityStep
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

ProcessStep: TypeAlias = (
    OomScore
    | Rlimits
    | ResolveUser
    | UseIds
    | WorkingDirectory
    | Counted
    | OnlyId
    | DropBounding
    | InstallSeccomp
    | SetUser
    | FakeOwners
    | SetCapabilities
    | FindProgram
    | NoNewPrivileges
    | ExecLabel
    | PriorityStep
)


def identity(linux: Linux, body: Process, user: str, groups: tuple[str, ...], *, own_user: bool) -> list[ProcessStep]:
    """The steps. `own_user`: in a user namespace of its own, where every capability is there to be given."""
    steps: list[ProcessStep] = []
    if body.rlimits and not own_user:
        steps.append(Rlimits.of(body.rlimits))
    if user or groups:
        steps.append(ResolveUser(user, groups))
    else:
        steps.append(UseIds(body.user.uid, body.user.gid, body.user.additional_gids))
    steps.append(WorkingDirectory(posixpath.normpath(body.cwd)))
    steps += counted.steps(linux, body, own_user=own_user)
    if ids.mapping().kind == "single" and not own_user:
        steps.append(OnlyId())
    kept = body.capabilities or Capabilities()
    usable = capabilities.known() if own_user else capabilities.available()
    steps += priority.steps(body, linux)
    if body.apparmor_profile:
        steps.append(ExecLabel("apparmor", body.apparmor_profile))
    if body.selinux_label:
        steps.append(ExecLabel("selinux", body.selinux_label))
    steps.append(DropBounding(_of(kept.bounding, usable), own_user))
    umask = body.user.umask
    steps.append(SetUser(0o022 if umask is None else umask))
    steps += fakechown.steps(own_user=own_user)
    sets = (kept.effective, kept.permitted, kept.inheritable, kept.ambient)
    # Installing a filter needs CAP_SYS_ADMIN, or the promise never to gain privileges.
    admin = "CAP_SYS_ADMIN"
    lend = bool(linux.seccomp) and not body.no_new_privileges and admin not in kept.effective
    effective, permitted, inheritable, ambient = (_of(names, usable) for names in sets)
    steps.append(SetCapabilities(effective, permitted, inheritable, ambient, lend))
    steps.append(FindProgram(body.args[0], process.search_path(body.env)))
    if body.no_new_privileges:
        steps.append(NoNewPrivileges())
    return steps


def filters(linux: Linux, body: Process) -> tuple[InstallSeccomp, ...]:
    """What is done last, between the report and exec: whatever the filter forbids, the start does not need it."""
    if not linux.seccomp:
        return ()
    kept = body.capabilities or Capabilities()
    lent = not body.no_new_privileges and "CAP_SYS_ADMIN" not in kept.effective
    drop = lent and "CAP_SYS_ADMIN" not in kept.permitted
    return (InstallSeccomp(seccomp.compile(linux.seccomp), int(seccomp.flags(linux.seccomp)), lent, drop),)


def listener(linux: Linux) -> Listener | None:
    """The agent that decides some of the calls."""
    if not linux.seccomp or not seccomp.listens(linux.seccomp):
        return None
    return Listener(linux.seccomp.listener_path, linux.seccomp.listener_metadata)


@functools.lru_cache(maxsize=256)
def _of(names: tuple[str, ...], usable: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in usable)


def warnings(spec: Spec) -> list[str]:
    """What is left out, a sentence each: capabilities that this machine does not have, flags of personalities."""
    persona = spec.linux.personality if spec.linux else None
    told = [f"ignoring unsupported personality flags: {' '.join(persona.flags)}"] if persona and persona.flags else []
    return told + _missing_capabilities(spec)


def _missing_capabilities(spec: Spec) -> list[str]:
    kept = (spec.process.capabilities if spec.process else None) or Capabilities()
    asked = {*kept.bounding, *kept.effective, *kept.permitted, *kept.inheritable, *kept.ambient}
    unknown = sorted(asked - set(capabilities.ALL))
    told = [f"ignoring unknown or unavailable capabilities: [{' '.join(unknown)}]"] if unknown else []
    if spec.linux and any(one.type == "user" for one in spec.linux.namespaces):
        return told  # a new user namespace has them all
    lacking = sorted(set(kept.bounding) & set(capabilities.ALL) - capabilities.available())
    return told + [f"{name} is not in this machine's bounding set; the container runs without it" for name in lacking]
