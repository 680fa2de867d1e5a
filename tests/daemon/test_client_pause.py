"""`docker pause`, `unpause` and `top` by the official client."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]
COUNTER = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"


def lines(ready: Daemon, name: str) -> int:
    """How much it has written."""
    return ready.docker("logs", name).stdout.count("\n")


def test_a_paused_container_stands_still(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "busybox", "sh", "-c", COUNTER)
    assert ready.docker("pause", name).stdout == f"{name}\n"
    state = ready.get(f"/containers/{name}/json")[1]["State"]
    assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
    assert "(Paused)" in ready.docker("ps", "--filter", f"name={name}", "--format", "{{.Status}}").stdout
    time.sleep(0.1)
    before = lines(ready, name)
    time.sleep(0.3)
    assert lines(ready, name) == before
    again = ready.docker("pause", name, check=False)
    assert "is already paused" in again.stderr
    assert "is paused, unpause the container before exec" in ready.docker("exec", name, "true", check=False).stderr
    ready.docker("unpause", name)
    time.sleep(0.3)
    assert lines(ready, name) > before
    assert "is not paused" in ready.docker("unpause", name, check=False).stderr
    assert ready.docker("exec", name, "echo", "on").stdout == "on\n"


def test_a_paused_container_can_be_ended(ready: Daemon, container: Callable[..., str]) -> None:
    for words in (("kill",), ("stop", "-t", "1"), ("rm", "-f")):
        name = container("-d", "busybox", "sleep", "60")
        ready.docker("pause", name)
        ready.docker(*words, name, timeout=20)
        if words[0] != "rm":
            assert ready.get(f"/containers/{name}/json")[1]["State"]["ExitCode"] == 137


def test_it_is_paused_still_when_the_daemon_comes_back(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "busybox", "sleep", "60")
    ready.docker("pause", name)
    ready.kill()
    ready.start()
    assert ready.get(f"/containers/{name}/json")[1]["State"]["Status"] == "paused"
    ready.docker("unpause", name)
    assert ready.docker("exec", name, "echo", "on").stdout == "on\n"


def test_top_lists_the_processes(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "-u", "1234", "busybox", "sh", "-c", "sleep 61 & sleep 62; true")
    deadline = time.monotonic() + 10
    while len(table := [line.split(None, 7) for line in ready.docker("top", name).stdout.splitlines()]) < 4:
        assert time.monotonic() < deadline, table
    assert table[0] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert sorted(row[7] for row in table[1:]) == ["sh -c sleep 61 & sleep 62; true", "sleep 61", "sleep 62"]
    assert {row[0] for row in table[1:]} == {"1234"}
    first = ready.get(f"/containers/{name}/json")[1]["State"]["Pid"]
    assert str(first) in [row[1] for row in table]
    named = ready.docker("top", name, "-o", "pid,comm").stdout.split()
    assert named[:2] == ["PID", "COMMAND"]
    assert ready.docker("top", name, "--nonsense", check=False).returncode == 1
    ready.docker("kill", name)
    assert "is not running" in ready.docker("top", name, check=False).stderr
