"""Which limits this machine's control groups have, as `docker info` says it and `docker create` goes by.

Interface: `support()` → `Support`, looked up once; `of(layout)` for a layout.

Rules: what cannot be used is not there: without a group an ordinary user has a limit on processes alone. Version 2 is
asked for its controllers, version 1 for its files.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#operation/SystemInfo
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, fields

from glassdock.linux import ids
from glassdock.runtime import cgroup_files as files
from glassdock.runtime import cgroups
from glassdock.runtime.cgroup_files import Layout


@dataclass(frozen=True, slots=True)
class Support:
    """What there is. `processors` and `nodes` are lists like 0-3,5; empty where there is no cpuset."""

    memory: bool = False
    swap: bool = False
    reservation: bool = False
    swappiness: bool = False
    oom_kill_disable: bool = False
    shares: bool = False
    quota: bool = False
    realtime: bool = False
    cpuset: bool = False
    pids: bool = False
    weight: bool = False
    throttle: bool = False
    processors: str = ""
    nodes: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """The fields that are not there."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is False)


@functools.cache
def support() -> Support:
    """What this process can use on this machine."""
    if cgroups.unavailable():
        return Support(pids=not ids.initial())  # a user namespace counts them: counted.py
    return of(cgroups.layout(), os.path.dirname(cgroups.parent_for("x")))


def of(layout: Layout, above: str = "") -> Support:
    """What the hierarchies of a layout have for groups under the group `above`."""
    if layout.v1:
        return _version_one({word: folder for _, folder, words in layout.v1 for word in words})
    return _version_two(layout.unified + above.rstrip("/")) if layout.unified else Support()


def _version_one(tops: dict[str, str]) -> Support:
    def has(controller: str, name: str) -> bool:
        return controller in tops and os.path.exists(f"{tops[controller]}/{name}")

    return Support(
        memory=has("memory", "memory.limit_in_bytes"),
        swap=has("memory", "memory.memsw.limit_in_bytes"),
        reservation=has("memory", "memory.soft_limit_in_bytes"),
        swappiness=has("memory", "memory.swappiness"),
        oom_kill_disable=has("memory", "memory.oom_control"),
        shares=has("cpu", "cpu.shares"),
        quota=has("cpu", "cpu.cfs_quota_us"),
        realtime=has("cpu", "cpu.rt_runtime_us"),
        cpuset="cpuset" in tops,
        pids="pids" in tops,
        weight=has("blkio", "blkio.weight") or has("blkio", "blkio.bfq.weight"),
        throttle=has("blkio", "blkio.throttle.read_bps_device"),
        processors=files.read(tops.get("cpuset", ""), "cpuset.cpus"),
        nodes=files.read(tops.get("cpuset", ""), "cpuset.mems"),
    )


def _version_two(top: str) -> Support:
    offered = files.read(top, "cgroup.controllers").split()
    memory, cpu, cpuset = "memory" in offered, "cpu" in offered, "cpuset" in offered
    return Support(
        memory=memory,
        swap=memory and os.path.exists("/proc/swaps"),  # a kernel that can swap counts it, too
        reservation=memory,
        shares=cpu,
        quota=cpu,
        cpuset=cpuset,
        pids="pids" in offered,
        weight="io" in offered,
        throttle="io" in offered,
        processors=files.read(top, "cpuset.cpus.effective") if cpuset else "",
        nodes=files.read(top, "cpuset.mems.effective") if cpuset else "",
    )
