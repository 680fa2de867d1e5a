"""Daemon, shim and launcher killed with SIGKILL: what the next daemon finds is as it should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from glassdock.containers.model import Status
from glassdock.engine import Engine
from glassdock.paths import Paths
from tests.containers.crashing import make_image, request
from tests.runtime.lab import alive, eventually
from tests.support import leaks

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("busybox")]


@pytest.mark.parametrize(("verb", "least"), [("create", 8), ("start", 16), ("stop", 4), ("remove", 4)])
def test_a_daemon_killed_at_any_step_leaves_nothing_and_loses_nothing(verb: str, least: int, short_tmp: Path) -> None:
    command = [sys.executable, "-m", "tests.containers.crashing", str(short_tmp / "r"), verb]
    here = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=90, check=False)
    *wrong, points = done.stdout.splitlines() or [""]
    assert wrong == [], done.stderr
    assert int(points.removeprefix("points ")) >= least, done.stderr
    root = short_tmp / "r"
    deadline = time.monotonic() + 5
    while (left := leaks.of_engine(root, Paths.of(root).tag)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


async def test_a_shim_killed_while_no_daemon_looked_ends_its_container(short_tmp: Path) -> None:
    paths = Paths.of(short_tmp / "r")
    async with Engine.open(paths, 0) as engine:
        make_image(engine)
        it, _ = await engine.containers.create(request("sleep", "1000"), "it")
        await engine.containers.start("it")
        pid, record = it.state.pid, engine.containers.folder(it) / "run/shim.json"
    assert alive(pid), "a daemon that stops leaves its containers running"
    os.kill(msgspec.json.decode(record.read_bytes())["shim"], signal.SIGKILL)
    eventually(lambda: not alive(pid))
    async with Engine.open(paths, 0) as engine:
        it = engine.containers.get("it")
        assert (it.state.status, it.state.exit_code, it.endpoints) == (Status.EXITED, 137, ())
        await engine.containers.start("it")
        assert alive(it.state.pid)
        await engine.containers.remove("it", force=True)


async def test_a_launcher_that_was_killed_costs_no_container(short_tmp: Path) -> None:
    async with Engine.open(Paths.of(short_tmp / "r"), 0) as engine:
        make_image(engine)
        for name in ("first", "second"):
            await engine.containers.create(request("sleep", "1000"), name)
        first = await engine.containers.start("first")
        launcher = engine.containers._parts.need_launcher()
        os.kill(killed := launcher.pid, signal.SIGKILL)
        second = await engine.containers.start("second")
        assert launcher.pid != killed
        assert alive(first.state.pid)
        assert alive(second.state.pid)
        for name in ("first", "second"):
            await engine.containers.remove(name, force=True)
            await engine.containers.cleared()
