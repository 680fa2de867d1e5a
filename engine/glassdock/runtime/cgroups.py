"""Control groups: how much of the machine a set of processes may use. This file is the same for v1 and v2.

Interface:
- `layout()`: what is mounted on this machine: v1, v2 or both (hybrid); `unavailable()`: why no group can be made.
- `open_cgroup(path, layout)` → a `Cgroup`: create, apply limits, join, stats, freeze, kill, remove. `frozen(path)`.
- `Renamable`: a `Cgroup` that can be given another name, so that it can be made ahead of need: version 1.
- `check(resources)`: refuses limits that make no sense, before anything starts, in Docker's words.
- `parent_for(name)`: the path of an engine's group; `claim()`: make it usable where it is delegated to a user.
- `hold(path)`, `leave(path)`: keep an engine's group, take it away; `clear(parent, prefix)`: what a killed one left.

Rules: `remove` never leaves a member behind: it kills what is inside first. A limit that this kernel has no file for is
a warning; a limit that the kernel refuses is an error. The last container out of an engine that is gone takes the
engine's group with it.

Sources: cgroups(7), https://docs.kernel.org/admin-guide/cgroup-v2.html, .../cgroup-v1/
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from typing import Protocol, runtime_checkable

from glassdock.errors import InvalidParameter, NotSupported
from glassdock.oci.runtime import Resources
from glassdock.runtime import cgroup_delegation
from glassdock.runtime import cgroup_files as files
from glassdock.runtime.cgroup_files import Layout
from glassdock.runtime.cgroup_stats import Stats
from glassdock.runtime.cgroups_v1 import CgroupV1
from glassdock.runtime.cgroups_v2 import CgroupV2

__all__ = ["Cgroup", "Layout", "Renamable", "Stats", "check", "check_path", "layout", "open_cgroup"]
__all__ += ["claim", "clear", "frozen", "hold", "leave", "parent_for", "parse_mountinfo", "unavailable", "version"]

_PAGE_SIZE = r"[0-9]+[KMG]B"
_LIST = r"\d+(-\d+)?(,\d+(-\d+)?)*"


class Cgroup(Protocol):
    """One group: a folder (v2), or one of the same path in each hierarchy (v1)."""

    path: str

    def create(self) -> None: ...
    def exists(self) -> bool: ...
    def apply(self, resources: Resources) -> list[str]: ...
    def join(self, pid: int) -> None: ...
    def enter(self) -> None: ...
    def descriptor(self) -> int: ...
    def views(self) -> tuple[tuple[str, str], ...]: ...
    def pids(self) -> list[int]: ...
    def stats(self) -> Stats: ...
    def oom_kills(self) -> int: ...
    def oom_kills_after(self, known: int) -> int: ...
    def oom_watch(self) -> int: ...
    def freeze(self, frozen: bool) -> None: ...
    def kill(self) -> None: ...
    def remove(self) -> None: ...


@runtime_checkable
class Renamable(Cgroup, Protocol):
    """A group that can be made under one name and get another one later."""

    def rename(self, path: str) -> None: ...


def parse_mountinfo(text: str) -> Layout:
    """The layout that the text of /proc/self/mountinfo describes (proc_pid_mountinfo(5))."""
    v1: dict[str, tuple[str, tuple[str, ...]]] = {}
    unified = ""
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        where = fields.split(" ")[4]
        if kind == "cgroup2" and (not unified or where.startswith("/sys/fs/cgroup")):
            unified = where
        elif kind == "cgroup":
            words = options.split(",")
            named = [word for word in words if word.startswith("name=")]
            known = [word for word in words if word in _CONTROLLERS]
            v1.setdefault(os.path.basename(where), (where, tuple(known or named)))
    return Layout(tuple((name, *found) for name, found in sorted(v1.items())), unified)


_CONTROLLERS = frozenset(
    "cpu cpuacct cpuset memory devices freezer blkio pids hugetlb net_cls net_prio perf_event rdma misc".split()
)


@functools.cache
def layout() -> Layout:
    """The layout of this machine, read once."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return parse_mountinfo(file.read())


@functools.cache
def _place() -> cgroup_delegation.Place:
    return cgroup_delegation.find(layout(), cgroup_delegation.own_path())


def unavailable() -> str:
    """Why this process can make no group, in one sentence; "" where it can."""
    return _place().reason


def parent_for(name: str) -> str:
    """The path of an engine's group of that name: at the root, or in the group that is delegated to this user."""
    return f"{_place().path}/{name}"


def claim() -> None:
    """Before the first group of an engine: a delegated group hands its controllers down. Raises OSError."""
    if _place().path:
        cgroup_delegation.claim(layout().unified + _place().path)


