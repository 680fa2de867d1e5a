"""A daemon that kills itself at a step of its own choice, and the next one that looks at what is left.

Interface: `python -m tests.containers.crashing ROOT VERB`: kills a daemon at every step of the verb, one after the
other; prints `points N` and one line for everything that the next daemon found wrong.

Rules: a step begins and ends (both are points), and every change of a folder by the engine's own lines is a point, too.
The interpreter's profiler tells of them, so the engine knows nothing of it. A container called `other` runs all the
time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from glassdock import trace
from glassdock.containers.config import Config, CreateRequest, HostConfig, NetworkingConfig
from glassdock.containers.model import Container, Status
from glassdock.engine import Engine
from glassdock.errors import NotFound
from glassdock.images.model import LayerRecord, chain_ids
from glassdock.oci.image import ImageConfig, RootFS
from glassdock.oci.reference import Reference
from glassdock.paths import Paths
from tests.runtime.lab import alive, make_root, read_log

ENGINE = os.path.dirname(trace.__file__)
STEP = trace.span.__wrapped__.__code__  # type: ignore[attr-defined]
CHANGES = {os.rename, os.replace, os.unlink, os.rmdir, os.mkdir, os.symlink, os.link}
CGROUPS = Path("/sys/fs/cgroup")
SCRIPT = "trap 'echo end; exit 7' TERM; echo begin; while :; do sleep 0.02; done"


@dataclass(slots=True)
class Killer:
    """SIGKILL to this process at the point of that number, once armed."""

    left: int
    armed: bool = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if not self.armed:
            return
        changes = event == "c_call" and argument in CHANGES and frame.f_code.co_filename.startswith(ENGINE)
        if changes or (event == "call" and frame.f_code is STEP):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def request(*argv: str) -> CreateRequest:
    return CreateRequest(Config(image="tiny", cmd=argv), HostConfig(network_mode="bridge"), NetworkingConfig())


def make_image(engine: Engine) -> None:
    diff_id = "sha256:" + "1" * 64
    (chain,) = chain_ids([diff_id])
    with engine.snapshots.unpacking(chain, None) as folder:
        make_root(folder)
    config = ImageConfig("amd64", "linux", RootFS((diff_id,)))
    engine.images.create(config, [LayerRecord(diff_id)], [Reference.parse("tiny")])


async def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.005)
    return True


def said(engine: Engine, container: Container) -> str:
    path = engine.containers.log_path(container)
    return read_log(path)[0] if path.exists() else ""


async def prepared(engine: Engine, verb: str) -> None:
    """`it` as it is before the verb."""
    if verb == "create":
        return
    argv = ("sh", "-c", "exit 7") if verb == "remove" else ("sh", "-c", SCRIPT)
    it, _ = await engine.containers.create(request(*argv), "it")
    if verb == "start":
        return
    await engine.containers.start("it")
    if verb == "remove":
        await engine.containers.wait("it")
    else:
        await until(lambda: said(engine, it) == "begin\n")


async def done(engine: Engine, verb: str) -> None:
    """The verb."""
    match verb:
        case "create":
            await engine.containers.create(request("sh", "-c", SCRIPT), "it")
        case "start":
            await engine.containers.start("it")
        case "stop":
            await engine.containers.stop("it")
        case "remove":
            await engine.containers.remove("it")
            await engine.containers.cleared()


async def turn(root: Path, verb: str, killer: Killer) -> None:
    """Look at what the last daemon left, then die like it."""
    async with Engine.open(Paths.of(root), 0) as engine:
        for line in await found_wrong(engine, verb):
            print(f"{verb}, killed before point {killer.left}: {line}", flush=True)
        await prepared(engine, verb)
        killer.armed = True
        await done(engine, verb)
        killer.armed = False


async def found_wrong(engine: Engine, verb: str) -> list[str]:
    """What is not as it should be after the last daemon's death; `it` is gone afterwards."""
    wrong: list[str] = []
    with contextlib.suppress(NotFound):
        wrong += await examined(engine, verb, engine.containers.get("it"))
        await engine.containers.remove("it", force=True)
    await engine.containers.cleared()
    other = engine.containers.get("other")
    if not (other.state.status is Status.RUNNING and alive(other.state.pid)):
        wrong.append(f"the other container is {other.state.status}")
    if said(engine, other) != "begin\n":
        wrong.append(f"the other container said {said(engine, other)!r}")
    for folder in (engine.paths.containers, engine.paths.layers / "active"):
        wrong += [f"{folder}/{name}" for name in os.listdir(folder) if name != other.id]
    group = f"glassdock-{engine.paths.tag}"
    for parent in itertools.chain(CGROUPS.glob(group), CGROUPS.glob(f"*/{group}")):
        names = [path.name for path in parent.iterdir() if path.is_dir()]
        wrong += [f"{parent}/{name}" for name in names if name != other.id and not name.startswith("ready-")]
    return wrong


