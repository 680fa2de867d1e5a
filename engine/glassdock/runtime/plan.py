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
from glassdock.oci.runtime import Device, Linux, Process, Spec
from glassdock.oci.runtime import Mount as MountEntry
from glassdock.runtime import cgroups, defaults, labels, options, plan_namespaces, plan_process, rootfs
from glassdock.runtime.bundle_root import ChangeRoot
from glassdock.runtime.devices import DeviceLinks, DeviceNode, Fifo
from glassdock.runtime.listener import Listener
from glassdock.runtime.mounting import BindMount, MountFilesystem, ReadonlyMounts
from glassdock.runtime.namespaces import Domainname, Hostname, JoinNamespace, Loopback, OwnCgroupRoot
from glassdock.runtime.outside import JoinNamespaces, KernelView, NewTime, ShiftedRoot
from glassdock.runtime.plan_namespaces import Arrangement
from glassdock.runtime.plan_process import ProcessStep
from glassdock.runtime.process import OomScore
from glassdock.runtime.rootfs import (
    Detach,
    Graft,
    MaskPaths,
    MountCgroups,
    MountRoot,
    Pivot,
    Propagate,
    ReadonlyPaths,
    ReadonlyRoot,
    Scaffold,
    Sysctl,
    TakeRoot,
)
from glassdock.runtime.seccomp import InstallSeccomp
from glassdock.runtime.terminal import Terminal
from glassdock.runtime.userns import Ids
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
    | ChangeRoot
    | Propagate
    | Fifo
    | ReadonlyRoot
    | ReadonlyMounts
    | Hostname
    | Domainname
    | ShiftedRoot
    | TakeRoot
    | KernelView
    | NewTime
    | JoinNamespaces
    | ProcessStep
)

_MOST_SOURCES = 200
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)


class Plan(msgspec.Struct, frozen=True):
    """Which namespaces are cloned, what the child does in them, and what it then executes.

    `outside` is done before the clone, by somebody who goes for it (birth.py); `ids` are a new user namespace's maps.
    `last` comes after all is reported; `listener` is the agent that then decides calls.
    """

    namespaces: tuple[str, ...]
    steps: tuple[AnyStep, ...]
    args: tuple[str, ...]
    env: tuple[str, ...]
    outside: tuple[AnyStep, ...] = ()
    ids: Ids = Ids()
    last: tuple[InstallSeccomp, ...] = ()
    listener: Listener | None = None

    def describe(self) -> list[str]:
        """The plan as a person reads it."""
        before = [step.describe() for step in self.outside]
        first = f"clone with new namespaces: {', '.join(self.namespaces) or 'none'}"
        told = [step.describe() for step in (*early(self.namespaces), *self.steps)]
        told += [step.describe() for step in self.last]
        return [*before, first, *told, f"execute {' '.join(self.args)}"]

    def has_own_mounts(self) -> bool:
        """False where the container shares the machine's mounts."""
        return not any(isinstance(step, ChangeRoot) for step in self.steps)

    def differs(self, kind: str) -> bool:
        """True where a namespace of that kind is new, or was joined outside."""
        joined = (step for step in self.outside if isinstance(step, JoinNamespaces))
        return kind in self.namespaces or any(kind == name for step in joined for name, _ in step.paths)


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
    mounts = _mounts(usual.mounts, Linux(cgroups_path="/any"), layout)
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
    shift: bool = True,
    layout: cgroups.Layout | None = None,
) -> Plan:
    """The plan for `spec` on the root filesystem `root`, which is mounted on `target` in the child alone.

    `user` and `groups` are names to be looked up inside; `netns` says that a network namespace comes with the launch;
    with `shift` a user namespace sees the root's files as its own. Raises InvalidParameter, NotSupported.
    """
    linux, body = spec.linux or Linux(), spec.process
    if body is None or not body.args or not body.args[0]:
        raise InvalidParameter("no command specified")
    _check_text(spec, body)
    arranged = plan_namespaces.arrange(spec, root, target, netns=netns, shift=shift)
    _refuse_unsupported(spec, linux)
    labels.check(body, linux)
    if linux.cgroups_path:
        cgroups.check_path(linux.cgroups_path)
    steps: list[AnyStep] = list(arranged.first)
    ids = arranged.ids if arranged.own_user else None
    inside, later = _inside(spec.mounts, target), _later(spec.mounts)
    steps += _mounts(inside, linux, layout or cgroups.Layout(), arranged.views, ids, target)
    steps += _devices(spec, linux, ids)
    if body.terminal:
        size = body.console_size
        steps.append(Terminal(size.height if size else 0, size.width if size else 0))
    steps += _kernel_view(linux, arranged)
    steps += _settings(spec, body, arranged)
    steps.append(Pivot() if arranged.has("mount") else ChangeRoot(target))
    if arranged.after_pivot:
        steps.append(Propagate(arranged.after_pivot))
    if spec.root and spec.root.readonly:
        steps.append(ReadonlyRoot())
    if later:
        steps.append(ReadonlyMounts(later))
    steps += plan_process.identity(linux, body, user, groups, own_user=arranged.own_user)
    if sum(len(step.sources()) for step in steps) > _MOST_SOURCES:
        raise InvalidParameter(f"more than {_MOST_SOURCES} mounts")
    last, agent = plan_process.filters(linux, body), plan_process.listener(linux)
    return Plan(arranged.new, tuple(steps), body.args, body.env, arranged.outside, arranged.ids, last, agent)


