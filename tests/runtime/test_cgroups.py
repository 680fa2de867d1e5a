"""Limits: refused when they make no sense, set in the kernel, kept, cleared away."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassdock.errors import InvalidParameter, StartFailed
from glassdock.oci.runtime import (
    CPU,
    BlockIO,
    HugepageLimit,
    Memory,
    Pids,
    Resources,
    ThrottleDevice,
)
from glassdock.runtime import cgroups, defaults
from glassdock.runtime.cgroups import Layout
from glassdock.runtime.cgroups_v2 import CgroupV2
from tests.runtime.lab import Lab, eventually

MIB = 1 << 20
V1 = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
"""
V2 = "41 31 0:38 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_the_layout_is_read_from_mountinfo() -> None:
    first = cgroups.parse_mountinfo(V1)
    assert first.version == "v1"
    assert first.v1 == (
        ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", ("cpu", "cpuacct")),
        ("memory", "/sys/fs/cgroup/memory", ("memory",)),
        ("systemd", "/sys/fs/cgroup/systemd", ("name=systemd",)),
    )
    assert cgroups.parse_mountinfo(V2) == Layout((), "/sys/fs/cgroup")
    assert cgroups.parse_mountinfo(V2).version == "v2"
    assert cgroups.parse_mountinfo(V1 + V2.replace("/cgroup rw", "/cgroup/unified rw")).version == "hybrid"
    assert cgroups.parse_mountinfo("").version == "none"


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/", "/a//b", "/a/./b", "/a\0b"])
def test_a_strange_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidParameter, match="absolute and plain"):
        cgroups.check_path(path)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (Resources(memory=Memory(limit=-2)), "-1 is unlimited"),
        (Resources(cpu=CPU(idle=2)), "idle"),
        (Resources(hugepage_limits=(HugepageLimit("2MiB", 0),)), "huge page size"),
        (Resources(memory=Memory(swap=8 * MIB)), "always set the Memory limit"),
        (Resources(memory=Memory(limit=16 * MIB, swap=8 * MIB)), "larger than memory limit"),
        (Resources(memory=Memory(limit=16 * MIB, reservation=32 * MIB)), "less than memory reservation"),
        (Resources(memory=Memory(swappiness=101)), "range is 0-100"),
        (Resources(cpu=CPU(period=10)), "less than 1ms"),
        (Resources(cpu=CPU(quota=10)), "less than 1ms"),
        (Resources(cpu=CPU(shares=-1)), "shares"),
        (Resources(cpu=CPU(cpus="a-b")), "Invalid value a-b for cpuset cpus"),
        (Resources(pids=Pids(10_000_000)), "PID limit"),
        (Resources(block_io=BlockIO(weight=5)), "10 to 1000"),
        (Resources(unified={"../x": "1"}), "invalid cgroup file"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_before_anything_starts(resources: Resources, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        cgroups.check(resources)


def test_limits_that_mean_something_pass() -> None:
    cgroups.check(Resources(memory=Memory(limit=6 * MIB, swap=-1), cpu=CPU(quota=-1, cpus="0-1,3"), pids=Pids(-1)))


def seen(lab: Lab, resources: Resources, *files: str) -> list[str]:
    """The control files of the container, read inside."""
    base = Resources(devices=defaults.device_rules())
    from msgspec.structs import replace

    changed = replace(resources, devices=base.devices)
    result = lab.run("sh", "-c", f"cd /sys/fs/cgroup && cat {' '.join(files)}", linux={"resources": changed})
    return result.out.split("\n")[:-1]


v1_only = pytest.mark.skipif(not cgroups.layout().v1, reason="this machine has no cgroup v1")


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@v1_only
@pytest.mark.needs_root
def test_limits_arrive_in_the_kernel(lab: Lab) -> None:
    wanted = Resources(
        memory=Memory(limit=64 * MIB, reservation=32 * MIB),
        cpu=CPU(shares=512, quota=50_000, period=100_000, cpus="0", mems="0"),
        pids=Pids(17),
        block_io=BlockIO(throttle_read_bps_device=(ThrottleDevice(254, 0, 1 << 20),)),
    )
    files = "memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_quota_us"
    files += " cpuset/cpuset.cpus pids/pids.max"
    assert seen(lab, wanted, *files.split()) == [str(64 * MIB), str(32 * MIB), "512", "50000", "0", "17"]


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@v1_only
@pytest.mark.needs_root
def test_memory_and_swap_may_be_set_in_either_order(lab: Lab) -> None:
    if not os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"):
        pytest.skip("this kernel does not count swap")
    files = ("memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes")
    assert seen(lab, Resources(memory=Memory(limit=64 * MIB, swap=128 * MIB)), *files) == [
        str(64 * MIB),
        str(128 * MIB),
    ]


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_a_limit_that_the_kernel_refuses_fails_the_start_and_leaves_nothing(lab: Lab) -> None:
    wanted = Resources(cpu=CPU(cpus="4000"))
    with lab.folder() as folder, pytest.raises(StartFailed, match="'4000' to cpuset"):
        lab.start(lab.request(folder, "true", linux={"resources": wanted}))
    assert lab.cgroups() == []


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_what_needs_more_memory_than_it_may_use_is_killed_and_said(lab: Lab) -> None:
    wanted = Resources(memory=Memory(limit=16 * MIB, swap=16 * MIB))
    result = lab.run("sh", "-c", "dd if=/dev/zero of=/dev/null bs=100M count=1", linux={"resources": wanted})
    assert result.status.oom_killed
    assert result.code == 137


@pytest.mark.needs_root
def test_a_fork_bomb_stops_at_the_limit(lab: Lab) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 20 & done; wait"
    result = lab.run("sh", "-c", script, linux={"resources": Resources(pids=Pids(6))})
    assert "can't fork" in result.err
    assert result.code != 0


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_the_device_list_closes_what_is_not_in_it(lab: Lab) -> None:
    # A mount that is `dev` on purpose, so that only the device list is in the way.
    script = "mknod /dev/shm/k c 1 11 && cat /dev/shm/k; mknod /dev/shm/z c 1 5 && head -c 2 /dev/shm/z | wc -c"
    from glassdock.oci.runtime import Mount

    mounts = (Mount("/dev/shm", "tmpfs", "tmpfs", ("dev",)),)
    result = lab.run("sh", "-c", script, mounts=mounts)
    assert "'/dev/shm/k': Operation not permitted" in result.err
    assert result.out.strip() == "2"


@pytest.fixture
def group(lab: Lab) -> Iterator[cgroups.Cgroup]:
    made = cgroups.open_cgroup(f"{lab.parent}/by-hand")
    made.create()
    yield made
    made.remove()
    assert not made.exists()


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_a_group_is_joined_counted_frozen_and_killed(group: cgroups.Cgroup) -> None:
    process = subprocess.Popen(["sh", "-c", "read go; sleep 1000 & while :; do :; done"], stdin=subprocess.PIPE)
    group.join(process.pid)
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(b"go\n")
    assert process.pid in group.pids()
    group.freeze(True)
    first = group.stats()
    time.sleep(0.05)
    assert group.stats().cpu.total == first.cpu.total
    assert first.pids.usage >= 1
    assert first.memory.total.usage >= 0
    group.freeze(False)
    group.kill()
    assert group.pids() == []
    assert process.wait() == -signal.SIGKILL


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_a_frozen_group_can_be_removed(lab: Lab) -> None:
    made = cgroups.open_cgroup(f"{lab.parent}/frozen")
    made.create()
    process = subprocess.Popen(["sleep", "1000"])
    made.join(process.pid)
    made.freeze(True)
    made.remove()
    assert process.wait() == -signal.SIGKILL
    assert not made.exists()


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_removing_kills_what_keeps_forking(group: cgroups.Cgroup) -> None:
    script = "read go; while :; do (while :; do sleep 0.001 & wait; done) & sleep 0.01; done"
    process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE)
    group.join(process.pid)
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(b"go\n")
    time.sleep(0.2)
    group.kill()
    assert group.pids() == []
    process.wait()


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_groups_that_members_made_inside_go_too_frozen_or_not(group: cgroups.Cgroup) -> None:
    inner = cgroups.open_cgroup(f"{group.path}/inner/most")
    inner.create()
    with subprocess.Popen(["sleep", "1000"]) as process:
        inner.join(process.pid)
        inner.freeze(True)
        assert process.pid in group.pids()
        group.remove()
        assert process.wait() == -signal.SIGKILL
    assert not group.exists()


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@v1_only
@pytest.mark.needs_root
def test_v1_who_left_all_hierarchies_but_one_is_killed_too(group: cgroups.Cgroup) -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        Path(f"/sys/fs/cgroup/memory{group.path}/cgroup.procs").write_text(str(process.pid))
        group.remove()
        assert process.wait() == -signal.SIGKILL


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_a_group_is_made_while_its_parent_comes_and_goes(lab: Lab) -> None:
    """The last container of an engine takes the group above away, and the next may be about to be made in it."""
    path = f"{lab.parent}-coming"
    ended = threading.Event()

    def take_away() -> None:
        while not ended.is_set():
            cgroups.leave(path)

    thread = threading.Thread(target=take_away)
    thread.start()
    try:
        for number in range(40):
            made = cgroups.open_cgroup(f"{path}/{number}")
            made.create()
            made.remove()
    finally:
        ended.set()
        thread.join()
    cgroups.open_cgroup(path).remove()


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_an_engines_group_goes_with_the_last_who_is_in_it_or_holds_it() -> None:
    path = cgroups.parent_for("glassdock-0123abcd")
    held = cgroups.hold(path)
    first, second = (cgroups.open_cgroup(f"{path}/{name}") for name in ("first", "second"))
    first.create()
    first.remove()
    assert cgroups.open_cgroup(path).exists(), "the engine lives"
    second.create()
    os.close(held)
    cgroups.leave(path)
    assert cgroups.open_cgroup(path).exists(), "a container lives"
    second.remove()
    assert not cgroups.open_cgroup(path).exists()


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_a_group_above_that_is_nobodys_engine_stays() -> None:
    above = cgroups.open_cgroup("/of-somebody-else")
    above.create()
    made = cgroups.open_cgroup("/of-somebody-else/container")
    made.create()
    made.remove()
    assert above.exists()
    above.remove()


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
def test_a_kill_for_memory_is_heard(group: cgroups.Cgroup) -> None:
    group.apply(Resources(memory=Memory(limit=8 * MIB, swap=8 * MIB)))
    watch = group.oom_watch()
    try:
        assert not select.select([watch], [], [], 0)[0]
        script = ["sh", "-c", "read go; exec dd if=/dev/zero of=/dev/null bs=100M count=1"]
        process = subprocess.Popen(script, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        group.join(process.pid)
        process.communicate(b"go\n", timeout=10)
        assert process.returncode == -signal.SIGKILL
        assert select.select([watch], [], [], 5)[0]
        assert group.oom_kills() >= 1
    finally:
        os.close(watch)


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@pytest.mark.needs_root
@pytest.mark.skipif(cgroups.layout().version != "hybrid", reason="this machine is not hybrid")
def test_hybrid_what_only_version_two_has_is_limited_there(lab: Lab, group: cgroups.Cgroup) -> None:
    beside = CgroupV2(group.path, cgroups.layout())
    if "hugetlb" not in Path(cgroups.layout().unified, "cgroup.controllers").read_text():
        pytest.skip("version 2 has no hugetlb here")
    with subprocess.Popen(["sleep", "1000"]) as early, subprocess.Popen(["sleep", "1000"]) as late:
        group.join(early.pid)
        assert group.apply(Resources(hugepage_limits=(HugepageLimit("2MB", 4 * MIB),))) == []
        group.join(late.pid)
        assert Path(beside.folder, "hugetlb.2MB.max").read_text().strip() == str(4 * MIB)
        assert sorted(beside.pids()) == sorted([early.pid, late.pid])
        assert group.stats().huge_pages["2MB"].limit == 4 * MIB
        group.remove()
        assert (early.wait(), late.wait()) == (-signal.SIGKILL, -signal.SIGKILL)
    assert not beside.exists()
    beside.remove()
    CgroupV2(lab.parent, cgroups.layout()).remove()


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
@v1_only
@pytest.mark.needs_root
def test_v1_limits_change_in_any_direction(group: cgroups.Cgroup) -> None:
    folder = f"/sys/fs/cgroup/memory{group.path}"
    for limit, swap in ((64, 64), (128, 256), (32, 32), (-1, -1), (64, 128)):
        group.apply(Resources(memory=Memory(limit=max(limit * MIB, -1), swap=max(swap * MIB, -1))))
        found = int(Path(folder, "memory.limit_in_bytes").read_text())
        assert found == limit * MIB or (limit < 0 and found > 1 << 62)
    for quota, burst in ((50_000, 20_000), (10_000, 5_000), (100_000, 100_000), (20_000, 0)):
        group.apply(Resources(cpu=CPU(quota=quota, burst=burst)))
        assert Path(f"/sys/fs/cgroup/cpu{group.path}/cpu.cfs_burst_us").read_text().strip() == str(burst)
    with subprocess.Popen(["sh", "-c", f"echo $$ > {folder}/cgroup.procs; exec sleep 1000"]) as process:
        eventually(lambda: group.stats().memory.total.usage > 4096)
        with pytest.raises(StartFailed, match="rejecting memory limit 4096"):
            group.apply(Resources(memory=Memory(limit=4096, check_before_update=True)))
        group.remove()
        assert process.wait() == -signal.SIGKILL
