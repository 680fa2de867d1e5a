"""`docker stats` by the official client, the SDK and plain HTTP: true numbers in Docker's shape."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.daemon import Daemon, UnixConnection

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]
BUSY = "while :; do :; done"
KEYS = {"read", "preread", "pids_stats", "blkio_stats", "num_procs", "storage_stats", "cpu_stats", "precpu_stats"}
KEYS |= {"memory_stats", "name", "id"}


def one(ready: Daemon, name: str, query: str = "stream=false") -> dict[str, Any]:
    found: dict[str, Any] = ready.get(f"/containers/{name}/stats?{query}")[1]
    return found


def cpu_share(found: dict[str, Any]) -> float:
    """As the client computes it: 100 is one processor."""
    now, before = found["cpu_stats"], found["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now["system_cpu_usage"] - before["system_cpu_usage"]
    return float(used / passed * now["online_cpus"] * 100)


def test_the_client_prints_what_containers_use(ready: Daemon, container: Callable[..., str]) -> None:
    busy = container("-d", "--memory", "64m", "--pids-limit", "50", "busybox", "sh", "-c", BUSY)
    idle = container("-d", "busybox", "sleep", "1000")
    form = "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.NetIO}} {{.PIDs}}"
    lines = ready.docker("stats", "--no-stream", "--format", form, busy, idle).stdout.splitlines()
    found = {line.split()[0]: line.split()[1:] for line in lines}
    assert float(found[busy][0].rstrip("%")) > 3 + float(found[idle][0].rstrip("%"))
    assert found[busy][3] == "64MiB"
    assert found[busy][-1] == "1"
    assert ready.docker("stats", "--no-stream", "--no-trunc", busy).stdout.count("\n") == 2
    ready.docker("kill", busy)
    assert f"{busy}" in ready.docker("stats", "--no-stream", "-a", "--format", "{{.Name}}").stdout


def test_the_sdk_gets_true_numbers(ready: Daemon, container: Callable[..., str]) -> None:
    script = f"dd if=/dev/zero of=/dev/shm/f bs=1M count=20; ({BUSY}) & sleep 1000"
    name = container("-d", "--memory", "100m", "busybox", "sh", "-c", script)
    found = ready.sdk.containers.get(name).stats(stream=False)
    assert found.keys() >= KEYS | {"networks"}
    assert found["name"] == f"/{name}"
    assert 3 < cpu_share(found) < 130
    assert 20 << 20 <= found["memory_stats"]["usage"] <= 100 << 20
    assert found["memory_stats"]["limit"] == 100 << 20
    assert found["pids_stats"]["current"] == 2
    assert "lo" not in found["networks"]
    before = found["networks"]["eth0"]["tx_packets"]
    gateway = ready.docker("inspect", "-f", "{{.NetworkSettings.Gateway}}", name).stdout.strip()
    ready.docker("exec", name, "ping", "-c", "3", gateway, check=False)
    after = ready.sdk.containers.get(name).stats(stream=False)["networks"]["eth0"]["tx_packets"]
    assert after > before


def test_a_stream_has_a_line_a_second_each_with_the_one_before(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "busybox", "sleep", "1000")
    stream = ready.sdk.containers.get(name).stats(stream=True, decode=True)
    first, second, third = (next(stream) for _ in range(3))
    stream.close()
    assert first["preread"].startswith("0001-01-01")
    assert "system_cpu_usage" not in first["precpu_stats"]
    assert second["preread"] == first["read"]
    assert third["precpu_stats"] == second["cpu_stats"]


def test_many_watchers_share_one_reading(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "busybox", "sleep", "1000")
    connections = [watch(ready, name) for _ in range(8)]
    try:
        times = [[json.loads(answer.readline())["read"] for _ in range(3)] for _, answer in connections]
    finally:
        for connection, _ in connections:
            connection.close()
    assert len({moment for moments in times for moment in moments}) <= 5


def test_a_stopped_container_has_the_shape_without_numbers(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("busybox", "true")
    for query in ("stream=false", "stream=false&one-shot=true"):
        found = one(ready, name, query)
        assert found.keys() == KEYS
        assert found["read"] == "0001-01-01T00:00:00Z"
        assert (found["memory_stats"], found["pids_stats"]) == ({}, {})
        assert found["cpu_stats"]["cpu_usage"]["total_usage"] == 0
    status, body = ready.get(f"/containers/{name}/stats?one-shot=true")
    assert (status, body["message"]) == (400, "cannot have stream=true and one-shot=true")
    assert ready.get("/containers/nobody/stats")[0] == 404


def test_one_shot_answers_at_once(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "busybox", "sleep", "1000")
    before = time.monotonic()
    found = one(ready, name, "stream=false&one-shot=true")
    assert time.monotonic() - before < 0.8
    assert found["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] > 0


def test_a_stream_ends_with_its_container(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "busybox", "sleep", "1000")
    connection, answer = watch(ready, name)
    try:
        answer.readline()
        ready.docker("kill", name)
        emptied = any(json.loads(answer.readline())["read"].startswith("0001") for _ in range(4))
        assert emptied, "after its end it is shown without numbers"
        ready.docker("rm", name)
        while answer.readline():
            pass
    finally:
        connection.close()


def watch(ready: Daemon, name: str) -> tuple[UnixConnection, http.client.HTTPResponse]:
    connection = UnixConnection(ready.socket, timeout=10)
    connection.request("GET", f"/containers/{name}/stats")
    return connection, connection.getresponse()