def _refuse_unsupported(spec: Spec, linux: Linux) -> None:
    """What this version does not do is said, not left out."""
    if spec.hooks:
        raise NotSupported("hooks are not supported yet")
    if linux.intel_rdt is not None:
        raise NotSupported("intelRdt is specified in config, but Intel RDT is not enabled", "Leave intelRdt out.")
    if linux.net_devices:
        raise NotSupported(
            "moving network devices into a container is not supported",
            "Leave netDevices out and move them with `ip link set DEVICE netns PID` from a createRuntime hook.",
        )


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


def _inside(mounts: tuple[MountEntry, ...], root: str) -> tuple[MountEntry, ...]:
    """The mounts, those whose destination is written as the machine sees it named as the container does."""
    if not any(entry.destination.startswith(f"{root}/") for entry in mounts):
        return mounts
    return tuple(
        msgspec.structs.replace(entry, destination=entry.destination[len(root) :])
        if entry.destination.startswith(f"{root}/")
        else entry
        for entry in mounts
    )


def _later(mounts: tuple[MountEntry, ...]) -> tuple[str, ...]:
    """What becomes read-only once others were mounted in it."""
    found = (entry for entry in mounts if entry.type == "tmpfs")
    return tuple(_where(entry) for entry in found if options.parse(entry.options).add & MountAttr.RDONLY)


def _where(entry: MountEntry) -> str:
    # A destination that is not absolute begins at the root as well: the specification's word for old bundles.
    where = posixpath.normpath("/" + entry.destination.lstrip("/"))
    if not entry.destination or where == "/" or "\0" in entry.destination:
        raise InvalidParameter(f"invalid mount destination {entry.destination!r}: it must be a path and not '/'")
    return where


def _mounts(
    mounts: tuple[MountEntry, ...],
    linux: Linux,
    layout: cgroups.Layout,
    views: tuple[str, ...] = (),
    ids: Ids | None = None,
    root: str = "",
) -> list[AnyStep]:
    steps: list[AnyStep] = []
    for entry in mounts:
        where = _where(entry)
        words = options.parse(entry.options)
        if words.bind or entry.type == "bind":
            steps.append(_bind(entry, where, words, ids, root))
            continue
        if entry.uid_mappings or entry.gid_mappings or words.shift:
            raise InvalidParameter("id-mapped mounts are only supported for bind-mounts")
        if entry.type in ("cgroup", "cgroup2"):
            if linux.cgroups_path:
                steps.append(MountCgroups(where, layout.names, bool(words.add & MountAttr.RDONLY)))
            elif layout.names:  # none of its own: nor does it see the machine's, in a /sys that may be the machine's
                empty = int(words.add | MountAttr.RDONLY)
                steps.append(MountFilesystem(where, "tmpfs", empty, (("mode", "755"), ("size", "0"))))
            continue
        if not entry.type or "\0" in entry.type:
            raise InvalidParameter(f"the mount on {where!r} has no type")
        if entry.type != "proc":
            _keep_out_of_proc(where)
        attributes = words.add
        if entry.type == "tmpfs":
            attributes = (attributes | MountAttr.NODEV & ~words.clear) & ~MountAttr.RDONLY
        data = words.data
        if linux.mount_label and entry.type not in ("proc", "sysfs"):
            data += (("context", linux.mount_label),)
        spread, given = int(words.propagation), entry.type in views
        copy_up = words.copy_up and entry.type == "tmpfs"
        steps.append(MountFilesystem(where, entry.type, int(attributes), data, entry.source, spread, given, copy_up))
    return steps


