"""Launcher, shim, a container's first process and an exec, each killed at every point of its own; the daemon lives.

Interface: `python -m tests.containers.crashing_inside ROOT KIND READY`: prints `points KIND N`, and one line for
everything that is wrong after a kill. READY is how many shims the launcher keeps in reserve.

Rules: whoever asked is told in one sentence, or has what was asked for; nothing is left, and the same container can be
started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glassdock.containers.execs import ExecConfig
from glassdock.containers.model import Container, Status
from glassdock.engine import Engine
from glassdock.errors import GlassdockError
from glassdock.paths import Paths
from tests.containers.crashing import make_image
from tests.containers.killer import Trap
from tests.containers.left import left
from tests.containers.scenarios import SCRIPT, request, run_it, said, until

PROGRAM = "echo begin; exit 7"
_KILLED = (137, 7)


@contextlib.contextmanager
def trapped(trap: Trap, ready: int) -> Iterator[None]:
    """Launchers that are started in here have the trap."""
    start = asyncio.create_subprocess_exec

    async def starts(*words: str, pass_fds: list[int], **rest: Any) -> asyncio.subprocess.Process:
        program, option, _, descriptor, parent, _, root = words
        changed = (
            program,
            option,
            "tests.containers.killer",
            str(trap.descriptor),
            descriptor,
            parent,
            str(ready),
            root,
        )
        rest["env"] = {"PYTHONPATH": str(Path(__file__).parents[2])}
        return await start(*changed, pass_fds=[*pass_fds, trap.descriptor], **rest)

    asyncio.create_subprocess_exec = starts  # type: ignore[assignment]
    try:
        yield
    finally:
        asyncio.create_subprocess_exec = start


async def lived(engine: Engine, it: Container) -> list[str]:
    """One life, in which somebody may be killed: it is refused in a sentence, or it ends with a code."""
    try:
        await engine.containers.start("it")
    except GlassdockError as error:
        if "\n" in str(error) or not 10 < len(str(error)) < 250:
            return [f"the client is told {str(error)!r}"]
        return [] if not it.state.running else [f"it was refused and is {it.state}"]
    code = await engine.containers.wait("it")
    return [] if code in _KILLED and it.state.status is Status.EXITED else [f"it ended with {code}: {it.state}"]


async def asked(engine: Engine) -> list[str]:
    """One exec, in which somebody may be killed."""
    made = engine.execs.create("it", ExecConfig(cmd=("sh", "-c", "exit 3")))
    try:
        await engine.execs.start(made.id)
    except GlassdockError as error:
        return [] if 10 < len(str(error)) < 250 else [f"the client is told {str(error)!r}"]
    if not await until(lambda: made.exit_code is not None):
        return ["the exec does not end"]
    return [] if made.exit_code in (3, 137) else [f"the exec ended with {made.exit_code}"]


async def checked(engine: Engine, other: Container, it: Container, kind: str) -> list[str]:
    """Whether all is as if nothing had been."""
    wrong = []
    if kind == "exec":
        wrong += [f"afterwards: {line}" for line in await asked(engine)]
        if it.state.status is not Status.RUNNING:
            wrong.append(f"it is {it.state}")
    else:
        lives = said(engine, it).count("begin")
        await engine.containers.start("it")
        code = await engine.containers.wait("it")
        if code != 7 or said(engine, it).count("begin") != lives + 1:
            wrong.append(f"started again it ended with {code} and has said {said(engine, it)!r}")
    await engine.containers.remove("it", force=True)
    await engine.containers.cleared()
    if other.state.status is not Status.RUNNING or said(engine, other) != "begin\n":
        wrong.append(f"the other container is {other.state}")
    return wrong + await left(engine, other)


async def points(engine: Engine, trap: Trap, kind: str) -> int:
    other, _ = await engine.containers.create(request("sh", "-c", SCRIPT), "other")
    await engine.containers.start("other")
    await until(lambda: said(engine, other) == "begin\n")
    point = 1
    while True:
        it = await run_it(engine) if kind == "exec" else None
        if it is None:
            it, _ = await engine.containers.create(request("sh", "-c", PROGRAM), "it")
        trap.set(kind, point)
        wrong = await (asked(engine) if kind == "exec" else lived(engine, it))
        await asyncio.sleep(0.02)  # the end is told first and cleared up after
        sprung = trap.sprung
        trap.clear()
        wrong += await checked(engine, other, it, kind)
        for line in wrong:
            print(f"{kind}, killed at point {point}: {line}", flush=True)
        if not sprung:
            break
        point += 1
    await engine.containers.remove("other", force=True)
    await engine.containers.cleared()
    return point - 1


async def main(root: Path, kind: str, ready: int) -> None:
    trap = Trap()
    with trapped(trap, ready):
        async with Engine.open(Paths.of(root), 0) as engine:
            make_image(engine)
            print("points", kind, await points(engine, trap, kind))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
