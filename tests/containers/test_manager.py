"""The verbs of a container, on a real engine in this process: what is left, what is told, what is refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glassdock.containers.config import Config, CreateRequest, HostConfig, NetworkingConfig
from glassdock.containers.manager import Manager
from glassdock.containers.model import Container, Status
from glassdock.containers.streams import Streams
from glassdock.engine import Engine
from glassdock.errors import CommandNotFound, Conflict, InvalidParameter, NotFound, NotModified
from glassdock.images.pull import pull
from glassdock.oci.reference import Reference
from glassdock.paths import Paths
from tests.support.leaks import Session

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("busybox")]


@pytest.fixture(scope="module")
def stocked(session: Session) -> Iterator[Path]:
    """A course registry with the course's images, made once: assembling takes seconds."""

    async def assemble(paths: Paths) -> None:
        async with Engine.open(paths, 0) as engine:
            await engine.assemble_course_images(lambda _: None)

    with tempfile.TemporaryDirectory(dir=session.folder) as folder:
        paths = Paths.of(Path(folder))
        asyncio.run(assemble(paths))
        yield paths.registry


@pytest.fixture
async def opened(short_tmp: Path, stocked: Path) -> AsyncIterator[Engine]:
    paths = Paths.of(short_tmp / "e")
    shutil.copytree(stocked, paths.registry, copy_function=os.link)
    async with Engine.open(paths, 0) as engine:
        await pull(engine.images, engine.registry, Reference.parse("busybox"), progress=lambda _: None)
        yield engine
        for container in engine.containers.all():
            await engine.containers.remove(container.id, force=True)


def request(*argv: str, network: str = "none", **host: Any) -> CreateRequest:
    made = msgspec.structs.replace(HostConfig(network_mode=network), **host)
    return CreateRequest(Config(image="busybox", cmd=argv), made, NetworkingConfig())


async def made(opened: Engine, *argv: str, name: str = "", **host: Any) -> Container:
    container, _ = await opened.containers.create(request(*argv, **host), name)
    return container


async def test_the_life_of_a_container_is_told_by_its_state(opened: Engine) -> None:
    container = await made(opened, "sh", "-c", "exit 7")
    assert container.state.status is Status.CREATED
    await opened.containers.start(container.id)
    assert await opened.containers.wait(container.id) == 7
    assert opened.containers.get(container.id).state.status is Status.EXITED
    await opened.containers.remove(container.id)
    with pytest.raises(NotFound):
        opened.containers.get(container.id)


async def test_removing_leaves_no_file(opened: Engine) -> None:
    container = await made(opened, "true")
    await opened.containers.start(container.id)
    await opened.containers.wait(container.id)
    await opened.containers.remove(container.id)
    await opened.containers.cleared()
    assert list(opened.paths.containers.iterdir()) == []
    assert not opened.snapshots.upper(container.id).exists()


async def test_a_failed_start_can_be_tried_again_and_holds_nothing(opened: Engine) -> None:
    container = await made(opened, "nosuch")
    with pytest.raises(CommandNotFound, match=r'exec: "nosuch": executable file not found in \$PATH'):
        await opened.containers.start(container.id)
    assert container.state.status is Status.CREATED
    assert container.state.exit_code == 127
    with pytest.raises(CommandNotFound):
        await opened.containers.start(container.id)
    assert not (opened.containers.folder(container) / "run" / "shim.sock").exists()


async def test_an_attached_client_sees_all_output_even_of_a_short_life(opened: Engine) -> None:
    container = await made(opened, "sh", "-c", "echo out; echo err >&2")
    descriptor = await opened.containers.attach(container.id, Streams(stdout=True, stderr=True))
    await opened.containers.start(container.id)
    with os.fdopen(descriptor, "rb") as stream:
        data = await asyncio.to_thread(stream.read)
    assert b"out\n" in data
    assert b"err\n" in data


async def test_a_second_start_says_that_it_runs_already(opened: Engine) -> None:
    container = await made(opened, "sleep", "60")
    await opened.containers.start(container.id)
    with pytest.raises(NotModified):
        await opened.containers.start(container.id)
    await opened.containers.kill(container.id)
    assert container.state.exit_code == 128 + signal.SIGKILL


async def test_stop_asks_before_it_kills(opened: Engine) -> None:
    polite = await made(opened, "sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.05; done")
    deaf = await made(opened, "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    for container in (polite, deaf):
        await opened.containers.start(container.id)
    await asyncio.sleep(0.3)  # the shell has to reach its trap
    await opened.containers.stop(polite.id)
    await opened.containers.stop(deaf.id, grace=0.2)
    assert polite.state.exit_code == 4
    assert deaf.state.exit_code == 128 + signal.SIGKILL


async def test_a_running_container_is_removed_only_by_force(opened: Engine) -> None:
    container = await made(opened, "sleep", "60", name="web")
    await opened.containers.start(container.id)
    with pytest.raises(Conflict, match=r'cannot remove container "/web": container is running'):
        await opened.containers.remove("web")
    await opened.containers.remove("web", force=True)


async def test_auto_remove_takes_the_container_away_and_tells_who_waits(opened: Engine) -> None:
    container = await made(opened, "sh", "-c", "exit 3", auto_remove=True)
    waiting = asyncio.create_task(opened.containers.wait(container.id, "removed"))
    await asyncio.sleep(0)
    await opened.containers.start(container.id)
    assert await asyncio.wait_for(waiting, 10) == 3
    with pytest.raises(NotFound):
        opened.containers.get(container.id)


async def test_a_name_is_taken_once(opened: Engine) -> None:
    await made(opened, "true", name="web")
    with pytest.raises(Conflict, match='The container name "/web" is already in use'):
        await made(opened, "true", name="web")
    with pytest.raises(InvalidParameter, match="Invalid container name"):
        await made(opened, "true", name="not/a/name")


async def test_a_dead_daemons_containers_are_found_again(opened: Engine, short_tmp: Path) -> None:
    """The second half of a crash: records and shims are there, the daemon that knew them is not."""
    running = await made(opened, "sleep", "60", name="running")
    await opened.containers.start(running.id)
    pid = running.state.pid
    await opened.containers.close()  # what SIGKILL does to a daemon's knowledge
    again = await reopened(opened)
    found = again.containers.get("running")
    assert found.state.status is Status.RUNNING
    assert found.state.pid == pid
    await again.containers.kill("running")
    assert found.state.exit_code == 137
    await again.containers.close()


async def reopened(opened: Engine) -> Engine:
    """The same engine with the memory of its containers lost."""
    opened.containers = Manager(opened.containers._parts)
    opened.containers.load()
    await opened.containers.repair()
    return opened


async def test_events_tell_a_life_in_dockers_words(opened: Engine) -> None:
    container = await made(opened, "true")
    await opened.containers.start(container.id)
    await opened.containers.wait(container.id)
    await opened.containers.remove(container.id)
    actions = [event.action for event in opened.events.recent if event.actor == container.id]
    assert actions == ["create", "start", "die", "destroy"]
