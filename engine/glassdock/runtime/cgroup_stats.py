"""What a group uses now, as one typed value from either version of control groups.

Interface:
- `Stats`: memory, CPU, block devices, processes, huge pages. Bytes, nanoseconds, counts; a limit of -1 is none.
- `read_v1(folder_of)`, `read_v2(folder)`: read the control files; what a kernel lacks is 0.
- `as_event(stats)`: the `data` of `runc events`, for those who read its JSON.

Rules: nothing is converted but units, so that both versions can be compared; the memory table and the operations on
devices keep the kernel's words.

Sources: https://docs.kernel.org/admin-guide/cgroup-v1/, https://docs.kernel.org/admin-guide/cgroup-v2.html,
https://github.com/opencontainers/runc/blob/main/types/events.go
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from glassdock.runtime import cgroup_files as files

_NO_LIMIT = 1 << 62  # version 1 says "none" with the largest number of pages
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Usage(msgspec.Struct, frozen=True):
    """How much of one thing; `failures`: how often the limit was in the way."""

    usage: int = 0
    peak: int = 0
    limit: int = -1
    failures: int = 0


class Memory(msgspec.Struct, frozen=True):
    """Memory; `swap` is memory and swap together in version 1, swap alone in 2. `details` is memory.stat."""

    total: Usage = Usage()
    swap: Usage = Usage()
    kernel: Usage = Usage()
    kernel_tcp: Usage = Usage()
    details: dict[str, int] = {}
    oom_kills: int = 0


class CPU(msgspec.Struct, frozen=True):
    """Time on the processors, and how often a quota held it up. `each` is a number a processor, in version 1 alone."""

    total: int = 0
    user: int = 0
    system: int = 0
    each: tuple[int, ...] = ()
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class Operation(msgspec.Struct, frozen=True):
    """What was done with one block device, bytes or times, as the kernel calls it: Read, rbytes, Discard."""

    major: int
    minor: int
    operation: str
    value: int


class BlockIO(msgspec.Struct, frozen=True):
    """Bytes moved and operations done."""

    moved: tuple[Operation, ...] = ()
    done: tuple[Operation, ...] = ()


class Stats(msgspec.Struct, frozen=True):
    """All of it; `version` is that of the control groups, 0 where there are none."""

    version: int = 0
    memory: Memory = Memory()
    cpu: CPU = CPU()
    block_io: BlockIO = BlockIO()
    pids: Usage = Usage()
    huge_pages: dict[str, Usage] = {}


def read_v1(folder_of: Callable[[str], str], beside: str = "") -> Stats:
    """Read version 1; `folder_of` a controller is "" where the kernel lacks it, `beside` a group of version 2."""
    memory, cpuacct, pids = folder_of("memory"), folder_of("cpuacct"), folder_of("pids")
    times, throttled = files.read_table(cpuacct, "cpuacct.stat"), files.read_table(folder_of("cpu"), "cpu.stat")
    return Stats(
        version=1,
        memory=Memory(
            total=_usage_v1(memory, "memory."),
            swap=_usage_v1(memory, "memory.memsw."),
            kernel=_usage_v1(memory, "memory.kmem."),
            kernel_tcp=_usage_v1(memory, "memory.kmem.tcp."),
            details=files.read_table(memory, "memory.stat"),
            oom_kills=files.read_table(memory, "memory.oom_control").get("oom_kill", 0),
        ),
        cpu=CPU(
            total=files.read_number(cpuacct, "cpuacct.usage"),
            user=times.get("user", 0) * _TICK,
            system=times.get("system", 0) * _TICK,
            each=tuple(int(word) for word in files.read(cpuacct, "cpuacct.usage_percpu").split() if word.isdigit()),
            periods=throttled.get("nr_periods", 0),
            throttled_periods=throttled.get("nr_throttled", 0),
            throttled_time=throttled.get("throttled_time", 0),
        ),
        block_io=_block_io_v1(folder_of("blkio")),
        pids=_pids(pids),
        huge_pages=_huge_pages_v1(folder_of("hugetlb")) or (_huge_pages_v2(beside) if beside else {}),
    )


def read_v2(folder: str) -> Stats:
    """Read version 2."""
    cpu, events = files.read_table(folder, "cpu.stat"), files.read_table(folder, "memory.events")
    details = files.read_table(folder, "memory.stat")
    return Stats(
        version=2,
        memory=Memory(
            total=Usage(
                files.read_number(folder, "memory.current"),
                files.read_number(folder, "memory.peak"),
                files.read_number(folder, "memory.max", -1),
                events.get("max", 0),
            ),
            swap=Usage(
                files.read_number(folder, "memory.swap.current"),
                files.read_number(folder, "memory.swap.peak"),
                files.read_number(folder, "memory.swap.max", -1),
                files.read_table(folder, "memory.swap.events").get("max", 0),
            ),
            kernel=Usage(details.get("kernel", details.get("kernel_stack", 0) + details.get("slab", 0))),
            kernel_tcp=Usage(details.get("sock", 0)),
            details=details,
            oom_kills=events.get("oom_kill", 0),
        ),
        cpu=CPU(
            total=cpu.get("usage_usec", 0) * 1000,
            user=cpu.get("user_usec", 0) * 1000,
            system=cpu.get("system_usec", 0) * 1000,
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_time=cpu.get("throttled_usec", 0) * 1000,
        ),
        block_io=_block_io_v2(files.read(folder, "io.stat")),
        pids=_pids(folder),
        huge_pages=_huge_pages_v2(folder),
    )


def as_event(stats: Stats) -> dict[str, Any]:
    """The `data` of one line of `runc events`."""
    memory, cpu = stats.memory, stats.cpu
    return {
        "cpu": {
            "usage": {"total": cpu.total, "percpu": list(cpu.each), "kernel": cpu.system, "user": cpu.user},
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_time,
            },
        },
        "cpuset": {},
        "memory": {
            "cache": memory.details.get("cache", memory.details.get("file", 0)),
            "usage": _entry(memory.total),
            "swap": _entry(memory.swap),
            "kernel": _entry(memory.kernel),
            "kernelTCP": _entry(memory.kernel_tcp),
            "raw": memory.details,
        },
        "pids": {"current": stats.pids.usage, **({"limit": stats.pids.limit} if stats.pids.limit > 0 else {})},
        "blkio": {
            "ioServiceBytesRecursive": [_operation(one) for one in stats.block_io.moved],
            "ioServicedRecursive": [_operation(one) for one in stats.block_io.done],
        },
        "hugetlb": {
            size: {"usage": page.usage, "max": page.peak, "failcnt": page.failures}
            for size, page in stats.huge_pages.items()
        },
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _entry(usage: Usage) -> dict[str, int]:
    limit = usage.limit if usage.limit >= 0 else (1 << 64) - 1
    return {"limit": limit, "usage": usage.usage, "max": usage.peak, "failcnt": usage.failures}


def _operation(one: Operation) -> dict[str, Any]:
    return {"major": one.major, "minor": one.minor, "op": one.operation, "value": one.value}


def _usage_v1(folder: str, prefix: str) -> Usage:
    limit = files.read_number(folder, f"{prefix}limit_in_bytes", -1)
    return Usage(
        files.read_number(folder, f"{prefix}usage_in_bytes"),
        files.read_number(folder, f"{prefix}max_usage_in_bytes"),
        limit if limit < _NO_LIMIT else -1,
        files.read_number(folder, f"{prefix}failcnt"),
    )


def _pids(folder: str) -> Usage:
    return Usage(
        files.read_number(folder, "pids.current"),
        files.read_number(folder, "pids.peak"),
        files.read_number(folder, "pids.max", -1),
        files.read_table(folder, "pids.events").get("max", 0),
    )


def _block_io_v1(folder: str) -> BlockIO:
    """The scheduler's numbers where it keeps them, else those of the throttling layer, which sees everything too."""
    for prefix in ("blkio.bfq.io", "blkio.throttle.io"):
        moved = tuple(_operations_v1(files.read(folder, f"{prefix}_service_bytes_recursive")))
        if moved:
            return BlockIO(moved, tuple(_operations_v1(files.read(folder, f"{prefix}_serviced_recursive"))))
    return BlockIO()