def _bind(entry: MountEntry, where: str, words: options.Options, ids: Ids | None, root: str) -> BindMount:
    _keep_out_of_proc(where)
    if not posixpath.isabs(entry.source) or "\0" in entry.source:
        raise InvalidParameter(f"invalid mount source {entry.source!r}: it must be an absolute path")
    subpath = dict(words.data).get(options.SUBPATH, "")
    if unknown := [key for key, _ in words.data if key != options.SUBPATH]:
        raise InvalidParameter(f"invalid option {unknown[0]!r} for a bind mount")
    below = words.recursive_add | (MountAttr.NODEV & ~(words.clear | words.recursive_clear))
    looks = (int(words.add), int(words.clear), int(below), int(words.recursive_clear))
    recursive = words.recursive or not words.bind
    spread = int(words.propagation)
    shown, deep = _shift(entry, words, ids), words.shift == "ridmap"
    inside = entry.source[len(root) :] if root and entry.source.startswith(f"{root}/") else ""
    return BindMount(where, entry.source, *looks, recursive, spread, shown, deep, inside, subpath)


def _shift(entry: MountEntry, words: options.Options, ids: Ids | None) -> Ids | None:
    """With which ids a mount is to be seen: its own, or with idmap alone those of the container's user namespace."""
    if bool(entry.uid_mappings) != bool(entry.gid_mappings):
        raise InvalidParameter("id-mapped mounts must have both uid and gid mappings specified")
    if entry.uid_mappings:
        return Ids(entry.uid_mappings, entry.gid_mappings)
    if not words.shift:
        return None
    if ids is None or not (ids.uids or ids.path):
        raise InvalidParameter(
            f"mount {entry.destination!r}: {words.shift} needs mappings, and the container has no user namespace"
        )
    return ids


def _keep_out_of_proc(where: str) -> None:
    """A volume over /proc would let the image say what the kernel says (2019-16884)."""
    if (where == "/proc" or where.startswith("/proc/")) and where not in rootfs.COVERABLE:
        raise InvalidParameter(f"cannot mount on {where!r}: it is inside /proc")


def _devices(spec: Spec, linux: Linux, ids: Ids | None = None) -> list[AnyStep]:
    own_dev = any(entry.destination.rstrip("/") == "/dev" and entry.type == "tmpfs" for entry in spec.mounts)
    steps: list[AnyStep] = []
    if own_dev:
        steps += [DeviceNode(*device) for device in defaults.DEVICES]
        steps.append(DeviceLinks())
    for device in linux.devices:
        where = posixpath.normpath("/" + device.path.lstrip("/"))
        if not device.path.startswith("/") or where == "/" or "\0" in device.path:
            raise InvalidParameter(f"device {device.path!r}: the path must be absolute")
        _keep_out_of_proc(where)
        if own_dev and (where == "/dev/ptmx" or where in (path for path, *_ in defaults.DEVICES)):
            continue  # there already; ptmx is that of its own devpts
        steps.append(_device(device, where, ids))
    return steps


