"""The first part of a plan: which namespaces are new, which are joined, and what has to be done outside of them.

Interface: `arrange(spec, root, target, ...)` → `Arrangement`; raises InvalidParameter for combinations without sense.

Rules: runc's, in its words. Most namespaces are made by the clone and joined by the child; somebody has to go outside
first (`Arrangement.outside`) where pid, time, mount or user namespaces are joined, or a user or time namespace is new.

Source: https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#namespaces
"""

from __future__ import annotations

import msgspec

from glassdock.errors import InvalidParameter
from glassdock.linux.mount import MountFlag
from glassdock.oci.runtime import IDMapping, Linux, Process, Spec
from glassdock.runtime import namespaces, options
from glassdock.runtime.namespaces import JoinNamespace, Loopback
from glassdock.runtime.outside import ROOT, JoinNamespaces, KernelView, NewTime, ShiftedRoot
from glassdock.runtime.process import OomScore, Rlimits
from glassdock.runtime.rootfs import Detach, MountRoot, TakeRoot
from glassdock.runtime.userns import Ids
from glassdock.unionfs.mounts import Mount

# Joined by somebody else than the child: these are for children (pid, time), or end the power to join (user).
_FOR_CHILDREN = frozenset({"mount", "pid", "time", "user"})
_CLOCKS = frozenset({"monotonic", "boottime"})
# File systems that show the namespace of whoever mounts them, and which one it is.
VIEWS = {"sysfs": "network", "mqueue": "ipc"}


class Arrangement(msgspec.Struct, frozen=True):
    """What the rest of a plan builds on. `first` are the child's own steps; `views` are mounted outside.

    `after_pivot` is the propagation that the root gets at the end, where it is not private.
    """

    new: tuple[str, ...]
    joined: dict[str, str]
    ids: Ids
    outside: tuple[ShiftedRoot | OomScore | Rlimits | JoinNamespaces | KernelView | NewTime, ...]
    first: tuple[JoinNamespace | Loopback | Detach | MountRoot | TakeRoot, ...]
    views: tuple[str, ...] = ()
    after_pivot: int = 0

    @property
    def own_user(self) -> bool:
        """True where the container's root is not the engine's."""
        return "user" in self.new or "user" in self.joined

    def has(self, kind: str) -> bool:
        """True where the container has a namespace of that kind that is not the engine's."""
        return kind in self.new or kind in self.joined


def arrange(spec: Spec, root: Mount, target: str, *, netns: bool, shift: bool) -> Arrangement:
    """Sort the namespaces of a specification. `shift`: the root's files belong to the ids out here.

    Raises InvalidParameter.
    """
    linux, body = spec.linux or Linux(), spec.process or Process()
    new, joined = namespaces.kinds(linux)
    if netns:
        new = tuple(kind for kind in new if kind != "network")
        joined = {**joined, "network": ""}
    _check_user(linux, new, joined)
    _check_time(linux, new, joined)
    if "mount" not in new and "mount" not in joined:
        _check_machines_mounts(linux, shift)
    ids = Ids(linux.uid_mappings, linux.gid_mappings, joined.get("user", ""))
    own_user = "user" in new or "user" in joined
    wanted = options.propagation(linux.rootfs_propagation or "private")[0]
    # A root whose mounts spread cannot be pivoted into: pivot_root(2). A slave may be one from the beginning, and has
    # to: what is mounted outside comes in only while it is still a copy of the machine's mount.
    spread = int(wanted if wanted == MountFlag.SLAVE else MountFlag.PRIVATE)
    after = int(wanted) if wanted in (MountFlag.SHARED, MountFlag.UNBINDABLE) else 0
    outside: list[ShiftedRoot | OomScore | Rlimits | JoinNamespaces | KernelView | NewTime] = []
    first: list[JoinNamespace | Loopback | Detach | MountRoot | TakeRoot] = []
    away = {kind for kind in joined if own_user or kind in _FOR_CHILDREN}
    first += [JoinNamespace(kind, path) for kind, path in sorted(joined.items()) if kind not in away]
    if "network" in new:
        first.append(Loopback())
    if "mount" in joined:
        first.append(Detach())
    views: tuple[str, ...] = ()
    if own_user and shift:
        outside.append(ShiftedRoot(root, target, ids))
    first.append(TakeRoot(ROOT, spread) if own_user and shift else MountRoot(root, target, spread))
    if "user" in new:
        mounted = {entry.type for entry in spec.mounts}
        views = tuple(kind for kind, namespace in VIEWS.items() if kind in mounted and namespace not in new)
    outside += _outside(linux, body, new, {kind: joined[kind] for kind in sorted(away)}, views)
    return Arrangement(new, joined, ids, tuple(outside), tuple(first), views, after)