async def examined(engine: Engine, verb: str, it: Container) -> list[str]:
    status, wrong = it.state.status, []
    possible = {
        "create": {Status.CREATED},
        "start": {Status.CREATED, Status.EXITED, Status.RUNNING},
        "stop": {Status.RUNNING, Status.EXITED},
        "remove": {Status.EXITED},
    }
    if status not in possible[verb]:
        wrong.append(f"it is {status}")
    if status is Status.EXITED and verb in ("stop", "remove") and it.state.exit_code != 7:
        wrong.append(f"its exit code is {it.state.exit_code}")
    if status is Status.RUNNING and not (alive(it.state.pid) and it.endpoints and it.state.started_at):
        wrong.append(f"it runs and does not: {it.state}, {it.endpoints}")
    if verb == "remove":
        return wrong
    before, lives = said(engine, it).count("end"), said(engine, it).count("begin")
    if status is not Status.RUNNING:
        lives += 1
        await engine.containers.start("it")
    if not await until(lambda: said(engine, it).count("begin") >= max(lives, 1)):
        wrong.append(f"it does not begin: {said(engine, it)!r}")
    await engine.containers.stop("it")
    if it.state.exit_code != 7 or said(engine, it).count("end") != before + 1:
        wrong.append(f"stopped it says {said(engine, it)!r}, code {it.state.exit_code}")
    return wrong


def child(work: Callable[[], None]) -> int:
    """Do it in a process of its own; its wait status."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - the exit code tells it, this says why
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitpid(pid, 0)[1]


async def first(root: Path) -> None:
    async with Engine.open(Paths.of(root), 0) as engine:
        make_image(engine)
        other, _ = await engine.containers.create(request("sh", "-c", SCRIPT), "other")
        await engine.containers.start("other")
        await until(lambda: said(engine, other) == "begin\n")


async def last(root: Path, verb: str) -> None:
    """Everything ends, and the other container's end is right after all those daemons."""
    async with Engine.open(Paths.of(root), 0) as engine:
        for line in await found_wrong(engine, verb):
            print(f"{verb}, at the end: {line}")
        other = engine.containers.get("other")
        await engine.containers.stop("other")
        if other.state.exit_code != 7 or said(engine, other) != "begin\nend\n":
            print(f"the other container: {other.state.exit_code}, {said(engine, other)!r}")
        await engine.containers.remove("other")


def main(root: Path, verb: str) -> None:
    """Kill a daemon at every point of the verb."""

    def dies(point: int) -> None:
        killer = Killer(point)
        threading.setprofile(killer)
        sys.setprofile(killer)
        asyncio.run(turn(root, verb, killer))

    assert child(lambda: asyncio.run(first(root))) == 0
    point = 1
    while os.WIFSIGNALED(status := child(partial(dies, point))):
        point += 1
    if status != 0:
        print(f"{verb}, killed before point {point}: the next daemon failed")
    assert child(lambda: asyncio.run(last(root, verb))) == 0
    print("points", point - 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