def version() -> str:
    """The version that limits go through on this machine, as Docker says it: "1" or "2"."""
    return "2" if layout().version == "v2" else "1"


def open_cgroup(path: str, found: Layout | None = None) -> Cgroup:
    """The group at `path`, which need not exist. Raises InvalidParameter, or NotSupported where nothing is mounted."""
    checked = check_path(path)
    found = found or layout()
    if found.version == "none":
        raise NotSupported("no cgroup hierarchy is mounted", "Mount one: mount -t cgroup2 none /sys/fs/cgroup")
    return CgroupV1(checked, found) if found.v1 else CgroupV2(checked, found)


def frozen(path: str) -> bool:
    """Whether the members of the group at `path` are stopped where they are, or about to be."""
    found = layout()
    places = [(f"{top}{path}", "freezer.state") for _, top, words in found.v1 if "freezer" in words]
    places = places or [(found.unified + path, "cgroup.freeze")]
    return files.read(*places[0]) in ("FROZEN", "FREEZING", "1")


def check_path(path: str) -> str:
    """An absolute, plain path; raises InvalidParameter."""
    parts = path.strip("/").split("/")
    if not path.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\0" in path:
        raise InvalidParameter(f"cgroup path {path!r} must be absolute and plain")
    return path.rstrip("/")


def clear(parent: str, prefix: str) -> None:
    """Remove the groups under `parent` whose name begins with `prefix` and that no process is in."""
    for top in _tops():
        folder = top + parent
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            continue
        for name in names:
            if name.startswith(prefix):
                with contextlib.suppress(OSError):  # EBUSY: another launcher's, alive
                    os.rmdir(f"{folder}/{name}")


def hold(path: str) -> int:
    """Make an engine's group, which stays until the descriptor is closed, whoever leaves it. Raises OSError."""
    open_cgroup(path).create()
    return files.hold(_tops()[0] + path)


def leave(path: str) -> None:
    """Take an engine's group away if nobody holds it, and neither a process nor a group is in it."""
    files.leave([top + path for top in _tops()])


def _tops() -> list[str]:
    found = layout()
    return [*(folder for _, folder, _ in found.v1), *([found.unified] if found.unified else [])]


def check(resources: Resources) -> None:
    """Raise InvalidParameter for limits that contradict each other or that no kernel takes."""
    _check_memory(resources)
    _check_cpu(resources)
    pids, block = resources.pids, resources.block_io
    if pids and (pids.limit or 0) > 4_194_304:
        raise InvalidParameter(f"invalid PID limit {pids.limit}: the kernel has 4194304")
    if block:
        weights = [block.weight, *(device.weight for device in block.weight_device)]
        if any(weight and not 10 <= weight <= 1000 for weight in weights):
            raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    for page in resources.hugepage_limits:
        if not re.fullmatch(_PAGE_SIZE, page.page_size):
            raise InvalidParameter(f"invalid huge page size {page.page_size!r}", "Write it as the kernel: 2MB, 1GB.")
    for name in resources.unified:
        if "/" in name or name.startswith(".") or "." not in name:
            raise InvalidParameter(f"invalid cgroup file {name!r}")
    if resources.unified and layout().version == "v1":
        raise InvalidParameter("invalid configuration: cannot use unified on cgroup v1")


def _check_cpu(resources: Resources) -> None:
    cpu = resources.cpu
    if cpu is None:
        return
    if cpu.period and not 1000 <= cpu.period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if cpu.quota and 0 < cpu.quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if cpu.shares is not None and not 0 <= cpu.shares <= 262144:
        raise InvalidParameter(f"invalid CPU shares {cpu.shares}: must be 2 to 262144")
    if cpu.idle not in (None, 0, 1):
        raise InvalidParameter(f"invalid CPU idle {cpu.idle}: must be 0 or 1")
    for name, value in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if value and not re.fullmatch(_LIST, value):
            raise InvalidParameter(f"Invalid value {value} for cpuset {name}")


def _check_memory(resources: Resources) -> None:
    memory = resources.memory
    if memory is None:
        return
    limit, swap, reservation = memory.limit or 0, memory.swap or 0, memory.reservation or 0
    if swap > 0 and limit <= 0:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < swap < limit:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if 0 < limit < reservation:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    if min(limit, swap, reservation) < -1:
        raise InvalidParameter(f"invalid memory limit {min(limit, swap, reservation)}: -1 is unlimited")
    if memory.swappiness is not None and not -1 <= memory.swappiness <= 100:
        raise InvalidParameter(f"Invalid value: {memory.swappiness}, valid memory swappiness range is 0-100")
