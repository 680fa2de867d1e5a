"""Health checks by the official client: what is run, what is kept of it, what is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]
QUICK = ("--health-interval", "100ms", "--health-retries", "2")


def health(ready: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = ready.get(f"/containers/{name}/json")[1]["State"]["Health"]
    return found


def until(ready: Daemon, name: str, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while (found := health(ready, name))["Status"] != status:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def events(ready: Daemon, name: str, since: float) -> list[str]:
    words = ("events", "--since", f"{since:.6f}", "--until", f"{time.time():.6f}", "--filter", f"container={name}")
    return ready.docker(*words, "--format", "{{.Action}}").stdout.splitlines()


def test_healthy_then_not_and_only_changes_are_told(ready: Daemon, container: Callable[..., str]) -> None:
    since = time.time()
    name = container("-d", "--health-cmd", "test ! -e /tmp/ill && echo fine", *QUICK, "busybox", "sleep", "60")
    assert "(health: starting)" in ready.docker("ps", "--filter", "health=starting").stdout
    found = until(ready, name, "healthy")
    assert (found["FailingStreak"], found["Log"][-1]["ExitCode"], found["Log"][-1]["Output"]) == (0, 0, "fine\n")
    shown = ready.docker("ps", "--filter", "health=healthy", "--format", "{{.Names}} {{.Status}}").stdout
    assert shown.startswith(f"{name} Up") and "(healthy)" in shown
    ready.docker("exec", name, "touch", "/tmp/ill")
    found = until(ready, name, "unhealthy")
    assert found["FailingStreak"] >= 2
    time.sleep(0.5)
    assert len(health(ready, name)["Log"]) == 5
    told = events(ready, name, since)
    assert [one for one in told if one.startswith("health_status")] == [
        "health_status: healthy",
        "health_status: unhealthy",
    ]
    probe = "/bin/sh -c test ! -e /tmp/ill && echo fine"
    first = told.index(f"exec_create: {probe}")
    assert told[first + 1 : first + 3] == [f"exec_start: {probe}", "exec_die"]


def test_a_failure_in_the_start_period_does_not_count(ready: Daemon, container: Callable[..., str]) -> None:
    words = ("--health-cmd", "false", *QUICK, "--health-start-period", "30s", "--health-start-interval", "50ms")
    name = container("-d", *words, "busybox", "sleep", "60")
    deadline = time.monotonic() + 20
    while len(found := health(ready, name)["Log"]) < 4:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    assert (health(ready, name)["Status"], health(ready, name)["FailingStreak"]) == ("starting", 0)


def test_a_probe_that_takes_too_long_is_ended(ready: Daemon, container: Callable[..., str]) -> None:
    words = ("--health-cmd", "echo begun; sleep 77", *QUICK, "--health-timeout", "1500ms")
    name = container("-d", *words, "busybox", "sleep", "60")
    found = until(ready, name, "unhealthy")
    assert found["Log"][-1]["ExitCode"] == -1
    assert found["Log"][-1]["Output"] == "Health check exceeded timeout (1.5s): begun\n"
    assert ready.docker("top", name).stdout.count("echo begun") <= 1


def test_none_and_what_cannot_be_run(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "--no-healthcheck", "busybox", "sleep", "60")
    assert "Health" not in ready.get(f"/containers/{name}/json")[1]["State"]
    body = {"Image": "busybox", "Cmd": ["sleep", "60"], "Healthcheck": {"Test": ["CMD", "nosuch"], "Interval": 10**8}}
    made = ready.post("/containers/create", body | {"HostConfig": {}})[1]["Id"]
    try:
        ready.post(f"/containers/{made}/start")
        deadline = time.monotonic() + 20
        while not (log := health(ready, made)["Log"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert log[0]["ExitCode"] == -1 and 'exec: "nosuch": executable file not found' in log[0]["Output"]
    finally:
        ready.docker("rm", "-f", made)
    nothing = {"Test": ["CMD", "true"], "Interval": None, "Retries": None, "StartPeriod": None}
    status, answer = ready.post("/containers/create", body | {"Healthcheck": nothing})
    assert status == 201
    ready.docker("rm", answer["Id"])
    status, answer = ready.post("/containers/create", body | {"Healthcheck": {"Test": ["CMD", "true"], "Interval": 5}})
    assert (status, answer["message"]) == (400, "Interval in Healthcheck cannot be less than 1ms")


def test_it_is_asked_no_more_while_paused_or_ended_and_again_by_the_next_daemon(
    ready: Daemon, container: Callable[..., str]
) -> None:
    name = container("-d", "--health-cmd", "true", *QUICK, "busybox", "sleep", "60")
    until(ready, name, "healthy")
    ready.docker("pause", name)
    assert health(ready, name)["Status"] == "unhealthy"
    ready.docker("unpause", name)
    until(ready, name, "healthy")
    ready.kill()
    ready.start()
    until(ready, name, "healthy")
    ready.docker("kill", name)
    last = health(ready, name)
    assert last["Status"] == "unhealthy"
    time.sleep(0.4)
    assert health(ready, name) == last
