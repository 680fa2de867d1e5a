"""An engine's own cgroup: it goes with the engine, or with the last container that outlives it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.runtime.lab import eventually, parents_left
from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def left(daemon: Daemon) -> list[str]:
    return parents_left(f"/glassdock-{daemon.tag}")


@pytest.mark.parametrize("kill", [False, True])
def test_no_empty_group_is_left_by_a_container_that_outlives_its_engine(
    engine: Daemon, short_tmp: Path, kill: bool
) -> None:
    daemon = Daemon(short_tmp / "d").start()
    try:
        daemon.docker("load", "-i", str(saved(engine, short_tmp)))
        daemon.docker("run", "-d", "--name", "long", "busybox", "sleep", "1000")
        pid = int(daemon.docker("inspect", "-f", "{{.State.Pid}}", "long").stdout)
    finally:
        if kill:
            daemon.kill()
        else:
            daemon.stop()
    assert left(daemon)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not left(daemon))


def test_no_empty_group_is_left_by_an_engine_that_ends_while_its_last_container_does(
    engine: Daemon, short_tmp: Path
) -> None:
    daemon = Daemon(short_tmp / "d").start()
    try:
        daemon.docker("load", "-i", str(saved(engine, short_tmp)))
        for _ in range(3):
            daemon.docker("run", "-d", "busybox", "sleep", "0.3")
    finally:
        daemon.stop()
    eventually(lambda: not left(daemon))


def saved(engine: Daemon, folder: Path) -> Path:
    """busybox from the session's engine, as a file."""
    engine.docker("pull", "busybox")
    engine.docker("save", "-o", str(folder / "busybox.tar"), "busybox")
    return folder / "busybox.tar"
