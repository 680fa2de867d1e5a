"""A daemon that kills itself at a step of its own choice, and the next one that looks at what is left.

Interface: `python -m tests.containers.crashing ROOT VERB...`: kills a daemon at every step of the verbs, one after the
other; prints `points VERB N` and one line for everything that the next daemon found wrong.

Rules: what a point is says killer.py; the verbs are scenarios.py's. A container called `other` runs all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from glassdock.containers.model import Status
from glassdock.engine import Engine
from glassdock.images.model import LayerRecord, chain_ids
from glassdock.oci.image import ImageConfig, RootFS
from glassdock.oci.reference import Reference
from glassdock.paths import Paths
from tests.containers.killer import Killer
from tests.containers.left import left
from tests.containers.scenarios import SCENARIOS, SCRIPT, request, said, until
from tests.runtime.lab import alive, make_root


def make_image(engine: Engine) -> None:
    diff_id = "sha256:" + "1" * 64
    (chain,) = chain_ids([diff_id])
    with engine.snapshots.unpacking(chain, None) as folder:
        make_root(folder)
    config = ImageConfig("amd64", "linux", RootFS((diff_id,)))
    engine.images.create(config, [LayerRecord(diff_id)], [Reference.parse("tiny")])


async def turn(root: Path, verb: str, killer: Killer) -> None:
    """Look at what the last daemon left, then die like it."""
    point = killer.left
    async with Engine.open(Paths.of(root), 0) as engine:
        for line in await found_wrong(engine, verb):
            print(f"{verb}, killed at point {point - 1}: {line}", flush=True)
        await SCENARIOS[verb].prepare(engine)
        killer.armed = True
        await SCENARIOS[verb].act(engine)
        killer.armed = False


async def found_wrong(engine: Engine, verb: str) -> list[str]:
    """What is not as it should be after the last daemon's death; `it` is gone afterwards."""
    wrong: list[str] = []
    for it in [found for found in engine.containers.all() if found.name != "other"]:
        wrong += await SCENARIOS[verb].examine(engine, it)
        if it in engine.containers.all():
            await engine.containers.remove(it.id, force=True)
    await engine.containers.cleared()
    other = engine.containers.get("other")
    if not (other.state.status is Status.RUNNING and alive(other.state.pid)):
        wrong.append(f"the other container is {other.state.status}")
    if said(engine, other) != "begin\n":
        wrong.append(f"the other container said {said(engine, other)!r}")
    return wrong + await left(engine, other)


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
        await engine.containers.cleared()


def kill_at_every_point(root: Path, verb: str) -> None:
    def dies(point: int) -> None:
        killer = Killer(point)
        threading.setprofile(killer)
        sys.setprofile(killer)
        asyncio.run(turn(root, verb, killer))

    point = 1
    while os.WIFSIGNALED(status := child(partial(dies, point))):
        point += 1
    if status != 0:
        print(f"{verb}: the daemon after the one that was killed at point {point - 1} failed")
    print("points", verb, point - 1, flush=True)


def main(root: Path, verbs: list[str]) -> None:
    assert child(lambda: asyncio.run(first(root))) == 0
    for verb in verbs:
        kill_at_every_point(root, verb)
    assert child(lambda: asyncio.run(last(root, verbs[-1]))) == 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(Path(sys.argv[1]), sys.argv[2:])