def _outside(
    linux: Linux, body: Process, new: tuple[str, ...], away: dict[str, str], views: tuple[str, ...]
) -> list[OomScore | Rlimits | JoinNamespaces | KernelView | NewTime]:
    steps: list[OomScore | Rlimits | JoinNamespaces | KernelView | NewTime] = []
    before = {kind: path for kind, path in away.items() if kind not in ("mount", "user")}
    if "user" in new or "user" in away:
        # Both take rights out here: the file in /proc is not the new root's, a hard limit is not his to raise.
        steps += [OomScore(body.oom_score_adj)] if body.oom_score_adj is not None else []
        steps += [Rlimits.of(body.rlimits)] if body.rlimits else []
    if views and before:
        steps.append(JoinNamespaces(tuple(before.items())))
        away = {kind: path for kind, path in away.items() if kind not in before}
    steps += [KernelView(kind) for kind in views]
    if "time" in new:
        steps.append(NewTime(tuple(sorted(_offset(*item) for item in linux.time_offsets.items()))))
    if away:
        steps.append(JoinNamespaces(tuple(away.items()), linux.uid_mappings, linux.gid_mappings))
    return steps


def _offset(item: str, values: dict[str, int]) -> tuple[str, int, int]:
    return item, values.get("secs", 0), values.get("nanosecs", 0)


def _check_machines_mounts(linux: Linux, shift: bool) -> None:
    """Only a bundle may ask for it: what is mounted for the container is then mounted on the machine, and stays."""
    if shift:
        raise InvalidParameter("a container needs a mount namespace of its own")
    if linux.masked_paths or linux.readonly_paths:
        raise InvalidParameter(
            "unable to restrict sys entries without a private MNT namespace",
            "Leave maskedPaths and readonlyPaths out, or give the container a mount namespace.",
        )


def _check_user(linux: Linux, new: tuple[str, ...], joined: dict[str, str]) -> None:
    mappings = linux.uid_mappings or linux.gid_mappings
    if "user" not in new and "user" not in joined:
        if mappings:
            raise InvalidParameter("user namespace mappings specified, but user namespace isn't enabled in the config")
        return
    if "user" in new and not (linux.uid_mappings and linux.gid_mappings):
        raise InvalidParameter("user namespaces enabled, but no namespace path to join nor mappings to apply specified")
    for kind, some in (("user", linux.uid_mappings), ("group", linux.gid_mappings)):
        if some and not any(_holds_root(one) for one in some):
            raise InvalidParameter(f"user namespaces enabled, but no {kind} mapping found for the container's root")


def _holds_root(one: IDMapping) -> bool:
    return one.container_id == 0 and one.size > 0


def _check_time(linux: Linux, new: tuple[str, ...], joined: dict[str, str]) -> None:
    if linux.time_offsets and "time" in joined:
        raise InvalidParameter(
            "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one"
        )
    if linux.time_offsets and "time" not in new:
        raise InvalidParameter("time namespace offsets specified, but time namespace isn't enabled in the config")
    for clock in linux.time_offsets:
        if clock not in _CLOCKS:
            raise InvalidParameter(f"unknown clock {clock!r} in the time offsets", "Choose monotonic or boottime.")
