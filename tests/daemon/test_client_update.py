"""`docker update` and what the engine says of its limits, by the official client and the SDK."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import docker
import pytest

from glassdock.runtime import cgroups
from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]
MIB = 1 << 20


def group_of(ready: Daemon, name: str) -> cgroups.Cgroup:
    identity = ready.docker("inspect", "-f", "{{.Id}}", name).stdout.strip()
    return cgroups.open_cgroup(f"/glassdock-{ready.tag}/{identity}")


def test_limits_change_while_it_runs(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "--memory", "64m", "busybox", "sleep", "1000")
    arguments = ("--memory", "128m", "--memory-swap", "256m", "--cpus", "0.5", "--pids-limit", "33")
    assert ready.docker("update", *arguments, name).stdout == f"{name}\n"
    stats = group_of(ready, name).stats()
    assert (stats.memory.total.limit, stats.pids.limit) == (128 * MIB, 33)
    host = ready.get(f"/containers/{name}/json")[1]["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
        128 * MIB,
        256 * MIB,
        500_000_000,
        33,
    )
    ready.docker("update", "--memory", "32m", "--memory-swap", "32m", name)
    assert group_of(ready, name).stats().memory.total.limit == 32 * MIB


def test_limits_of_a_stopped_container_hold_from_its_next_start(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("busybox", "sleep", "0.2")
    ready.docker("update", "--pids-limit", "21", "--restart", "on-failure:3", name)
    host = ready.get(f"/containers/{name}/json")[1]["HostConfig"]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    ready.docker("start", name)
    assert group_of(ready, name).stats().pids.limit == 21


def test_a_wrong_update_changes_nothing(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "--memory", "64m", "--cpus", "0.5", "busybox", "sleep", "1000")
    for arguments, words in (
        (("--memory", "4m"), "Minimum memory limit allowed is 6MB"),
        (("--memory", "256m"), "Memory limit should be smaller than already set memoryswap limit"),
        (("--cpu-quota", "5000"), "CPU Quota cannot be updated as NanoCPUs has already been set"),
        (("--cpuset-cpus", "4000"), "Requested CPUs are not available - requested 4000"),
        (("--restart", "sometimes"), "invalid restart policy"),
    ):
        done = ready.docker("update", *arguments, name, check=False)
        assert done.returncode != 0
        assert words in done.stderr, done.stderr
    assert group_of(ready, name).stats().memory.total.limit == 64 * MIB
    assert "No such container" in ready.docker("update", "--memory", "64m", "nobody", check=False).stderr


def test_the_sdk_updates_too(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "busybox", "sleep", "1000")
    found = ready.sdk.containers.get(name)
    assert found.update(mem_limit="64m", memswap_limit="-1", cpu_shares=512) == {"Warnings": None}
    found.reload()
    assert (found.attrs["HostConfig"]["Memory"], found.attrs["HostConfig"]["CpuShares"]) == (64 * MIB, 512)
    with pytest.raises(docker.errors.APIError, match="6MB"):
        found.update(mem_limit="1m")


def test_a_wrong_limit_is_refused_before_anything_starts(ready: Daemon) -> None:
    for arguments, words in (
        (("--memory", "4m"), "Minimum memory limit allowed is 6MB"),
        (("--cpuset-cpus", "4000"), "Requested CPUs are not available"),
        (("--cpus", "4000"), "range of CPUs is from 0.01"),
        (("--memory-swap", "64m"), "You should always set the Memory limit"),
    ):
        done = ready.docker("run", "--rm", *arguments, "busybox", "true", check=False)
        assert done.returncode == 125
        assert words in done.stderr, done.stderr


def test_info_says_what_limits_there_are(ready: Daemon) -> None:
    info = json.loads(ready.docker("info", "--format", "{{json .}}").stdout)
    assert info["CgroupVersion"] == cgroups.version()
    assert info["CgroupDriver"] == "cgroupfs"
    group = cgroups.open_cgroup("/glassdock-info")
    group.create()
    try:
        found = {name for _, folder in group.views() for name in os.listdir(folder)}
    finally:
        group.remove()
    names = {
        "MemoryLimit": ("memory.limit_in_bytes", "memory.max"),
        "SwapLimit": ("memory.memsw.limit_in_bytes", "memory.swap.max"),
        "PidsLimit": ("pids.max",),
        "CpuCfsQuota": ("cpu.cfs_quota_us", "cpu.max"),
        "CpuCfsPeriod": ("cpu.cfs_period_us", "cpu.max"),
        "CPUShares": ("cpu.shares", "cpu.weight"),
        "CPUSet": ("cpuset.cpus",),
    }
    for field, files in names.items():
        assert info[field] is bool(found & set(files)), field