def _operations_v1(text: str) -> Iterator[Operation]:
    """`8:0 Read 4096` a line, and a `Total` without a device at the end."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2].isdigit():
            major, _, minor = words[0].partition(":")
            yield Operation(int(major), int(minor), words[1], int(words[2]))


def _block_io_v2(text: str) -> BlockIO:
    """io.stat: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...` a device."""
    moved: list[Operation] = []
    done: list[Operation] = []
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        major, _, minor = device.partition(":")
        if not major.isdigit():
            continue
        values = dict(word.split("=", 1) for word in rest.split() if "=" in word)
        for name, key, found in (
            ("read", "rbytes", moved),
            ("write", "wbytes", moved),
            ("read", "rios", done),
            ("write", "wios", done),
        ):
            if key in values:
                found.append(Operation(int(major), int(minor), name, int(values[key])))
    return BlockIO(tuple(moved), tuple(done))


def _huge_pages_v1(folder: str) -> dict[str, Usage]:
    return {
        size: _usage_v1(folder, f"hugetlb.{size}.") for size in _page_sizes(folder, ".limit_in_bytes", without=".rsvd")
    }


def _huge_pages_v2(folder: str) -> dict[str, Usage]:
    return {
        size: Usage(
            files.read_number(folder, f"hugetlb.{size}.current"),
            0,
            files.read_number(folder, f"hugetlb.{size}.max", -1),
            files.read_table(folder, f"hugetlb.{size}.events").get("max", 0),
        )
        for size in _page_sizes(folder, ".max", without=".rsvd")
    }


def _page_sizes(folder: str, ending: str, without: str) -> list[str]:
    """The page sizes that have a file `hugetlb.SIZE<ending>`."""
    if not folder or not os.path.isdir(folder):
        return []
    found = [name for name in os.listdir(folder) if name.startswith("hugetlb.") and name.endswith(ending)]
    return sorted(name.removeprefix("hugetlb.").removesuffix(ending) for name in found if without not in name)
