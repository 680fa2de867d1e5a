"""Control groups, version 2: one hierarchy, a folder a group, controllers switched on from above.

Interface: `CgroupV2` is `cgroups.Cgroup`; `device_program(rules)` is the device list as a program of the kernel's.

Rules: version 2 has no files for devices: access is decided by a small BPF program that is attached to the folder.
A group that hands controllers down holds no process of its own (the "no internal process" rule).

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from glassdock.errors import StartFailed
from glassdock.linux import bpf
from glassdock.oci.runtime import CPU, BlockIO, DeviceRule, Memory, Resources
from glassdock.runtime import cgroup_files as files
from glassdock.runtime.cgroup_files import Layout, Stats, set_limit
from glassdock.runtime.stage import reason

_WANTED = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")
_PATIENCE = 5.0


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
        walked = self._top
        for part in self.path.strip("/").split("/"):
            self._enable(walked)
            walked = f"{walked}/{part}"
            with contextlib.suppress(FileExistsError):
                os.mkdir(walked)

    def exists(self) -> bool:
        """True while its folder is there."""
        return os.path.isdir(self.folder)

    def apply(self, resources: Resources) -> list[str]:
        """Set the limits; returns warnings about those that this kernel lacks."""
        warnings: list[str] = []
        if resources.devices:
            self._devices(resources.devices, warnings)
        if resources.memory:
            self._memory(resources.memory, warnings)
        if resources.cpu:
            self._cpu(resources.cpu, warnings)
        if resources.pids:
            set_limit(self.folder, "pids.max", _or_max(resources.pids.limit), warnings)
        if resources.block_io:
            self._block_io(resources.block_io, warnings)
        for page in resources.hugepage_limits:
            set_limit(self.folder, f"hugetlb.{page.page_size}.max", page.limit, warnings)
        for name, value in resources.unified.items():
            set_limit(self.folder, name, value, warnings)
        return warnings

    def join(self, pid: int) -> None:
        """Put the process into the group; 0 is the caller."""
        files.write(self.folder, "cgroup.procs", pid)

    def enter(self) -> None:
        """Put the caller into the group."""
        self.join(0)

    def descriptor(self) -> int:
        """A descriptor for CLONE_INTO_CGROUP, which begins there and waits for nothing; the caller closes it."""
        return os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def rename(self, path: str) -> None:
        """The kernel does not rename groups of version 2."""
        raise NotImplementedError("cgroup v2 groups keep their name")

    def views(self) -> tuple[tuple[str, str], ...]:
        """One, without a name: it is shown at /sys/fs/cgroup itself."""
        return (("", self.folder),)

    def pids(self) -> list[int]:
        """Its processes, in the machine's numbers."""
        return files.members(self.folder)

    def stats(self) -> Stats:
        """What it uses now."""
        folder, cpu = self.folder, files.read_table(self.folder, "cpu.stat")
        return Stats(
            memory=files.read_number(folder, "memory.current"),
            memory_peak=files.read_number(folder, "memory.peak"),
            memory_limit=files.read_number(folder, "memory.max", -1),
            memory_details=files.read_table(folder, "memory.stat"),
            cpu_total=cpu.get("usage_usec", 0) * 1000,
            cpu_user=cpu.get("user_usec", 0) * 1000,
            cpu_system=cpu.get("system_usec", 0) * 1000,
            cpu_periods=cpu.get("nr_periods", 0),
            cpu_throttled_periods=cpu.get("nr_throttled", 0),
            cpu_throttled_time=cpu.get("throttled_usec", 0) * 1000,
            pids=files.read_number(folder, "pids.current"),
            pids_limit=files.read_number(folder, "pids.max", -1),
            io=_io(files.read(folder, "io.stat")),
        )

    def oom_kills(self) -> int:
        """How often the kernel killed a member because memory was short."""
        return files.read_table(self.folder, "memory.events").get("oom_kill", 0)

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

    def _enable(self, folder: str) -> None:
        """Hand down what is there. One write a controller: one that is refused must not take the others with it."""
        offered = files.read(folder, "cgroup.controllers").split()
        enabled = files.read(folder, "cgroup.subtree_control").split()
        for name in _WANTED:
            if name in offered and name not in enabled:
                # Refused inside a container whose own processes are in this group: the limit's file will be missing.
                with contextlib.suppress(OSError):
                    files.write(folder, "cgroup.subtree_control", f"+{name}")

    def _devices(self, rules: tuple[DeviceRule, ...], warnings: list[str]) -> None:
        folder = self.descriptor()
        try:
            program = bpf.load_device_program(device_program(rules))
            try:
                bpf.attach_device_program(folder, program)
            finally:
                os.close(program)
        except PermissionError:
            warnings.append("this machine does not let us load BPF programs; the device rules were discarded")
        except OSError as error:
            raise StartFailed(f"attaching the device rules: {reason(error)}", errno=error.errno or 0) from error
        finally:
            os.close(folder)

    def _memory(self, memory: Memory, warnings: list[str]) -> None:
        if memory.limit:
            set_limit(self.folder, "memory.max", _or_max(memory.limit), warnings)
        if memory.swap:
            # The specification counts memory and swap together, version 2 counts swap alone.
            alone = memory.swap - (memory.limit or 0) if memory.swap > 0 else -1
            set_limit(self.folder, "memory.swap.max", alone if alone >= 0 else "max", warnings)
        if memory.reservation:
            set_limit(self.folder, "memory.low", memory.reservation, warnings)

    def _cpu(self, cpu: CPU, warnings: list[str]) -> None:
        if cpu.shares:
            # 2..262144 onto 1..10000, as all runtimes do.
            weight = 1 + ((min(max(cpu.shares, 2), 262144) - 2) * 9999) // 262142
            set_limit(self.folder, "cpu.weight", weight, warnings)
        if cpu.quota or cpu.period:
            quota = cpu.quota if cpu.quota and cpu.quota > 0 else "max"
            set_limit(self.folder, "cpu.max", f"{quota} {cpu.period or 100_000}", warnings)
        for name, value in (("cpu.max.burst", cpu.burst), ("cpu.idle", cpu.idle)):
            if value:
                set_limit(self.folder, name, value, warnings)
        for name, text in (("cpuset.cpus", cpu.cpus), ("cpuset.mems", cpu.mems)):
            if text:
                set_limit(self.folder, name, text, warnings)

    def _block_io(self, block: BlockIO, warnings: list[str]) -> None:
        if block.weight:
            if os.path.exists(f"{self.folder}/io.bfq.weight"):
                set_limit(self.folder, "io.bfq.weight", block.weight, warnings)
            else:
                set_limit(self.folder, "io.weight", 1 + (block.weight - 10) * 9999 // 990, warnings)
        for key, devices in (
            ("rbps", block.throttle_read_bps_device),
            ("wbps", block.throttle_write_bps_device),
            ("riops", block.throttle_read_iops_device),
            ("wiops", block.throttle_write_iops_device),
        ):
            for entry in devices:
                set_limit(self.folder, "io.max", f"{entry.major}:{entry.minor} {key}={entry.rate}", warnings)


def device_program(rules: tuple[DeviceRule, ...]) -> list[bpf.Instruction]:
    """The rules as a program that answers 1 (allowed) or 0. The last rule that matches decides; none matches: refused.

    Registers: r2 type, r3 access, r4 major, r5 minor, from struct bpf_cgroup_dev_ctx.
    """
    load, move, keep, shift, equal, unequal, answer, leave = 0x61, 0xBC, 0x54, 0x74, 0x15, 0x55, 0xB7, 0x95
    program: list[bpf.Instruction] = [
        (load, 2, 1, 0, 0),
        (move, 3, 2, 0, 0),
        (keep, 2, 0, 0, 0xFFFF),
        (shift, 3, 0, 0, 16),
        (load, 4, 1, 4, 0),
        (load, 5, 1, 8, 0),
    ]
    for rule in reversed(rules):
        tests: list[list[bpf.Instruction]] = []
        if rule.type in ("b", "c"):
            tests.append([(unequal, 2, 0, 0, 1 if rule.type == "b" else 2)])
        access = sum(bit for letter, bit in (("m", 1), ("r", 2), ("w", 4)) if letter in rule.access)
        if access not in (0, 7) and rule.type != "a":
            # Allowed is what asks for nothing beyond the rule; refused is what asks for anything in it.
            beyond = [(keep, 1, 0, 0, 7 & ~access), (unequal, 1, 0, 0, 0)]
            within = [(keep, 1, 0, 0, access), (equal, 1, 0, 0, 0)]
            tests.append([(move, 1, 3, 0, 0), *(beyond if rule.allow else within)])
        for register, number in ((4, rule.major), (5, rule.minor)):
            if number is not None and number >= 0 and rule.type != "a":
                tests.append([(unequal, register, 0, 0, number)])
        verdict: list[bpf.Instruction] = [(answer, 0, 0, 0, int(rule.allow)), (leave, 0, 0, 0, 0)]
        body = [instruction for test in tests for instruction in test]
        for index, (code, target, source, _, value) in enumerate(body):
            # A test that fails jumps behind this rule's verdict.
            offset = len(body) - index + 1 if code in (equal, unequal) else 0
            program.append((code, target, source, offset, value))
        program += verdict
        if not body:
            return program  # it decides everything; the verifier refuses what can never be reached
    return [*program, (answer, 0, 0, 0, 0), (leave, 0, 0, 0, 0)]


def _or_max(limit: int) -> int | str:
    return limit if limit > 0 else "max"


def _io(text: str) -> tuple[tuple[int, int, str, int], ...]:
    """io.stat: `8:0 rbytes=1 wbytes=2 ...` a device."""
    found = []
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        major, _, minor = device.partition(":")
        values = dict(word.split("=", 1) for word in rest.split() if "=" in word)
        for operation, key in (("read", "rbytes"), ("write", "wbytes")):
            if key in values and major.isdigit():
                found.append((int(major), int(minor), operation, int(values[key])))
    return tuple(found)
