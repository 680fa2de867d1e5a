"""The plan: what a specification means, as an ordered tuple of steps that can be told, tested and done.

Interface:
- `make(spec, root, ...)` → `Plan`: pure; refuses what makes no sense (InvalidParameter) before anything starts.
- `Plan.describe()`: one line a step, in order.
- `early(namespaces)`, `ahead(layout)`: the steps that can be done before anybody asks for a container.

Rules: nothing here touches the machine. The child executes exactly these steps; widgets and rootless tests show them.

Source: https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#lifecycle
"""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from glassdock.errors import InvalidParameter, NotSupported
from glassdock.linux.mount import MountAttr
from glassdock.oci.runtime import Capabilities, Linux, Process, Spec
from glassdock.oci.runtime import Mount as MountEntry
from glassdock.runtime import capabilities, cgroups, defaults, namespaces, options, process, rootfs, seccomp
from glassdock.runtime.capabilities import DropBounding, SetCapabilities
from glassdock.runtime.namespaces import Domainname, Hostname, JoinNamespace, Loopback, OwnCgroupRoot
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
from glassdock.runtime.rootfs import (
    BindMount,
    Detach,
    DeviceLinks,
    DeviceNode,
    Graft,
    MaskPaths,
    MountCgroups,
    MountFilesystem,
    MountRoot,
    Pivot,
    ReadonlyPaths,
    ReadonlyRoot,
    Scaffold,
    Sysctl,
)
from glassdock.runtime.seccomp import InstallSeccomp
from glassdock.runtime.terminal import Terminal
from glassdock.unionfs.mounts import Mount

AnyStep: TypeAlias = (
    Detach
    | JoinNamespace
    | OwnCgroupRoot
    | Loopback
    | MountRoot
    | MountFilesystem
    | BindMount
    | MountCgroups
    | Scaffold
    | Graft
    | DeviceNode
    | DeviceLinks
    | Terminal
    | Sysctl
    | ReadonlyPaths
    | MaskPaths
    | Pivot
    | ReadonlyRoot
    | Hostname
    | Domainname
    | OomScore
    | Rlimits
    | ResolveUser
    | UseIds
    | WorkingDirectory
    | DropBounding
    | InstallSeccomp
    | SetUser
    | SetCapabilities
    | FindProgram
    | NoNewPrivileges
)

_FILESYSTEMS = frozenset({"proc", "sysfs", "tmpfs", "devpts", "mqueue"})
_MOST_SOURCES = 200
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)


class Plan(msgspec.Struct, frozen=True):
    """Which namespaces are cloned, what the child does in them, and what it then executes."""

    namespaces: tuple[str, ...]
    steps: tuple[AnyStep, ...]
    args: tuple[str, ...]
    env: tuple[str, ...]

    def describe(self) -> list[str]:
        """The plan as a person reads it."""
        first = f"clone with new namespaces: {', '.join(self.namespaces) or 'none'}"
        told = [step.describe() for step in (*early(self.namespaces), *self.steps)]
        return [first, *told, f"execute {' '.join(self.args)}"]


def early(new: tuple[str, ...]) -> tuple[AnyStep, ...]:
    """The steps that depend on the namespaces alone: they can be done before anybody asks for a container."""
    found: list[AnyStep] = [Detach()] if "mount" in new else []
    return tuple(found + ([OwnCgroupRoot()] if "cgroup" in new else []))


@functools.cache
def ahead(layout: cgroups.Layout) -> dict[str, tuple[AnyStep, ...]]:
    """The steps of Docker's defaults that fill /proc, /dev and /sys/fs/cgroup, by folder.

    They depend on nothing that a launch brings, so a child in reserve does them on a scaffold; a launch whose plan has
    the same steps moves the folder's whole tree into its root.
    """
    usual = Spec(mounts=defaults.mounts())
    mounts = _mounts(usual, Linux(cgroups_path="/any"), layout)
    covers = _covers(defaults.readonly_paths(), defaults.masked_paths())
    steps = [*mounts, *_devices(usual, Linux()), *covers]
    found: dict[str, tuple[AnyStep, ...]] = {}
    for top in ("/proc", "/dev", "/sys/fs/cgroup"):
        found[top] = tuple(step for step in steps if any(_below(place, top) for place in step.places()))
    return found