def _device(device: Device, where: str, ids: Ids | None) -> AnyStep:
    mode = -1 if device.file_mode is None else device.file_mode & 0o7777
    if device.type == "p":
        return Fifo(where, 0o666 if mode < 0 else mode, device.uid or 0, device.gid or 0)
    if device.type not in ("c", "b", "u"):
        raise InvalidParameter(f"invalid device type {device.type!r} for {device.path}", "Choose of c, b, u and p.")
    if device.major < 0 or device.minor < 0:
        raise InvalidParameter(f"device {device.path!r}: major and minor cannot be negative")
    # The node is made outside, where the container's ids are others.
    uid, gid = (device.uid, device.gid) if ids is None else ids.outside(device.uid, device.gid)
    kind = "b" if device.type == "b" else "c"
    looks = (mode, -1 if uid is None else uid, -1 if gid is None else gid)
    return DeviceNode(where, kind, device.major, device.minor, *looks)


def _kernel_view(linux: Linux, arranged: Arrangement) -> list[AnyStep]:
    steps: list[AnyStep] = []
    if linux.sysctl:
        values = {_dotted(name): value for name, value in linux.sysctl.items()}
        for name in values:
            _check_sysctl(name, arranged)
        steps.append(Sysctl(tuple(sorted(values.items()))))
    for path in (*linux.readonly_paths, *linux.masked_paths):
        if not path.startswith("/") or ".." in path.split("/"):
            raise InvalidParameter(f"masked or read-only path {path!r} must be absolute")
    return steps + _covers(linux.readonly_paths, linux.masked_paths)


def _covers(readonly: tuple[str, ...], masked: tuple[str, ...]) -> list[AnyStep]:
    """What covers parts of the kernel's view, apart for each of its trees."""
    steps: list[AnyStep] = []
    for step, paths in ((ReadonlyPaths, readonly), (MaskPaths, masked)):
        for inside in (True, False):
            whole = dict.fromkeys(posixpath.normpath(path) for path in paths)
            some = tuple(path for path in whole if path.startswith("/proc/") is inside)
            steps += [step(some)] if some else []
    return steps


def _dotted(name: str) -> str:
    """sysctl(8) takes `net/ipv4/conf/eth0.1/x` for `net.ipv4.conf.eth0/1.x` too: the first separator decides."""
    first = next((letter for letter in name if letter in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def _check_sysctl(name: str, arranged: Arrangement) -> None:
    """Only what belongs to a namespace of the container's own may be set."""
    # What will be the path below /proc/sys.
    if {"", ".", ".."} & set(name.translate(str.maketrans("./", "/.")).split("/")) or "\0" in name:
        raise InvalidParameter(f"invalid sysctl {name!r}")
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        if not arranged.has("ipc"):
            raise InvalidParameter(f"sysctl {name!r} is not allowed in the hosts ipc namespace")
    elif name.startswith("net."):
        if not arranged.has("network"):
            raise InvalidParameter(f"sysctl {name!r} not allowed in host network namespace")
    elif name == "kernel.hostname" and arranged.has("uts"):
        raise InvalidParameter(f"sysctl {name!r} is not allowed as it conflicts with the OCI 'hostname' field")
    elif name.startswith("user."):
        if not arranged.own_user:
            raise InvalidParameter(f"setting ucounts without a user namespace not allowed: {name}")
    elif name != "kernel.domainname" or not arranged.has("uts"):
        raise InvalidParameter(f"sysctl {name!r} is not in a separate kernel namespace")


def _settings(spec: Spec, body: Process, arranged: Arrangement) -> list[AnyStep]:
    steps: list[AnyStep] = []
    if (spec.hostname or spec.domainname) and not arranged.has("uts"):
        raise InvalidParameter("unable to set hostname without a private UTS namespace")
    if spec.hostname:
        steps.append(Hostname(spec.hostname))
    if spec.domainname:
        steps.append(Domainname(spec.domainname))
    if body.oom_score_adj is not None:
        if not -1000 <= body.oom_score_adj <= 1000:
            raise InvalidParameter(f"Invalid value {body.oom_score_adj}, range for oom score adj is [-1000, 1000]")
        if not arranged.own_user:
            steps.append(OomScore(body.oom_score_adj))
    return steps
