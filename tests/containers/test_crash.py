"""Daemon, shim and launcher killed with SIGKILL: what the next daemon finds is as it should be."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn
from unittest import mock

import msgspec
import pytest

from glassdock.containers import spec
from glassdock.containers.model import Status
from glassdock.engine import Engine
from glassdock.errors import StartFailed
from glassdock.paths import Paths
from glassdock.runtime import cgroups
from glassdock.runtime.launch import Launcher
from glassdock.runtime.remains import holder
from tests.containers.crashing import make_image
from tests.containers.scenarios import request
from tests.runtime.lab import alive, eventually
from tests.support import leaks

HERE = Path(__file__).parents[2]

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("busybox")]


LEAST = {
    "create": 8,
    "start": 16,
    "stop": 4,
    "kill": 4,
    "remove": 4,
    "exec": 2,
    "pause": 4,
    "update": 2,
    "rename": 1,
}


@pytest.mark.parametrize("verb", LEAST)
def test_a_daemon_killed_at_any_step_leaves_nothing_and_loses_nothing(verb: str, short_tmp: Path) -> None:
    root, told = short_tmp / "r", short_tmp / "told"
    command = [sys.executable, "-m", "tests.containers.crashing", str(root), verb]
    with told.open("w") as out:  # not a pipe: shims that are left would hold it open
        subprocess.run(command, cwd=HERE, stdout=out, stderr=subprocess.STDOUT, timeout=300, check=True)
    *wrong, points = told.read_text().splitlines()
    assert wrong == []
    assert int(points.removeprefix(f"points {verb} ")) >= LEAST[verb]
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


async def test_a_daemon_killed_between_order_and_answer_leaves_no_container_that_nobody_knows(short_tmp: Path) -> None:
    paths = Paths.of(short_tmp / "r")
    async with Engine.open(paths, 0) as engine:
        make_image(engine)
        it, _ = await engine.containers.create(request("sleep", "1000"), "it")

        async def die(_self: Launcher, control: socket.socket, _run_dir: Path) -> NoReturn:
            control.close()
            raise StartFailed("the daemon is dead")

        with mock.patch.object(Launcher, "_outcome", die), pytest.raises(StartFailed):
            await engine.containers.start("it")
        run_dir = engine.containers.folder(it) / "run"
        await asyncio.to_thread(eventually, lambda: not (run_dir / "shim.json").exists() and not holder(run_dir))
        await engine.containers.start("it")
        assert alive(it.state.pid)
        await engine.containers.remove("it", force=True)
        await engine.containers.cleared()


async def test_what_was_to_go_by_itself_goes_at_the_next_start(short_tmp: Path) -> None:
    paths = Paths.of(short_tmp / "r")
    async with Engine.open(paths, 0) as engine:
        make_image(engine)
        it, _ = await engine.containers.create(request("true", auto_remove=True), "it")
        it.state.status = Status.EXITED  # written down, and then the daemon was killed
        engine.containers._held.save(it)
    async with Engine.open(paths, 0) as engine:
        assert engine.containers.all() == []
        await engine.containers.cleared()


async def test_a_pause_and_an_update_that_were_not_written_down_are_seen(short_tmp: Path) -> None:
    paths = Paths.of(short_tmp / "r")
    async with Engine.open(paths, 0) as engine:
        make_image(engine)
        it, _ = await engine.containers.create(request("sleep", "1000", memory=1 << 28), "it")
        await engine.containers.start("it")
        group = cgroups.open_cgroup(spec.cgroup_of(it.id, paths.tag))
        group.freeze(True)
        it.host, it.limits_due = msgspec.structs.replace(it.host, memory=1 << 27), True
        engine.containers._held.save(it)
    async with Engine.open(paths, 0) as engine:
        it = engine.containers.get("it")
        assert (it.state.status, it.limits_due) == (Status.PAUSED, False)
        assert group.stats().memory.total.limit == 1 << 27
        await engine.containers.unpause("it")
        await engine.containers.remove("it", force=True)
        await engine.containers.cleared()


async def test_half_a_record_is_removed(short_tmp: Path) -> None:
    paths = Paths.of(short_tmp / "r")
    async with Engine.open(paths, 0) as engine:
        make_image(engine)
        it, _ = await engine.containers.create(request("true"), "it")
        folder = engine.containers.folder(it)
    halves = [folder / ".container.json.ab12cd_9", paths.images / ".images.json.ab12cd_9"]
    for half in halves:
        half.write_text("{")
    async with Engine.open(paths, 0) as engine:
        assert engine.containers.get("it").id == it.id
        assert not any(half.exists() for half in halves)