def graft(steps: tuple[AnyStep, ...], made: Mapping[str, tuple[AnyStep, ...]]) -> tuple[AnyStep, ...]:
    """The steps that are left where the trees in `made` are there already: a tree is attached where it began."""
    given = set(steps)
    first: dict[AnyStep, Graft] = {}
    done: set[AnyStep] = set()
    for top, group in made.items():
        # Settings are written into /proc before parts of it become read-only.
        settled = top == "/proc" and any(isinstance(step, Sysctl) for step in steps)
        if group and not settled and given.issuperset(group):
            first[group[0]] = Graft(top)
            done.update(group)
    return tuple(first.get(step, step) for step in steps if step not in done or step in first)


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")


def make(
    spec: Spec,
    root: Mount,
    target: str,
    *,
    user: str = "",
    groups: tuple[str, ...] = (),
    netns: bool = False,
    layout: cgroups.Layout | None = None,
) -> Plan:
    """The plan for `spec` on the root filesystem `root`, which is mounted on `target` in the child alone.

    `user` and `groups` are names to be looked up inside; `netns` says that a network namespace comes with the launch.
    Raises InvalidParameter, NotSupported.
    """
    linux, body = spec.linux or Linux(), spec.process
    if body is None or not body.args or not body.args[0]:
        raise InvalidParameter("no command specified")
    _check_text(spec, body)
    new, joined = namespaces.kinds(linux)
    if "mount" not in new:
        raise InvalidParameter("a container needs a mount namespace of its own")
    _refuse_unsupported(spec, body, linux)
    if linux.cgroups_path:
        cgroups.check_path(linux.cgroups_path)
    steps: list[AnyStep] = [JoinNamespace(kind, path) for kind, path in sorted(joined.items())]
    if netns:
        steps.append(JoinNamespace("network"))
        new = tuple(kind for kind in new if kind != "network")
    elif "network" in new:
        steps.append(Loopback())
    spread = options.propagation(linux.rootfs_propagation or "private")[0]
    steps.append(MountRoot(root, target, int(spread)))
    steps += _mounts(spec, linux, layout or cgroups.Layout())
    steps += _devices(spec, linux)
    if body.terminal:
        size = body.console_size
        steps.append(Terminal(size.height if size else 0, size.width if size else 0))
    steps += _kernel_view(linux, new, own_network=netns or "network" in new)
    steps += _settings(spec, body, new, joined)
    steps.append(Pivot())
    if spec.root and spec.root.readonly:
        steps.append(ReadonlyRoot())
    steps += _identity(linux, body, user, groups)
    if sum(len(step.sources()) for step in steps) > _MOST_SOURCES:
        raise InvalidParameter(f"more than {_MOST_SOURCES} mounts")
    return Plan(new, tuple(steps), body.args, body.env)


def _refuse_unsupported(spec: Spec, body: Process, linux: Linux) -> None:
    """What this version does not do is said, not left out."""
    kinds = {namespace.type for namespace in linux.namespaces}
    asked = {
        "hooks": spec.hooks,
        "user and time namespaces": kinds & {"user", "time"},
        "id mappings": linux.uid_mappings or linux.gid_mappings or any(entry.uid_mappings for entry in spec.mounts),
        "schedulers": body.scheduler,
        "I/O priorities": body.io_priority,
        "AppArmor profiles": body.apparmor_profile,
        "SELinux labels": body.selinux_label or linux.mount_label,
        "personalities": linux.personality,
        "seccomp listeners": linux.seccomp and linux.seccomp.listener_path,
    }
    for name, value in asked.items():
        if value:
            raise NotSupported(f"{name} are not supported yet")


