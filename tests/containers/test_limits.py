"""Limits: refused in Docker's words, dropped with Docker's warnings where the machine has no means, changed by rule."""

from __future__ import annotations

import os
from typing import Any

import pytest

from glassdock.containers import limits
from glassdock.containers.config import HostConfig, RateDevice, RestartPolicy, WeightDevice
from glassdock.containers.limits import Update
from glassdock.errors import Conflict, InvalidParameter
from glassdock.runtime.cgroup_support import Support

MIB = 1 << 20
EVERYTHING: dict[str, Any] = dict.fromkeys(Support().missing, True) | {"processors": "0-3", "nodes": "0"}
ALL = Support(**EVERYTHING)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"memory": 4 * MIB}, "Minimum memory limit allowed is 6MB"),
        ({"memory_swap": 8 * MIB}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
        ({"memory": 16 * MIB, "memory_swap": 8 * MIB}, "Minimum memoryswap limit should be larger than memory limit"),
        ({"memory": 16 * MIB, "memory_reservation": 32 * MIB}, "can not be less than memory reservation limit"),
        ({"memory_reservation": 1}, "Minimum memory reservation allowed is 6MB"),
        ({"memory_swappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
        ({"nano_cpus": 10**9, "cpu_period": 1000}, "Nano CPUs and CPU Period cannot both be set"),
        ({"nano_cpus": 10**9, "cpu_quota": 1000}, "Nano CPUs and CPU Quota cannot both be set"),
        ({"nano_cpus": 10**15}, r"range of CPUs is from 0.01 to \d+.00, as there are only \d+ CPUs available"),
        ({"cpu_period": 10}, "CPU cfs period can not be less than 1ms"),
        ({"cpu_quota": 10}, "CPU cfs quota can not be less than 1ms"),
        ({"cpu_shares": -1}, "invalid CPU shares"),
        ({"cpuset_cpus": "a-b"}, "Invalid value a-b for cpuset cpus"),
        ({"cpuset_cpus": "0,7"}, "Requested CPUs are not available - requested 0,7, available: 0-3"),
        ({"cpuset_mems": "1"}, "Requested memory nodes are not available - requested 1, available: 0"),
        ({"blkio_weight": 5}, "Range of blkio weight is from 10 to 1000"),
        ({"cpu_realtime_runtime": 2, "cpu_realtime_period": 1}, "runtime cannot be higher than"),
    ],
)
def test_a_wrong_limit_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        limits.fit(HostConfig(**asked), ALL)


@pytest.mark.parametrize(
    ("asked", "left", "warning"),
    [
        ({"memory": 8 * MIB}, {"memory": 0, "memory_swap": 0}, "memory limit capabilities"),
        ({"memory_swappiness": 5}, {"memory_swappiness": None}, "memory swappiness capabilities"),
        ({"memory_reservation": 8 * MIB}, {"memory_reservation": 0}, "memory soft limit capabilities"),
        ({"oom_kill_disable": True}, {"oom_kill_disable": None}, "does not support OomKillDisable"),
        ({"pids_limit": 5}, {"pids_limit": None}, "PIDs limit capabilities"),
        ({"cpu_shares": 5}, {"cpu_shares": 0}, "CPU shares or the cgroup is not mounted. Shares discarded"),
        ({"cpu_quota": 5000}, {"cpu_quota": 0}, "CPU CFS scheduler. CPU period/quota discarded"),
        ({"cpuset_cpus": "0"}, {"cpuset_cpus": ""}, "cpuset or the cgroup is not mounted. Cpuset discarded"),
        ({"blkio_weight": 500}, {"blkio_weight": 0}, "Block I/O weight or the cgroup"),
        (
            {"blkio_device_read_bps": (RateDevice("/dev/x", 5),)},
            {"blkio_device_read_bps": None},
            "BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.",
        ),
    ],
)
def test_what_the_machine_has_no_means_for_is_dropped_and_said(
    asked: dict[str, Any], left: dict[str, Any], warning: str
) -> None:
    fitted, warnings = limits.fit(HostConfig(**asked), Support())
    assert {name: getattr(fitted, name) for name in left} == left
    assert len(warnings) == 1
    assert warning in warnings[0]
    kept, none = limits.fit(HostConfig(**asked), ALL)
    assert {name: getattr(kept, name) for name in asked} == asked
    assert [word for word in none if "discarded" in word] == []


def test_no_means_to_share_a_processor_is_an_error_where_processors_are_asked_for() -> None:
    with pytest.raises(InvalidParameter, match="NanoCPUs can not be set"):
        limits.fit(HostConfig(nano_cpus=10**9), Support())


def test_swap_is_as_much_as_memory_where_nothing_is_said() -> None:
    assert limits.fit(HostConfig(memory=8 * MIB), ALL)[0].memory_swap == 16 * MIB
    fitted, warnings = limits.fit(HostConfig(memory=8 * MIB), Support(memory=True))
    assert fitted.memory_swap == -1
    assert "Memory limited without swap" in warnings[0]


def test_the_specification_has_what_was_asked_for() -> None:
    made = limits.resources(HostConfig(nano_cpus=1_500_000_000, pids_limit=-1, oom_kill_disable=True))
    assert made.cpu is not None
    assert (made.cpu.quota, made.cpu.period) == (150_000, 100_000)
    assert made.pids is not None
    assert made.pids.limit == -1
    assert made.memory is not None
    assert made.memory.disable_oom_killer
    assert made.block_io is None


def test_a_block_device_is_looked_up_and_nothing_else_is_taken_for_one() -> None:
    for path, message in (("/nowhere", "/nowhere: no such file"), ("/dev/null", "is not a block device")):
        with pytest.raises(InvalidParameter, match=message):
            limits.resources(HostConfig(blkio_weight_device=(WeightDevice(path, 500),)))
    blocks = [entry.path for entry in os.scandir("/dev") if os.path.exists(f"/sys/block/{entry.name}")]
    if not blocks:
        pytest.skip("this machine shows no block device")
    number = os.stat(blocks[0]).st_rdev
    made = limits.resources(HostConfig(blkio_device_write_i_ops=(RateDevice(blocks[0], 7),)))
    assert made.block_io is not None
    (device,) = made.block_io.throttle_write_iops_device
    assert (device.major, device.minor, device.rate) == (os.major(number), os.minor(number), 7)


def test_an_update_takes_over_what_it_names() -> None:
    update = Update.parse(b'{"Memory": 33554432, "PidsLimit": 9, "RestartPolicy": {"Name": "always"}, "CpuShares": 0}')
    before = HostConfig(memory=64 * MIB, memory_swap=128 * MIB, cpu_shares=7)
    after = limits.changed(before, update)
    assert (after.memory, after.memory_swap, after.pids_limit, after.cpu_shares) == (32 * MIB, 128 * MIB, 9, 7)
    assert after.restart_policy == RestartPolicy("always")
    assert limits.changed(after, Update.parse(b'{"RestartPolicy": {"Name": ""}}')) == after
    with pytest.raises(InvalidParameter):
        Update.parse(b'{"Memory": "much"}')


@pytest.mark.parametrize(
    ("before", "asked", "message"),
    [
        ({"cpu_period": 5000}, {"nano_cpus": 1}, "Nano CPUs cannot be updated as CPU Period has already been set"),
        ({"nano_cpus": 1}, {"cpu_quota": 5000}, "CPU Quota cannot be updated as NanoCPUs has already been set"),
        ({"memory_swap": 8 * MIB}, {"memory": 9 * MIB}, "update the memoryswap at the same time"),
        ({"auto_remove": True}, {"restart_policy": RestartPolicy("always")}, "AutoRemove is enabled"),
    ],
)
def test_an_update_that_contradicts_what_is_set_is_refused(
    before: dict[str, Any], asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(Conflict, match=message):
        limits.changed(HostConfig(**before), Update(**asked))
