"""Control groups, version 1: one hierarchy a controller, and a group is a folder of the same path in each.

Interface: `CgroupV1` is `cgroups.Cgroup`.

Rules: joining one hierarchy makes the kernel wait for a grace period (about 1.5 ms), which is why the launcher keeps
groups that are already joined; `rename` then gives such a group its container's name, which only v1 can do.

Source: https://docs.kernel.org/admin-guide/cgroup-v1/
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from glassdock.errors import NotSupported
from glassdock.oci.runtime import CPU, BlockIO, Memory, Resources
from glassdock.runtime import cgroup_files as files
from glassdock.runtime.cgroup_files import Layout, Stats, set_limit

_PATIENCE = 5.0


class CgroupV1:
    """A group in all hierarchies of version 1."""

    def __init__(self, path: str, layout: Layout) -> None:
        self.path = path
        self._hierarchies = layout.v1
        self._tops = {word: top for _, top, words in layout.v1 for word in words}

    def create(self) -> None:
        """Make the folders; a cpuset begins empty in v1, so it takes its parent's."""
        for _, top, words in self._hierarchies:
            os.makedirs(top + self.path, exist_ok=True)
            if "cpuset" in words:
                self._fill_cpuset(top)

    def exists(self) -> bool:
        """True while any of its folders is there."""
        return any(os.path.isdir(top + self.path) for _, top, _ in self._hierarchies)

    def apply(self, resources: Resources) -> list[str]:
        """Set the limits; returns warnings about those that this kernel lacks."""
        warnings: list[str] = []
        folder = self._folder("devices")
        if folder:
            for rule in resources.devices:
                major = "*" if rule.major is None or rule.major < 0 else rule.major
                minor = "*" if rule.minor is None or rule.minor < 0 else rule.minor
                line = "a" if rule.type == "a" else f"{rule.type} {major}:{minor} {rule.access}"
                set_limit(folder, "devices.allow" if rule.allow else "devices.deny", line, warnings)
        if resources.memory:
            self._memory(resources.memory, warnings)
        if resources.cpu:
            self._cpu(resources.cpu, warnings)
        if resources.pids:
            limit = resources.pids.limit
            self._set("pids", "pids.max", limit if limit > 0 else "max", warnings)
        if resources.block_io:
            self._block_io(resources.block_io, warnings)
        for page in resources.hugepage_limits:
            self._set("hugetlb", f"hugetlb.{page.page_size}.limit_in_bytes", page.limit, warnings)
        if resources.unified:
            warnings.append("this machine has cgroup v1: the unified settings were discarded")
        return warnings

    def join(self, pid: int) -> None:
        """Put the process into the group, in every hierarchy; 0 is the caller."""
        for _, top, _ in self._hierarchies:
            files.write(top + self.path, "cgroup.procs", pid)

    def enter(self) -> None:
        """Put the caller, who has one thread, into the group; other than for `join` the kernel waits for nobody.

        A thread that moves itself cannot exec or end meanwhile, so the kernel need not stop all others from forking
        (cgroup_procs_write_start in kernel/cgroup/cgroup.c): 1 ms instead of 8 for all hierarchies.
        """
        for _, top, _ in self._hierarchies:
            files.write(top + self.path, "tasks", 0)

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
        memory, cpu, pids = self._folder("memory"), self._folder("cpuacct"), self._folder("pids")
        ticks = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        times, throttled = files.read_table(cpu, "cpuacct.stat"), files.read_table(self._folder("cpu"), "cpu.stat")
        limit = files.read_number(memory, "memory.limit_in_bytes", -1)
        return Stats(
            memory=files.read_number(memory, "memory.usage_in_bytes"),
            memory_peak=files.read_number(memory, "memory.max_usage_in_bytes"),
            memory_limit=limit if limit < 1 << 62 else -1,
            memory_details=files.read_table(memory, "memory.stat"),
            cpu_total=files.read_number(cpu, "cpuacct.usage"),
            cpu_user=times.get("user", 0) * ticks,
            cpu_system=times.get("system", 0) * ticks,
            cpu_periods=throttled.get("nr_periods", 0),
            cpu_throttled_periods=throttled.get("nr_throttled", 0),
            cpu_throttled_time=throttled.get("throttled_time", 0),
            pids=files.read_number(pids, "pids.current"),
            pids_limit=files.read_number(pids, "pids.max", -1),
            io=self._io(),
        )

    def oom_kills(self) -> int:
        """How often the kernel killed a member because memory was short."""
        return files.read_table(self._folder("memory"), "memory.oom_control").get("oom_kill", 0)

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
        if not self.exists():
            return
        folder = self._folder("pids")
        if folder and os.path.isdir(folder):
            files.write(folder, "pids.max", 0)
        deadline = time.monotonic() + _PATIENCE
        while found := self.pids():
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            freezer = self._folder("freezer")
            if freezer and files.read(freezer, "freezer.state") not in ("THAWED", ""):
                files.write(freezer, "freezer.state", "THAWED")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} processes in {self.path} do not die")
            time.sleep(0.001)

    def remove(self) -> None:
        """Kill what is inside and remove the folders."""
        self.kill()
        deadline = time.monotonic() + _PATIENCE
        for _, top, _ in self._hierarchies:
            files.remove_tree(top + self.path, deadline)

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
        pair = [("memory.limit_in_bytes", memory.limit), ("memory.memsw.limit_in_bytes", memory.swap)]
        # Memory with swap may never be below memory alone: raise the upper one first, lower the lower one first.
        current = files.read_number(self._folder("memory"), "memory.memsw.limit_in_bytes", -1)
        if memory.limit is not None and 0 <= current < memory.limit:
            pair.reverse()
        for name, value in pair:
            if value:
                self._set("memory", name, value, warnings)
        for name, number in (
            ("memory.soft_limit_in_bytes", memory.reservation),
            ("memory.swappiness", memory.swappiness if memory.swappiness != -1 else None),
        ):
            if number is not None:
                self._set("memory", name, number, warnings)
        if memory.disable_oom_killer:
            self._set("memory", "memory.oom_control", 1, warnings)

    def _cpu(self, cpu: CPU, warnings: list[str]) -> None:
        for name, value in (
            ("cpu.shares", cpu.shares),
            ("cpu.cfs_period_us", cpu.period),
            ("cpu.cfs_quota_us", cpu.quota),
            ("cpu.cfs_burst_us", cpu.burst),
            ("cpu.rt_period_us", cpu.realtime_period),
            ("cpu.rt_runtime_us", cpu.realtime_runtime),
            ("cpu.idle", cpu.idle),
        ):
            if value:
                self._set("cpu", name, value, warnings)
        for name, text in (("cpuset.cpus", cpu.cpus), ("cpuset.mems", cpu.mems)):
            if text:
                self._set("cpuset", name, text, warnings)

    def _block_io(self, block: BlockIO, warnings: list[str]) -> None:
        prefix = "blkio.bfq" if os.path.exists(f"{self._folder('blkio')}/blkio.bfq.weight") else "blkio"
        if block.weight:
            self._set("blkio", f"{prefix}.weight", block.weight, warnings)
        for device in block.weight_device:
            line = f"{device.major}:{device.minor} {device.weight}"
            self._set("blkio", f"{prefix}.weight_device", line, warnings)
        for name, devices in (
            ("read_bps", block.throttle_read_bps_device),
            ("write_bps", block.throttle_write_bps_device),
            ("read_iops", block.throttle_read_iops_device),
            ("write_iops", block.throttle_write_iops_device),
        ):
            for entry in devices:
                line = f"{entry.major}:{entry.minor} {entry.rate}"
                self._set("blkio", f"blkio.throttle.{name}_device", line, warnings)

    def _io(self) -> tuple[tuple[int, int, str, int], ...]:
        found = []
        for line in files.read(self._folder("blkio"), "blkio.throttle.io_service_bytes").splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in ("Read", "Write"):
                major, _, minor = words[0].partition(":")
                found.append((int(major), int(minor), words[1].lower(), int(words[2])))
        return tuple(found)