def _check_text(spec: Spec, body: Process) -> None:
    for text in (*body.args, *body.env, body.cwd, spec.hostname, spec.domainname):
        if "\0" in text:
            raise InvalidParameter(f"a zero byte in {text!r}")
    if any("=" not in entry or entry.startswith("=") for entry in body.env):
        raise InvalidParameter("an environment entry must be NAME=VALUE")
    if not body.cwd.startswith("/"):
        raise InvalidParameter(f"the working directory {body.cwd!r} is invalid, it needs to be an absolute path")
    if len(spec.hostname.encode()) > 64:
        raise InvalidParameter(f"invalid hostname {spec.hostname!r}: at most 64 bytes")


def _mounts(spec: Spec, linux: Linux, layout: cgroups.Layout) -> list[AnyStep]:
    steps: list[AnyStep] = []
    for entry in spec.mounts:
        where = posixpath.normpath("/" + entry.destination.lstrip("/"))
        if not entry.destination.startswith("/") or where == "/" or "\0" in entry.destination:
            raise InvalidParameter(f"invalid mount destination {entry.destination!r}: it must be absolute and not '/'")
        words = options.parse(entry.options)
        if words.bind or entry.type == "bind":
            steps.append(_bind(entry, where, words))
            continue
        if entry.type == "cgroup":
            if linux.cgroups_path:
                steps.append(MountCgroups(where, layout.names, bool(words.add & MountAttr.RDONLY)))
            continue
        if entry.type not in _FILESYSTEMS:
            raise InvalidParameter(f"mounting a {entry.type!r} file system is not supported")
        if entry.type != "proc":
            _keep_out_of_proc(where)
        attributes = words.add
        if entry.type == "tmpfs":
            attributes |= MountAttr.NODEV & ~words.clear
        step = MountFilesystem(where, entry.type, int(attributes), words.data, entry.source, int(words.propagation))
        steps.append(step)
    return steps


def _bind(entry: MountEntry, where: str, words: options.Options) -> BindMount:
    _keep_out_of_proc(where)
    if not posixpath.isabs(entry.source) or "\0" in entry.source:
        raise InvalidParameter(f"invalid mount source {entry.source!r}: it must be an absolute path")
    if words.data:
        raise InvalidParameter(f"invalid option {words.data[0][0]!r} for a bind mount")
    add = words.add | words.recursive_add | (MountAttr.NODEV & ~words.clear)
    recursive = words.recursive or not words.bind
    return BindMount(where, entry.source, int(add), int(words.clear), recursive, int(words.propagation))


def _keep_out_of_proc(where: str) -> None:
    """A volume over /proc would let the image say what the kernel says (2019-16884)."""
    if (where == "/proc" or where.startswith("/proc/")) and where not in rootfs.COVERABLE:
        raise InvalidParameter(f"cannot mount on {where!r}: it is inside /proc")


def _devices(spec: Spec, linux: Linux) -> list[AnyStep]:
    own_dev = any(entry.destination.rstrip("/") == "/dev" and entry.type == "tmpfs" for entry in spec.mounts)
    steps: list[AnyStep] = []
    if own_dev:
        steps += [DeviceNode(*device) for device in defaults.DEVICES]
        steps.append(DeviceLinks())
    for device in linux.devices:
        if device.type not in ("c", "b", "u"):
            raise InvalidParameter(f"device {device.path!r}: type {device.type!r} is not supported")
        if not device.path.startswith("/dev/"):
            raise InvalidParameter(f"device {device.path!r} must be below /dev")
        if own_dev and device.path in (path for path, *_ in defaults.DEVICES):
            continue
        steps.append(DeviceNode(device.path, "b" if device.type == "b" else "c", device.major, device.minor))
    return steps


def _kernel_view(linux: Linux, new: tuple[str, ...], *, own_network: bool) -> list[AnyStep]:
    steps: list[AnyStep] = []
    if linux.sysctl:
        for name in linux.sysctl:
            _check_sysctl(name, new, own_network)
        steps.append(Sysctl(tuple(sorted(linux.sysctl.items()))))
    for path in (*linux.readonly_paths, *linux.masked_paths):
        if not path.startswith("/") or ".." in path.split("/"):
            raise InvalidParameter(f"masked or read-only path {path!r} must be absolute")
    return steps + _covers(linux.readonly_paths, linux.masked_paths)


