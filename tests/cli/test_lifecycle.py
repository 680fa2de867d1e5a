"""The verbs of `glassdock` that change or look at a container, against a real engine."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = pytest.mark.needs_root

Glassdock = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def glassdock(engine: Daemon) -> Glassdock:
    """The command line on the session's engine, busybox pulled."""
    engine.docker("pull", "-q", "busybox")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "glassdock", *words]
        return subprocess.run(
            command, input="n\n", capture_output=True, text=True, env=engine.env, timeout=60, check=False
        )

    return run


@pytest.fixture
def name(glassdock: Glassdock) -> Iterator[str]:
    """A container that sleeps, with a port."""
    made = glassdock("run", "-d", "--name", "life", "-p", "127.0.0.1::80", "busybox", "sleep", "600")
    assert made.returncode == 0, made.stderr
    yield "life"
    glassdock("rm", "-f", "life", "other")


def state(glassdock: Glassdock, name: str) -> str:
    return glassdock("inspect", "--format", "{{.State.Status}}", name).stdout.strip()


def test_states_follow_the_verbs(glassdock: Glassdock, name: str) -> None:
    assert glassdock("pause", name).stdout == f"{name}\n"
    assert state(glassdock, name) == "paused"
    refused = glassdock("pause", name)
    assert refused.returncode == 1 and "is already paused" in refused.stderr
    assert glassdock("unpause", name).stdout == f"{name}\n"
    before = glassdock("inspect", "--format", "{{.State.Pid}}", name).stdout
    assert glassdock("restart", "-t", "0", name).stdout == f"{name}\n"
    assert glassdock("inspect", "--format", "{{.State.Pid}}", name).stdout != before
    assert glassdock("rename", name, "other").returncode == 0
    assert state(glassdock, "other") == "running"
    assert "No such container: life" in glassdock("restart", name).stderr


def test_update_changes_what_inspect_shows(glassdock: Glassdock, name: str) -> None:
    assert (
        glassdock("update", "--restart", "on-failure:3", "--memory", "64m", "--memory-swap", "-1", name).stdout
        == f"{name}\n"
    )
    form = "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}} {{.HostConfig.Memory}}"
    assert glassdock("inspect", "--format", form, name).stdout == "on-failure 3 67108864\n"
    assert "unknown policy 'sometimes'" in glassdock("update", "--restart", "sometimes", name).stderr
    assert glassdock("update", name).returncode != 0


def test_looking_inside(glassdock: Glassdock, name: str, tmp_path: Path) -> None:
    glassdock("exec", name, "touch", "/new")
    assert "A /new" in glassdock("diff", name).stdout.splitlines()
    assert "sleep 600" in glassdock("top", name).stdout
    assert glassdock("top", name, "-o", "pid,comm").stdout.split()[:2] == ["PID", "COMMAND"]
    (line,) = glassdock("port", name).stdout.splitlines()
    assert line.startswith("80/tcp -> 127.0.0.1:")
    assert glassdock("port", name, "80").stdout.strip() == line.partition(" -> ")[2]
    assert "no public port '81/tcp' published for life" in glassdock("port", name, "81").stderr
    assert glassdock("export", "-o", str(tmp_path / "all.tar"), name).returncode == 0
    with tarfile.open(tmp_path / "all.tar") as archive:
        assert "new" in [member.name.strip("/") for member in archive]


def test_events_are_told_in_dockers_order(glassdock: Glassdock, name: str) -> None:
    since = time.time()
    glassdock("stop", "-t", "0", name)
    glassdock("restart", "-t", "0", name)
    glassdock("rm", "-f", name)
    words = ("events", "--since", f"{since:.6f}", "--until", f"{time.time():.6f}", "--filter", "container=life")
    shown = glassdock(*words, "--format", "json")
    told = [json.loads(line) for line in shown.stdout.splitlines()]
    assert told, shown.stderr
    expected = ["kill", "kill", "die", "stop", "start", "restart", "kill", "die", "destroy"]
    assert [event["Action"] for event in told] == expected
    died = next(event for event in told if event["Action"] == "die")["Actor"]["Attributes"]
    assert (died["exitCode"], int(died["execDuration"]) >= 0) == ("137", True)
    assert " container destroy " in glassdock(*words).stdout.splitlines()[-1]


def test_prune_asks_first(glassdock: Glassdock, name: str) -> None:
    glassdock("kill", name)
    assert glassdock("container", "prune").returncode != 0
    assert state(glassdock, name) == "exited"
    assert "Deleted Containers:" in glassdock("container", "prune", "-f").stdout
    assert "No such object: life" in glassdock("inspect", name).stderr
