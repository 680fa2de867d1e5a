"""Limits of version 2: the real kernel where a v2 hierarchy is mounted, beside v1 too.

Rules: beside v1 it has no controllers, so where only the writing and reading of files is in question there is a plain
folder with no kernel behind it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassdock.errors import StartFailed
from glassdock.linux import bpf, clone
from glassdock.oci.runtime import CPU, BlockIO, DeviceRule, Memory, Pids, Resources, ThrottleDevice
from glassdock.runtime import cgroup_stats, cgroups, defaults
from glassdock.runtime.cgroup_devices import device_program
from glassdock.runtime.cgroup_stats import Operation
from glassdock.runtime.cgroups import Layout
from glassdock.runtime.cgroups_v2 import CgroupV2
from tests.runtime.lab import Lab

MIB = 1 << 20


@pytest.fixture
def unified(lab: Lab) -> Iterator[CgroupV2]:
    found = cgroups.layout()
    if not found.unified:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    parent = CgroupV2(f"{lab.parent}-v2", Layout((), found.unified))
    made = CgroupV2(f"{lab.parent}-v2/group", Layout((), found.unified))
    made.create()
    yield made
    made.remove()
    parent.remove()


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_v2_a_clone_begins_in_the_group_and_all_die_at_once(unified: CgroupV2) -> None:
    folder = unified.descriptor()
    pid, pidfd = clone.clone3(clone.CloneFlag(0), cgroup=folder)
    if pid == 0:
        signal.pause()
        os._exit(0)
    os.close(folder)
    assert unified.pids() == [pid]
    unified.freeze(True)
    unified.freeze(False)
    unified.kill()
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    assert ended is not None
    assert ended.si_status == signal.SIGKILL


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_v2_devices_are_decided_by_a_program(unified: CgroupV2) -> None:
    assert unified.apply(Resources(devices=defaults.device_rules())) == []
    script = "echo $$ > {}/cgroup.procs; head -c 1 /dev/zero | wc -c; cat /dev/kmsg; cat {}"
    other = "/dev/loop-control" if os.path.exists("/dev/loop-control") else "/dev/kmsg"
    done = subprocess.run(
        ["sh", "-c", script.format(unified.folder, other)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "1"
    assert done.stderr.count("Operation not permitted") == 2


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("rules", "readable", "writable"),
    [
        ((), False, False),
        ((DeviceRule(True),), True, True),
        ((DeviceRule(True), DeviceRule(False, "c", 1, 3, "rwm")), False, False),
        ((DeviceRule(False), DeviceRule(True, "c", 1, 3, "r")), True, False),
        ((DeviceRule(False), DeviceRule(True, "c", 1, None, "rw")), True, True),
        ((DeviceRule(False), DeviceRule(True, "b", 1, 3, "rwm")), False, False),
        ((DeviceRule(True), DeviceRule(False, "c", 1, 3, "w")), True, False),
    ],
)
def test_v2_the_last_rule_that_matches_decides(
    unified: CgroupV2, rules: tuple[DeviceRule, ...], readable: bool, writable: bool
) -> None:
    program = bpf.load_device_program(device_program(rules))
    folder = unified.descriptor()
    bpf.attach_device_program(folder, program)
    os.close(program)
    os.close(folder)
    script = (
        f"echo $$ > {unified.folder}/cgroup.procs; (: < /dev/null) 2>&- && echo r; (: > /dev/null) 2>&- && echo w; "
    )
    script += "(: <> /dev/null) 2>&- && echo both"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, stdin=subprocess.PIPE)
    found = [word in done.stdout.split() for word in ("r", "w", "both")]
    assert found == [readable, writable, readable and writable]


@pytest.fixture
def plain(tmp_path: Path) -> CgroupV2:
    """Files as a v2 group has them, in a plain folder: no kernel behind them."""
    group = CgroupV2("/group", Layout((), str(tmp_path)))
    os.mkdir(group.folder)
    return group


def test_v2_writes_the_values_of_version_two(plain: CgroupV2) -> None:
    names = "memory.max memory.swap.max memory.low cpu.weight cpu.max cpuset.cpus pids.max io.weight io.max".split()
    for name in names:
        Path(plain.folder, name).write_text("")
    wanted = Resources(
        memory=Memory(limit=64 * MIB, swap=96 * MIB, reservation=32 * MIB),
        cpu=CPU(shares=1024, quota=50_000, cpus="0-1"),
        pids=Pids(-1),
        block_io=BlockIO(weight=500, throttle_write_bps_device=(ThrottleDevice(8, 0, 99),)),
    )
    warnings = plain.apply(wanted)
    assert [Path(plain.folder, name).read_text() for name in names] == [
        *(str(64 * MIB), str(32 * MIB), str(32 * MIB), "39", "50000 100000", "0-1", "max", "4950", "8:0 wbps=99"),
    ]
    assert warnings == []
    os.unlink(f"{plain.folder}/pids.max")
    assert plain.apply(Resources(pids=Pids(3))) == ["this kernel has no pids.max; the limit was discarded"]
    with pytest.raises(StartFailed, match=r"unified resource 'memory.high' can't be set: controller 'memory' not"):
        plain.apply(Resources(unified={"memory.high": "1"}))


def test_v2_reads_its_statistics(plain: CgroupV2) -> None:
    for name, text in {
        "memory.current": "100",
        "memory.max": "max",
        "memory.stat": "anon 5\nfile 6\n",
        "cpu.stat": "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 2\nnr_throttled 1\nthrottled_usec 9\n",
        "pids.current": "2",
        "pids.max": "10",
        "io.stat": "8:0 rbytes=11 wbytes=12 rios=1 wios=1\n",
        "memory.events": "low 0\noom 1\noom_kill 2\n",
    }.items():
        Path(plain.folder, name).write_text(text)
    found = plain.stats()
    memory, cpu = found.memory, found.cpu
    assert (memory.total.usage, memory.total.limit, memory.details) == (100, -1, {"anon": 5, "file": 6})
    assert (cpu.total, cpu.user, cpu.system, cpu.throttled_time) == (7000, 4000, 3000, 9000)
    assert (found.pids.usage, found.pids.limit) == (2, 10)
    assert found.block_io.moved == (Operation(8, 0, "read", 11), Operation(8, 0, "write", 12))
    assert found.block_io.done == (Operation(8, 0, "read", 1), Operation(8, 0, "write", 1))
    assert plain.oom_kills() == 2
    event = cgroup_stats.as_event(found)
    assert event["memory"]["usage"] == {"limit": 2**64 - 1, "usage": 100, "max": 0, "failcnt": 0}
    assert event["blkio"]["ioServicedRecursive"][0] == {"major": 8, "minor": 0, "op": "read", "value": 1}