def _covers(readonly: tuple[str, ...], masked: tuple[str, ...]) -> list[AnyStep]:
    """What covers parts of the kernel's view, apart for each of its trees."""
    steps: list[AnyStep] = []
    for step, paths in ((ReadonlyPaths, readonly), (MaskPaths, masked)):
        for inside in (True, False):
            some = tuple(path for path in paths if path.startswith("/proc/") is inside)
            steps += [step(some)] if some else []
    return steps


def _check_sysctl(name: str, new: tuple[str, ...], own_network: bool) -> None:
    """Only what belongs to a namespace of the container's own may be set."""
    if "/" in name or ".." in name.split("."):
        raise InvalidParameter(f"invalid sysctl {name!r}")
    if (name in _IPC_SYSCTLS or name.startswith("fs.mqueue.")) and "ipc" in new:
        return
    if name.startswith("net.") and own_network:
        return
    raise InvalidParameter(f"sysctl {name!r} is not in a separate kernel namespace")


def _settings(spec: Spec, body: Process, new: tuple[str, ...], joined: dict[str, str]) -> list[AnyStep]:
    steps: list[AnyStep] = []
    if (spec.hostname or spec.domainname) and "uts" not in new and "uts" not in joined:
        raise InvalidParameter("unable to set hostname without a private UTS namespace")
    if spec.hostname:
        steps.append(Hostname(spec.hostname))
    if spec.domainname:
        steps.append(Domainname(spec.domainname))
    if body.oom_score_adj is not None:
        if not -1000 <= body.oom_score_adj <= 1000:
            raise InvalidParameter(f"Invalid value {body.oom_score_adj}, range for oom score adj is [-1000, 1000]")
        steps.append(OomScore(body.oom_score_adj))
    return steps


def _identity(linux: Linux, body: Process, user: str, groups: tuple[str, ...]) -> list[AnyStep]:
    """Who it is and what it may do; the order is the kernel's: each step still needs what the next one gives up."""
    steps: list[AnyStep] = []
    for limit in body.rlimits:
        if limit.type not in process.RLIMITS:
            raise InvalidParameter(f"unknown rlimit {limit.type!r}")
    if body.rlimits:
        steps.append(Rlimits(tuple((limit.type, limit.soft, limit.hard) for limit in body.rlimits)))
    if user or groups:
        steps.append(ResolveUser(user, groups))
    else:
        steps.append(UseIds(body.user.uid, body.user.gid, body.user.additional_gids))
    steps.append(WorkingDirectory(posixpath.normpath(body.cwd)))
    kept = body.capabilities or Capabilities()
    for name in (*kept.bounding, *kept.effective, *kept.permitted, *kept.inheritable, *kept.ambient):
        if name not in capabilities.ALL:
            raise InvalidParameter(f"unknown capability {name!r}")
    usable = capabilities.available()
    filters: list[AnyStep] = []
    if linux.seccomp:
        filters.append(InstallSeccomp(seccomp.compile(linux.seccomp), int(seccomp.flags(linux.seccomp))))
    steps.append(DropBounding(_of(kept.bounding, usable)))
    # Installing a filter needs CAP_SYS_ADMIN, or the promise never to gain privileges.
    steps += [] if body.no_new_privileges else filters
    umask = body.user.umask
    steps.append(SetUser(0o022 if umask is None else umask))
    sets = (kept.effective, kept.permitted, kept.inheritable, kept.ambient)
    steps.append(SetCapabilities(*(_of(names, usable) for names in sets)))
    steps.append(FindProgram(body.args[0], process.search_path(body.env)))
    if body.no_new_privileges:
        steps += [NoNewPrivileges(), *filters]
    return steps


@functools.lru_cache(maxsize=256)
def _of(names: tuple[str, ...], usable: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in usable)


def missing_capabilities(spec: Spec) -> list[str]:
    """What the specification asks for and this machine's bounding set lacks: a warning each."""
    kept = spec.process.capabilities if spec.process else None
    lacking = sorted(set(kept.bounding) - capabilities.available()) if kept else []
    return [f"{name} is not in this machine's bounding set; the container runs without it" for name in lacking]
