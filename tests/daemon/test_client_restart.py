"""Restart policies by the official client: counted, visible, stopped by `stop`, and kept over the daemon's death."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def inspected(ready: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = ready.get(f"/containers/{name}/json")[1]
    return found


def until(ready: Daemon, name: str, wanted: Callable[[dict[str, Any]], bool], patience: float = 15) -> dict[str, Any]:
    deadline = time.monotonic() + patience
    while not wanted(found := inspected(ready, name)):
        assert time.monotonic() < deadline, (found["State"], found["RestartCount"])
        time.sleep(0.02)
    return found


def test_on_failure_tries_as_often_as_it_was_told(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo once; exit 3")
    found = until(ready, name, lambda found: found["State"]["Status"] == "exited")
    assert (found["RestartCount"], found["State"]["ExitCode"]) == (2, 3)
    assert ready.docker("logs", name).stdout == "once\n" * 3
    assert found["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}


def test_on_failure_leaves_a_success_alone(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "--restart", "on-failure", "busybox", "true")
    assert ready.docker("wait", name).stdout == "0\n"
    time.sleep(0.3)
    assert inspected(ready, name)["RestartCount"] == 0


def test_while_it_waits_it_is_restarting_and_stop_ends_that(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "--restart", "always", "busybox", "false")
    until(ready, name, lambda found: found["RestartCount"] >= 4)
    found = until(ready, name, lambda found: found["State"]["Restarting"])
    assert (found["State"]["Status"], found["State"]["Running"], found["State"]["Pid"]) == ("restarting", True, 0)
    shown = ready.docker("ps", "--filter", f"name={name}", "--format", "{{.Status}}").stdout
    assert shown.startswith("Restarting (1) ")
    assert "is restarting" in ready.docker("exec", name, "true", check=False).stderr
    ready.docker("stop", name)
    count = inspected(ready, name)["RestartCount"]
    time.sleep(0.5)
    found = inspected(ready, name)
    assert (found["State"]["Status"], found["RestartCount"]) == ("exited", count)
    ready.docker("start", name)
    assert inspected(ready, name)["RestartCount"] < count  # counted anew; it may have ended again by now


def test_a_stop_or_a_kill_is_not_a_failure(ready: Daemon, container: Callable[..., str]) -> None:
    for verb in ("stop", "kill"):
        name = container("-d", "--restart", "unless-stopped", "busybox", "sleep", "60")
        ready.docker(verb, *(("-t", "0") if verb == "stop" else ()), name)
        time.sleep(0.3)
        assert inspected(ready, name)["State"]["Status"] == "exited"


def test_an_end_from_outside_is_followed_by_a_start(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "--restart", "always", "busybox", "sleep", "60")
    before = inspected(ready, name)["State"]["Pid"]
    os.kill(before, signal.SIGKILL)
    after = until(ready, name, lambda found: found["State"]["Pid"] not in (0, before))
    assert (after["RestartCount"], after["State"]["Running"]) == (1, True)


def test_removed_by_force_while_it_restarts(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "--restart", "always", "busybox", "false")
    until(ready, name, lambda found: found["RestartCount"] >= 3)
    refused = ready.docker("rm", name, check=False)
    assert "stop the container before removing or force remove" in refused.stderr
    ready.docker("rm", "-f", name)
    assert ready.get(f"/containers/{name}/json")[0] == 404


def test_after_the_daemons_death_they_come_up_as_their_policy_says(
    ready: Daemon, container: Callable[..., str]
) -> None:
    lives = container("-d", "--restart", "always", "busybox", "sleep", "61")
    dies = container("-d", "--restart", "unless-stopped", "busybox", "sleep", "62")
    halted = container("-d", "--restart", "unless-stopped", "busybox", "sleep", "63")
    always = container("-d", "--restart", "always", "busybox", "sleep", "64")
    failing = container("-d", "--restart", "on-failure", "busybox", "sleep", "65")
    ready.docker("stop", "-t", "0", halted, always, failing)
    pids = {name: inspected(ready, name)["State"]["Pid"] for name in (lives, dies)}
    ready.kill()
    os.kill(pids[dies], signal.SIGKILL)
    ready.start()
    assert inspected(ready, lives)["State"]["Pid"] == pids[lives]
    until(ready, dies, lambda found: found["State"]["Pid"] not in (0, pids[dies]))
    until(ready, always, lambda found: found["State"]["Status"] == "running")
    assert [inspected(ready, name)["State"]["Status"] for name in (halted, failing)] == ["exited"] * 2


def test_what_makes_no_sense_is_refused_and_makes_nothing(ready: Daemon) -> None:
    before = ready.containers()
    for words, message in (
        (("--restart", "sometimes"), "unknown policy 'sometimes'"),
        (("--restart", "always:3"), "maximum retry count can"),
    ):
        refused = ready.docker("create", *words, "busybox", "true", check=False)
        assert message in refused.stderr, refused.stderr
    body = {"Image": "busybox", "Cmd": ["true"]}
    body["HostConfig"] = {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}  # type: ignore[assignment]
    status, answer = ready.post("/containers/create", body)
    assert (status, answer["message"]) == (400, "can't create 'AutoRemove' container with restart policy")
    assert ready.containers() == before


def test_starting_a_paused_container_is_refused(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "busybox", "sleep", "60")
    ready.docker("pause", name)
    status, answer = ready.post(f"/containers/{name}/start")
    assert (status, answer["message"]) == (409, "cannot start a paused container, try unpause instead")
    ready.docker("unpause", name)
