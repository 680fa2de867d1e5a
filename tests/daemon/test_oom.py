"""Too little memory: the event comes when the kernel kills, not when the container ends."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.runtime.lab import eventually
from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]
TINY = ("-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c")
GREEDY = "dd if=/dev/zero of=/dev/null bs=100M count=1"


def ooms(ready: Daemon, name: str, since: float) -> int:
    words = ("--filter", f"container={name}", "--format", "{{.Action}}")
    done = ready.docker("events", "--since", f"{since:.3f}", "--until", f"{time.time():.3f}", *words)
    return done.stdout.split().count("oom")


def test_a_kill_for_memory_is_told_while_the_container_lives(ready: Daemon, container: Callable[..., str]) -> None:
    since = time.time()
    name = container("-d", *TINY, f"{GREEDY}; sleep 1000")
    eventually(lambda: ooms(ready, name, since) == 1)
    assert ready.docker("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n"


def test_a_container_that_dies_of_it_is_told_once(ready: Daemon, container: Callable[..., str]) -> None:
    since = time.time()
    name = container(*TINY, f"exec {GREEDY}")
    state = ready.get(f"/containers/{name}/json")[1]["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    assert ooms(ready, name, since) == 1
