"""Control groups, version 1: one hierarchy a controller, and a group is a folder of the same path in each.

Interface: `CgroupV1` is `cgroups.Cgroup`, and `cgroups.Renamable`: only version 1 gives a group another name.

Rules: joining one hierarchy makes the kernel wait for a grace period (about 1.5 ms), which is why the launcher keeps
groups that are already joined and renames them. Where a version 2 is mounted beside (hybrid), a group of the same
path is made there when a limit is asked for that only version 2 has here, hugetlb for one.

Source: https://docs.kernel.org/admin-guide/cgroup-v1/
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time

from glassdock.errors import NotSupported, StartFailed
from glassdock.oci.runtime import CPU, BlockIO, Memory, NetworkMarks, Resources
from glassdock.runtime import cgroup_devices, cgroup_stats
from glassdock.runtime import cgroup_files as files
from glassdock.runtime.cgroup_files import Layout, set_limit
from glassdock.runtime.cgroup_stats import Stats
from glassdock.runtime.cgroups_v2 import CgroupV2

_PATIENCE = 5.0
_MOMENT = 0.2
_BEFORE_THE_KILL = 0.1
_TRIES = 20


class CgroupV1:
    """A group in all hierarchies of version 1."""

    def __init__(self, path: str, layout: Layout) -> None:
        self.path = path
        self._hierarchies = layout.v1
        self._tops = {word: top for _, top, words in layout.v1 for word in words}
        self._layout = layout

    def create(self) -> None:
        """Make the folders; a cpuset begins empty in v1, so it takes its parent's."""
        for _, top, words in self._hierarchies:
            _make(top + self.path)
            if "cpuset" in words:
                self._fill_cpuset(top)

    def exists(self) -> bool:
        """True while any of its folders is there."""
        return any(os.path.isdir(top + self.path) for _, top, _ in self._hierarchies)

    def beside(self) -> CgroupV2 | None:
        """The group of the same path in version 2, where one was made (hybrid)."""
        found = CgroupV2(self.path, self._layout) if self._layout.unified else None
        return found if found and found.exists() else None

    def apply(self, resources: Resources) -> list[str]:
        """Set the limits; returns warnings about those that this kernel lacks."""
        warnings: list[str] = []
        folder = self._folder("devices")
        for rule in resources.devices if folder else ():
            name = "devices.allow" if rule.allow else "devices.deny"
            set_limit(folder, name, cgroup_devices.line(rule), warnings)
        if resources.memory:
            self._memory(resources.memory, warnings)
        if resources.cpu:
            self._cpu(resources.cpu, warnings)
        if resources.pids and resources.pids.limit is not None:
            self._set("pids", "pids.max", files.most_processes(resources.pids.limit), warnings)
        if resources.block_io:
            self._block_io(resources.block_io, warnings)
        if resources.network:
            self._network(resources.network, warnings)
        for device, limits in resources.rdma.items():
            for key, value in (("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)):
                if value is not None:
                    self._set("rdma", "rdma.max", f"{device} {key}={value}", warnings)
        self._version_two(resources, warnings)
        return warnings

    def _version_two(self, resources: Resources, warnings: list[str]) -> None:
        """Huge pages, and files by name: of this version, or of a version 2 that is mounted beside."""
        missing = [page for page in resources.hugepage_limits if not self._huge_pages(page.page_size, page.limit)]
        if not missing and not resources.unified:
            return
        group = CgroupV2(self.path, self._layout) if self._layout.unified else None
        if group is None:
            warnings += [f"this kernel does not limit huge pages of {page.page_size}" for page in missing]
            if resources.unified:
                raise StartFailed("invalid configuration: cannot use unified on cgroup v1")
            return
        group.create()
        for pid in self.pids():
            group.join(pid)
        for page in missing:
            group.limit_huge_pages(page.page_size, page.limit, warnings)
        try:
            group.apply_unified(resources.unified)
        except StartFailed as error:
            text = f"invalid configuration: cannot use unified on cgroup v1: {error.message}"
            raise StartFailed(text, errno=error.errno) from error

    def _huge_pages(self, size: str, limit: int) -> bool:
        folder = self._folder("hugetlb")
        if not folder:
            return False
        set_limit(folder, f"hugetlb.{size}.limit_in_bytes", limit, [])
        if os.path.exists(f"{folder}/hugetlb.{size}.rsvd.limit_in_bytes"):
            set_limit(folder, f"hugetlb.{size}.rsvd.limit_in_bytes", limit, [])
        return True

    def join(self, pid: int) -> None:
        """Put the process into the group, in every hierarchy; 0 is the caller."""
        for _, top, _ in self._hierarchies:
            files.write(top + self.path, "cgroup.procs", pid)
        if group := self.beside():
            group.join(pid)

    def enter(self) -> None:
        """Put the caller, who has one thread, into the group; other than for `join` the kernel waits for nobody.

        A thread that moves itself cannot exec or end meanwhile, so the kernel need not stop all others from forking
        (cgroup_procs_write_start in kernel/cgroup/cgroup.c): 1 ms instead of 8 for all hierarchies.
        """
        for _, top, _ in self._hierarchies:
            files.write(top + self.path, "tasks", 0)
        if group := self.beside():
            group.enter()

    def descriptor(self) -> int:
        """-1: a clone cannot begin in a group of version 1."""
        return -1

    def rename(self, path: str) -> None:
        """Give the group another name beside its old one."""
        with contextlib.ExitStack() as undo:
            for _, top, _ in self._hierarchies:
                os.rename(top + self.path, top + path)
                undo.callback(os.rename, top + path, top + self.path)
            undo.pop_all()
        self.path = path

    def views(self) -> tuple[tuple[str, str], ...]:
        """(name of the hierarchy's folder, path of the group in it), to be shown inside."""
        return tuple((name, top + self.path) for name, top, _ in self._hierarchies)

    def pids(self) -> list[int]:
        """Its processes, in the machine's numbers."""
        return files.members(self._any())

    def stats(self) -> Stats:
        """What it uses now."""
        group = self.beside()
        return cgroup_stats.read_v1(self._folder, group.folder if group else "")

    def oom_kills(self) -> int:
        """How often the kernel killed a member because memory was short."""
        return files.read_table(self._folder("memory"), "memory.oom_control").get("oom_kill", 0)

    def oom_kills_after(self, known: int) -> int:
        """`oom_kills` after `oom_watch` had something: version 1 says so a moment before it chooses whom to kill."""
        deadline = time.monotonic() + _BEFORE_THE_KILL
        while (found := self.oom_kills()) <= known and time.monotonic() < deadline:
            time.sleep(0.001)
        return found

    def oom_watch(self) -> int:
        """A descriptor that can be read when `oom_kills` may have grown; the caller closes it. Raises OSError."""
        folder = self._folder("memory")
        control = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        watch = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            files.write(folder, "cgroup.event_control", f"{watch} {control}")
        except OSError:
            os.close(watch)
            raise
        finally:
            os.close(control)
        return watch

    def freeze(self, frozen: bool) -> None:
        """Stop or continue all members; returns when it is so. Raises NotSupported, TimeoutError."""
        folder = self._folder("freezer")
        if not folder:
            raise NotSupported("this kernel has no freezer", "Mount the freezer hierarchy of cgroup v1.")
        wanted = "FROZEN" if frozen else "THAWED"
        deadline = time.monotonic() + _PATIENCE
        while files.read(folder, "freezer.state") != wanted:
            files.write(folder, "freezer.state", wanted)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.path} does not become {wanted.lower()}")
            time.sleep(0.001)

    def kill(self) -> None:
        """SIGKILL all members until none is left; they cannot fork meanwhile. Raises TimeoutError."""
        if self.exists():
            self._kill(self._any())

    def _kill(self, place: str) -> None:
        """Kill what is in the group's folder `place` of one hierarchy, and in groups that were made inside it."""
        pids, freezer = self._folder("pids"), self._folder("freezer")
        closed = bool(pids) and os.path.isdir(pids)
        if closed:
            files.write(pids, "pids.max", 0)
        deadline = time.monotonic() + _PATIENCE
        while found := files.members(place):
            if freezer and not closed:
                _set_freezer(freezer, "FROZEN")  # or one could fork faster than we kill
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if freezer:
                _set_freezer(freezer, "THAWED")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} processes in {self.path} do not die")
            time.sleep(0.001)

    def remove(self) -> None:
        """Kill what is inside and remove the folders."""
        self.kill()
        deadline = time.monotonic() + _PATIENCE
        for _, top, _ in self._hierarchies:
            try:
                files.remove_tree(top + self.path, time.monotonic() + _MOMENT)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                # Somebody is in this hierarchy's group who left the others: a container can be given the right to.
                self._kill(top + self.path)
                files.remove_tree(top + self.path, deadline)
        if group := self.beside():
            group.remove()
        beside = [self._layout.unified] if self._layout.unified else []
        files.leave_above(self.path, [*(top for _, top, _ in self._hierarchies), *beside])

    def _folder(self, controller: str) -> str:
        top = self._tops.get(controller)
        return top + self.path if top else ""

    def _any(self) -> str:
        return self._folder("pids") or self._hierarchies[0][1] + self.path

    def _set(self, controller: str, name: str, value: str | int, warnings: list[str]) -> None:
        folder = self._folder(controller)
        if folder:
            set_limit(folder, name, value, warnings)
        else:
            warnings.append(f"this kernel has no {controller} controller; {name} was discarded")

    def _fill_cpuset(self, top: str) -> None:
        walked = top
        for part in self.path.strip("/").split("/"):
            above, walked = walked, f"{walked}/{part}"
            for name in ("cpuset.cpus", "cpuset.mems"):
                if not files.read(walked, name):
                    files.write(walked, name, files.read(above, name))

    def _memory(self, memory: Memory, warnings: list[str]) -> None:
        limit, swap = memory.limit, memory.swap
        if limit == -1 and not swap and files.read(self._folder("memory"), "memory.memsw.limit_in_bytes"):
            swap = -1
        pair = [("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", swap)]
        # Memory with swap may never be below memory alone: raise the upper one first, lower the lower one first.
        current = files.read_number(self._folder("memory"), "memory.memsw.limit_in_bytes", -1)
        if limit == -1 or (limit is not None and 0 <= current < limit):
            pair.reverse()
        used = files.read_number(self._folder("memory"), "memory.usage_in_bytes")
        if memory.check_before_update and limit and 0 < limit <= used:
            raise StartFailed(f"rejecting memory limit {limit} (less than current usage {used})")
        for name, value in pair:
            if value:
                self._set("memory", name, value, warnings)
        for name, number in (
            ("memory.soft_limit_in_bytes", memory.reservation or None),
            ("memory.swappiness", memory.swappiness if memory.swappiness != -1 else None),
            ("memory.oom_control", 1 if memory.disable_oom_killer else None),
        ):
            if number is not None:
                self._set("memory", name, number, warnings)
        if memory.kernel or memory.kernel_tcp:
            warnings.append("the kernel has no limit for its own memory any longer; it was discarded")

    def _network(self, marks: NetworkMarks, warnings: list[str]) -> None:
        if marks.class_id is not None:
            self._set("net_cls", "net_cls.classid", marks.class_id, warnings)
        for one in marks.priorities:
            self._set("net_prio", "net_prio.ifpriomap", f"{one.name} {one.priority}", warnings)

    def _cpu(self, cpu: CPU, warnings: list[str]) -> None:
        burst = ("cpu.cfs_burst_us", cpu.burst)
        # A burst may not be longer than the quota: a shorter one is set before the quota, a longer one after it.
        before = cpu.burst is not None and cpu.burst < files.read_number(self._folder("cpu"), burst[0])
        retried: list[tuple[str, int]] = []
        for name, value in (
            ("cpu.idle", cpu.idle),
            ("cpu.shares", None if cpu.idle else cpu.shares or None),  # an idle group has no weight of its own
            *([burst] if before else []),
            ("cpu.cfs_period_us", cpu.period or None),
            ("cpu.cfs_quota_us", cpu.quota or None),
            *([] if before else [burst]),
            ("cpu.rt_period_us", cpu.realtime_period),
            ("cpu.rt_runtime_us", cpu.realtime_runtime),
        ):
            if value is None:
                continue
            try:
                self._set("cpu", name, value, warnings)
            except StartFailed as error:
                # The old share of a shorter period may be more than the group above has: once the new one is there.
                if error.errno != errno.EINVAL or not name.endswith("period_us"):
                    raise
                retried.append((name, value))
        for name, value in retried:
            self._set("cpu", name, value, warnings)
        for name, text in (("cpuset.cpus", cpu.cpus), ("cpuset.mems", cpu.mems)):
            if text:
                self._set("cpuset", name, text, warnings)

    def _block_io(self, block: BlockIO, warnings: list[str]) -> None:
        prefix = "blkio.bfq" if os.path.exists(f"{self._folder('blkio')}/blkio.bfq.weight") else "blkio"
        if block.weight:
            self._set("blkio", f"{prefix}.weight", block.weight, warnings)
        if block.leaf_weight:
            self._set("blkio", f"{prefix}.leaf_weight", block.leaf_weight, warnings)
        for device in block.weight_device:
            for name, weight in (("weight_device", device.weight), ("leaf_weight_device", device.leaf_weight)):
                if weight:
                    self._set("blkio", f"{prefix}.{name}", f"{device.major}:{device.minor} {weight}", warnings)
        for name, devices in (
            ("read_bps", block.throttle_read_bps_device),
            ("write_bps", block.throttle_write_bps_device),
            ("read_iops", block.throttle_read_iops_device),
            ("write_iops", block.throttle_write_iops_device),
        ):
            for entry in devices:
                line = f"{entry.major}:{entry.minor} {entry.rate}"
                self._set("blkio", f"blkio.throttle.{name}_device", line, warnings)


def _make(folder: str) -> None:
    """Make a folder and those above it; again where one above, empty, has just been taken away by somebody else."""
    for left in reversed(range(_TRIES)):
        try:
            os.makedirs(folder, exist_ok=True)
            return
        except FileNotFoundError:
            if not left:
                raise


def _set_freezer(top: str, state: str) -> None:
    """Freeze or thaw a group and those that its members made inside it."""
    for folder in files.groups(top):
        if files.read(folder, "freezer.state") not in (state, ""):
            with contextlib.suppress(FileNotFoundError):
                files.write(folder, "freezer.state", state)
