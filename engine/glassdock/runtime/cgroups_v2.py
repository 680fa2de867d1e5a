"""Control groups, version 2: one hierarchy, a folder a group, controllers switched on from above.

Interface: `CgroupV2` is `cgroups.Cgroup`.

Rules: a group that hands controllers down holds no process of its own (the "no internal process" rule). Groups keep
the name they were made with; a clone that begins in a group (`descriptor`) waits for nothing instead.

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from glassdock.errors import StartFailed
from glassdock.linux import inotify
from glassdock.oci.runtime import CPU, BlockIO, Memory, Resources
from glassdock.runtime import cgroup_devices, cgroup_stats
from glassdock.runtime import cgroup_files as files
from glassdock.runtime.cgroup_files import Layout, set_limit
from glassdock.runtime.cgroup_stats import Stats

_WANTED = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma")
_PATIENCE = 5.0
_TRIES = 20


class CgroupV2:
    """A group of the unified hierarchy."""

    def __init__(self, path: str, layout: Layout) -> None:
        self.path = path
        self._top = layout.unified

    @property
    def folder(self) -> str:
        """Its folder on this machine."""
        return self._top + self.path

    def create(self) -> None:
        """Make the folder and those above, and hand the controllers down to it."""
        names = self.path.strip("/").split("/")
        folders = [self._top + "".join(f"/{name}" for name in names[:depth]) for depth in range(len(names) + 1)]
        for left in reversed(range(_TRIES)):
            try:
                for folder in folders[1:]:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(folder)
                break
            except FileNotFoundError:
                # The group above was empty, and somebody else has just taken it away: once more.
                if not left:
                    raise
        for folder in folders[:-1]:  # they stay from now on: one is in the other
            self._enable(folder)

    def exists(self) -> bool:
        """True while its folder is there."""
        return os.path.isdir(self.folder)

    def apply(self, resources: Resources) -> list[str]:
        """Set the limits; returns warnings about those that this kernel lacks. Raises StartFailed."""
        warnings: list[str] = []
        if resources.devices:
            cgroup_devices.attach(self.folder, resources.devices, warnings)
        if resources.memory:
            self._memory(resources.memory, warnings)
        if resources.cpu:
            self._cpu(resources.cpu, warnings)
        if resources.pids and resources.pids.limit is not None:
            set_limit(self.folder, "pids.max", files.most_processes(resources.pids.limit), warnings)
        if resources.block_io:
            self._block_io(resources.block_io, warnings)
        for page in resources.hugepage_limits:
            self.limit_huge_pages(page.page_size, page.limit, warnings)
        for device, limits in resources.rdma.items():
            for key, value in (("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)):
                if value is not None:
                    set_limit(self.folder, "rdma.max", f"{device} {key}={value}", warnings)
        if resources.network and (resources.network.class_id or resources.network.priorities):
            warnings.append("cgroup v2 does not mark what is sent: network class and priorities were discarded")
        self.apply_unified(resources.unified)
        return warnings

    def limit_huge_pages(self, size: str, limit: int, warnings: list[str]) -> None:
        """Limit what is used, and what is reserved where the kernel counts that."""
        set_limit(self.folder, f"hugetlb.{size}.max", limit, warnings)
        if os.path.exists(f"{self.folder}/hugetlb.{size}.rsvd.max"):
            set_limit(self.folder, f"hugetlb.{size}.rsvd.max", limit, warnings)

    def apply_unified(self, values: dict[str, str]) -> None:
        """Files by name, a line at a time; raises StartFailed where there is no such file, as the OCI asks."""
        for name, value in values.items():
            missing: list[str] = []
            for line in value.splitlines() or [""]:
                set_limit(self.folder, name, line, missing)
            if missing:
                controller = name.partition(".")[0]
                raise StartFailed(f"unified resource {name!r} can't be set: controller {controller!r} not available")

    def join(self, pid: int) -> None:
        """Put the process into the group; 0 is the caller."""
        files.write(self.folder, "cgroup.procs", pid)

    def enter(self) -> None:
        """Put the caller into the group."""
        self.join(0)

    def descriptor(self) -> int:
        """A descriptor for CLONE_INTO_CGROUP, which begins there and waits for nothing; the caller closes it."""
        return os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def views(self) -> tuple[tuple[str, str], ...]:
        """One, without a name: it is shown at /sys/fs/cgroup itself."""
        return (("", self.folder),)

    def pids(self) -> list[int]:
        """Its processes, in the machine's numbers."""
        return files.members(self.folder)

    def stats(self) -> Stats:
        """What it uses now."""
        return cgroup_stats.read_v2(self.folder)

    def oom_kills(self) -> int:
        """How often the kernel killed a member because memory was short."""
        return files.read_table(self.folder, "memory.events").get("oom_kill", 0)

    def oom_kills_after(self, known: int) -> int:
        """`oom_kills` after `oom_watch` had something: version 2 counts first, and tells of less than a kill, too."""
        return self.oom_kills()

    def oom_watch(self) -> int:
        """A descriptor that can be read when `oom_kills` may have grown; the caller closes it. Raises OSError."""
        watch = inotify.inotify_init1()
        try:
            inotify.inotify_add_watch(watch, f"{self.folder}/memory.events", inotify.IN_MODIFY)
        except OSError:
            os.close(watch)
            raise
        return watch

    def freeze(self, frozen: bool) -> None:
        """Stop or continue all members; returns when it is so. Raises TimeoutError."""
        files.write(self.folder, "cgroup.freeze", int(frozen))
        deadline = time.monotonic() + _PATIENCE
        while files.read_table(self.folder, "cgroup.events").get("frozen") != int(frozen):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.path} does not become {'frozen' if frozen else 'thawed'}")
            time.sleep(0.001)

    def kill(self) -> None:
        """Kill all members at once (cgroup.kill, Linux 5.14), or one by one before that. Raises TimeoutError."""
        if not self.exists():
            return
        at_once = os.path.exists(f"{self.folder}/cgroup.kill")
        if at_once:
            files.write(self.folder, "cgroup.kill", 1)
        elif os.path.exists(f"{self.folder}/pids.max"):
            files.write(self.folder, "pids.max", 0)
        deadline = time.monotonic() + _PATIENCE
        while found := self.pids():
            for pid in () if at_once else found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} processes in {self.path} do not die")
            time.sleep(0.001)

    def remove(self) -> None:
        """Kill what is inside and remove the folder."""
        self.kill()
        files.remove_tree(self.folder, time.monotonic() + _PATIENCE)
        files.leave_above(self.path, [self._top])

    def _enable(self, folder: str) -> None:
        """Hand down what is there. One write a controller: one that is refused must not take the others with it."""
        offered = files.read(folder, "cgroup.controllers").split()
        enabled = files.read(folder, "cgroup.subtree_control").split()
        for name in _WANTED:
            if name in offered and name not in enabled:
                # Refused inside a container whose own processes are in this group: the limit's file will be missing.
                with contextlib.suppress(OSError):
                    files.write(folder, "cgroup.subtree_control", f"+{name}")

    def _memory(self, memory: Memory, warnings: list[str]) -> None:
        limit, swap = memory.limit or 0, memory.swap or 0
        if memory.check_before_update:
            self._refuse_what_is_used(limit, swap)
        if swap or limit == -1:
            # The specification counts memory and swap together, version 2 counts swap alone.
            alone = swap - limit if swap > 0 else -1
            set_limit(self.folder, "memory.swap.max", alone if alone >= 0 else "max", warnings)
        if limit:
            set_limit(self.folder, "memory.max", _or_max(limit), warnings)
        if memory.reservation:
            set_limit(self.folder, "memory.low", _or_max(memory.reservation), warnings)
        if memory.swappiness is not None and memory.swappiness != -1:
            warnings.append("cgroup v2 has no swappiness of a group; it was discarded")
        if memory.disable_oom_killer:
            warnings.append("cgroup v2 cannot disable the OOM killer; that was discarded")
        if memory.kernel or memory.kernel_tcp:
            warnings.append("the kernel has no limit for its own memory any longer; it was discarded")

    def _refuse_what_is_used(self, limit: int, swap: int) -> None:
        """Version 2 kills to get below a new limit: with `checkBeforeUpdate` one that is used already is refused."""
        used = files.read_number(self.folder, "memory.current")
        if 0 < limit <= used:
            raise StartFailed(f"rejecting memory limit {limit} (less than current usage {used})")
        both = used + files.read_number(self.folder, "memory.swap.current")
        if 0 < swap <= both:
            raise StartFailed(f"rejecting memory+swap limit {swap} (less than current usage {both})")

    def _cpu(self, cpu: CPU, warnings: list[str]) -> None:
        if cpu.idle is not None:
            set_limit(self.folder, "cpu.idle", cpu.idle, warnings)
        if cpu.shares and not cpu.idle:  # an idle group has no weight of its own
            # 2..262144 onto 1..10000, as all runtimes do.
            weight = 1 + ((min(max(cpu.shares, 2), 262144) - 2) * 9999) // 262142
            set_limit(self.folder, "cpu.weight", weight, warnings)
        # A burst may not be longer than the quota: a shorter one is set before the quota, a longer one after it.
        before = cpu.burst is not None and cpu.burst < files.read_number(self.folder, "cpu.max.burst")
        if before and cpu.burst is not None:
            set_limit(self.folder, "cpu.max.burst", cpu.burst, warnings)
        if cpu.quota or cpu.period:
            # Of a pair that is given by half, the other half stays what it is.
            old_quota, old_period = files.read(self.folder, "cpu.max").split() or ("max", "100000")
            quota = old_quota if not cpu.quota else _or_max(cpu.quota)
            set_limit(self.folder, "cpu.max", f"{quota} {cpu.period or old_period}", warnings)
        if not before and cpu.burst is not None:
            set_limit(self.folder, "cpu.max.burst", cpu.burst, warnings)
        if cpu.realtime_runtime or cpu.realtime_period:
            warnings.append("cgroup v2 has no realtime limits; they were discarded")
        for name, text in (("cpuset.cpus", cpu.cpus), ("cpuset.mems", cpu.mems)):
            if text:
                set_limit(self.folder, name, text, warnings)

    def _block_io(self, block: BlockIO, warnings: list[str]) -> None:
        bfq = os.path.exists(f"{self.folder}/io.bfq.weight")
        name = "io.bfq.weight" if bfq else "io.weight"
        if block.weight:
            set_limit(self.folder, name, block.weight if bfq else _io_weight(block.weight), warnings)
        for device in block.weight_device:
            if device.weight:
                weight = device.weight if bfq else _io_weight(device.weight)
                set_limit(self.folder, name, f"{device.major}:{device.minor} {weight}", warnings)
        if block.leaf_weight or any(device.leaf_weight for device in block.weight_device):
            warnings.append("this kernel has no leaf weights of block devices; they were discarded")
        for key, devices in (
            ("rbps", block.throttle_read_bps_device),
            ("wbps", block.throttle_write_bps_device),
            ("riops", block.throttle_read_iops_device),
            ("wiops", block.throttle_write_iops_device),
        ):
            for entry in devices:
                set_limit(self.folder, "io.max", f"{entry.major}:{entry.minor} {key}={entry.rate or 'max'}", warnings)


def _or_max(limit: int) -> int | str:
    return limit if limit > 0 else "max"


def _io_weight(weight: int) -> int:
    """10..1000 of version 1 onto 1..10000, as all runtimes do."""
    return 1 + (weight - 10) * 9999 // 990
