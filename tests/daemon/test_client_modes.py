"""Namespaces of others, devices and small options, by the official client: as `inspect` shows them, and inside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def host(ready: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = ready.get(f"/containers/{name}/json")[1]["HostConfig"]
    return found


def test_the_network_of_another_container(ready: Daemon, container: Callable[..., str]) -> None:
    first = container("-d", "--hostname", "giver", "--add-host", "far:1.2.3.4", "busybox", "sleep", "60")
    second = container("-d", "--network", f"container:{first}", "busybox", "sleep", "60")
    look = "readlink /proc/self/ns/net; hostname; cat /etc/hosts"
    assert ready.docker("exec", second, "sh", "-c", look).stdout == ready.docker("exec", first, "sh", "-c", look).stdout
    identity = ready.get(f"/containers/{first}/json")[1]["Id"]
    shown = ready.get(f"/containers/{second}/json")[1]
    assert (shown["HostConfig"]["NetworkMode"], shown["NetworkSettings"]["Networks"]) == (f"container:{identity}", {})
    ready.docker("kill", second)
    assert "1.2.3.4" in ready.docker("exec", first, "cat", "/etc/hosts").stdout
    ready.docker("kill", first)
    refused = ready.docker("start", second, check=False)
    assert f"cannot join network of a non running container: {identity}" in refused.stderr


def test_the_processes_of_another_container(ready: Daemon, container: Callable[..., str]) -> None:
    first = container("-d", "busybox", "sleep", "6061")
    second = container("-d", "--pid", f"container:{first}", "busybox", "sleep", "6062")
    seen = ready.docker("exec", second, "ps", "-o", "args").stdout
    assert "sleep 6061" in seen and "sleep 6062" in seen
    ready.docker("stop", "-t", "0", second)
    assert ready.get(f"/containers/{first}/json")[1]["State"]["Running"]
    refused = ready.docker("run", "--rm", "--pid", f"container:{second}", "busybox", "true", check=False)
    assert refused.returncode == 125 and "can't join PID namespace of container" in refused.stderr


@pytest.mark.parametrize(
    ("option", "kind"), [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")]
)
def test_the_machines_own(ready: Daemon, option: str, kind: str) -> None:
    told = ready.docker("run", "--rm", option, "host", "busybox", "readlink", f"/proc/self/ns/{kind}").stdout.strip()
    assert told == os.readlink(f"/proc/self/ns/{kind}")
    other = ready.docker("run", "--rm", "busybox", "readlink", f"/proc/self/ns/{kind}").stdout.strip()
    assert other != told


def test_ipc_none_has_no_shared_memory(ready: Daemon) -> None:
    mounts = ready.docker("run", "--rm", "--ipc", "none", "busybox", "cat", "/proc/mounts").stdout
    assert " /dev/shm " not in mounts
    mounts = ready.docker("run", "--rm", "--ipc", "host", "busybox", "cat", "/proc/mounts").stdout
    assert " /dev/shm " in mounts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--network", "container:"), "invalid container format container:<name|id>"),
        (("--network", "container:x", "--hostname", "me"), "conflicting options: hostname and the network mode"),
        (("--network", "container:x", "--dns", "1.1.1.1"), "conflicting options: dns and the network mode"),
        (("--network", "container:x", "-p", "80:80"), "conflicting options: port publishing and the container type"),
        (("--uts", "host", "--hostname", "me"), "conflicting options: hostname and the UTS mode"),
        (("--ulimit", "colour=1"), "invalid ulimit type: colour"),
        (("--oom-score-adj", "2000"), "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
        (("--runtime", "nosuch"), "unknown or invalid runtime name: nosuch"),
        (("--device-cgroup-rule", "everything"), "invalid device cgroup format"),
        (("--mount", "type=bind,source=/no/such,target=/x"), "bind source path does not exist: /no/such"),
        (("--link", "a:b"), "--links is not supported yet"),
    ],
)
def test_what_contradicts_itself_is_refused_and_makes_nothing(
    ready: Daemon, words: tuple[str, ...], message: str
) -> None:
    before = ready.containers()
    refused = ready.docker("create", *words, "busybox", "true", check=False)
    assert refused.returncode != 0 and message in refused.stderr, refused.stderr
    assert ready.containers() == before


def test_a_device_and_its_rights(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "--device", "/dev/fuse:/dev/melt:rw", "busybox", "sleep", "60")
    outside = os.stat("/dev/fuse")
    shown = ready.docker("exec", name, "stat", "-c", "%t:%T %a %u", "/dev/melt").stdout.split()
    numbers = f"{os.major(outside.st_rdev):x}:{os.minor(outside.st_rdev):x}"
    assert shown == [numbers, f"{outside.st_mode & 0o7777:o}", str(outside.st_uid)]
    assert host(ready, name)["Devices"] == [
        {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/melt", "CgroupPermissions": "rw"}
    ]
    assert ready.docker("exec", name, "sh", "-c", "exec 3<>/dev/melt").returncode == 0
    refused = ready.docker("run", "--rm", "--device", "/dev/nosuch", "busybox", "true", check=False)
    words = 'error gathering device information while adding custom device "/dev/nosuch": no such file or directory'
    assert refused.returncode != 0 and words in refused.stderr


def test_small_options_are_seen_inside(ready: Daemon, container: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "in").write_text("here")
    name = container(
        *("-d", "--tmpfs", "/scratch:rw,size=1m,mode=700", "--shm-size", "3m", "--ulimit", "nofile=77:88"),
        *("--group-add", "4321", "--sysctl", "net.ipv4.ip_unprivileged_port_start=7", "--oom-score-adj", "300"),
        *("--read-only", "--stop-signal", "USR1", "--stop-timeout", "3", "--annotation", "a=b", "--runtime", "runc"),
        *(
            "--mount",
            f"type=bind,source={tmp_path},target=/bound,readonly",
            "--mount",
            "type=tmpfs,target=/mt,tmpfs-size=1m",
        ),
        *("busybox", "sleep", "60"),
    )
    script = (
        "grep -c ' /scratch tmpfs .*size=1024k' /proc/mounts; grep -c ' /dev/shm .*size=3072k' /proc/mounts; "
        "ulimit -n; id -G; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/oom_score_adj; touch /x 2>&1; "
        "cat /bound/in; touch /bound/out 2>&1 >/dev/null || echo; grep -c ' /mt tmpfs .*size=1024k' /proc/mounts"
    )
    seen = ready.docker("exec", name, "sh", "-c", script).stdout
    lines = seen.splitlines()
    assert lines[:3] == ["1", "1", "77"] and "4321" in lines[3].split() and lines[4:6] == ["7", "300"], seen
    assert "Read-only file system" in lines[6] and lines[7].startswith("here") and lines[-1] == "1", seen
    shown = ready.get(f"/containers/{name}/json")[1]
    assert (shown["Config"]["StopSignal"], shown["Config"]["StopTimeout"]) == ("USR1", 3)
    assert shown["HostConfig"]["Annotations"] == {"a": "b"}
    assert shown["HostConfig"]["Tmpfs"] == {"/scratch": "rw,size=1m,mode=700"}
