"""The way out of an ordinary user's network: pasta and slirp4netns at work, from a container to the machine."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glassdock.linux import ids
from glassdock.network import wayout
from glassdock.network.manager import Manager
from glassdock.network.model import Endpoint, Joining
from glassdock.paths import Paths
from tests.network.inside import inside, interfaces

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(ids.initial(), reason="root's containers go out through the machine's own network"),
    pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="needs /dev/net/tun"),
]
A, B = "a" * 64, "b" * 64
PROGRAMS = dict(wayout._PROGRAMS)
Hello = Callable[[Endpoint], bytes]


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in PROGRAMS])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the programs, as the only one that is known."""
    monkeypatch.setattr(wayout, "_PROGRAMS", ((request.param, PROGRAMS[request.param]),))
    return str(request.param)


@pytest.fixture
def hello() -> Iterator[Hello]:
    """Call a server on the machine's outward address from a container, over TCP and UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("203.0.113.1", 9))
        except OSError:
            pytest.skip("this machine has no way out itself")
        outward = asking.getsockname()[0]
    with socket.create_server((outward, 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((outward, 0))
        tcp.settimeout(10)
        udp.settimeout(10)

        def answer() -> None:
            accepted, _ = tcp.accept()
            with accepted:
                accepted.sendall(b"hello ")
            _, sender = udp.recvfrom(10)
            udp.sendto(b"you", sender)

        def ask() -> bytes:
            with socket.create_connection(tcp.getsockname(), 5) as connection:
                got = connection.recv(10)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
                connection.settimeout(5)
                connection.sendto(b"?", udp.getsockname())
                return got + connection.recv(10)

        def call(endpoint: Endpoint) -> bytes:
            answering = threading.Thread(target=answer)
            answering.start()
            try:
                return inside(endpoint.netns_fd, ask)
            finally:
                answering.join()

        yield call


def processes(paths: Paths) -> list[str]:
    """The command lines of keeper and program."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(paths.networks) in words and b"-c\0" not in words:
            found.append(words.replace(b"\0", b" ").decode())
    return found


async def gone(paths: Paths) -> bool:
    for _ in range(500):
        if not processes(paths):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_it_opens_with_the_first_container_and_goes_with_the_engine(
    paths: Paths, program: str, hello: Hello
) -> None:
    manager = Manager(paths)
    await manager.start()
    assert processes(paths) == []
    await manager.attach(B, Joining("none"))
    assert processes(paths) == []
    one = await manager.attach(A)
    assert manager.warnings() == []
    assert any(f"/{program} " in words for words in processes(paths))
    assert await asyncio.to_thread(hello, one) == b"hello you"
    assert one.dns.endswith(".3")
    for name in (A, B):
        await manager.detach(name)
    await manager.stop()
    assert processes(paths) == []
    assert [path.name for path in paths.networks.iterdir() if path.suffix != ".json"] == ["published"]


async def test_the_machines_loopback_is_not_on_the_way(networks: Manager, program: str) -> None:
    one = await networks.attach(A)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for last in (".2", ".3"):
            address = one.dns.rpartition(".")[0] + last
            call = functools.partial(socket.create_connection, (address, port), 0.5)
            with pytest.raises(OSError, match=r"unreachable|timed out"):
                inside(one.netns_fd, call)


KILLED = """
import asyncio, os, signal, subprocess, sys
from pathlib import Path
from glassdock.network.manager import Manager
from glassdock.paths import Paths
from tests.network.inside import inside

async def main():
    manager = Manager(Paths(Path(sys.argv[1])))
    await manager.start()
    endpoint = await manager.attach("a" * 64)
    holder = inside(endpoint.netns_fd, lambda: subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL))
    print(holder.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def killed(paths: Paths) -> int:
    """A daemon that was killed; returns the process that lives in its container."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(paths.root), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    out, _ = await child.communicate()
    assert child.returncode == -signal.SIGKILL
    return int(out)


@pytest.mark.needs("pasta")
async def test_it_survives_the_daemon_and_the_next_one_finds_it(paths: Paths, hello: Hello) -> None:
    holder = await killed(paths)
    try:
        before = processes(paths)
        assert len(before) == 2
        manager = Manager(paths)
        await manager.start([A])
        (kept,) = manager.endpoints(A)
        assert kept.interface in interfaces(paths)
        descriptor = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
        living = Endpoint(A, "", "", descriptor)
        assert await asyncio.to_thread(hello, living) == b"hello you"
        os.close(descriptor)
        assert await asyncio.to_thread(hello, await manager.attach(B)) == b"hello you"
        assert processes(paths) == before
        await manager.detach(A)
        await manager.detach(B)
        await manager.stop()
        assert processes(paths) == []
    finally:
        os.kill(holder, signal.SIGKILL)


@pytest.mark.needs("pasta")
async def test_it_goes_with_the_last_container_when_no_daemon_comes(paths: Paths) -> None:
    holder = await killed(paths)
    await asyncio.sleep(1.5)
    assert len(processes(paths)) == 2
    os.kill(holder, signal.SIGKILL)
    assert await gone(paths)
    manager = Manager(paths)
    await manager.start()
    await manager.stop()


@pytest.mark.needs("pasta")
async def test_a_program_that_died_is_started_again(networks: Manager, paths: Paths, hello: Hello) -> None:
    await networks.attach(A)
    killing = next(words for words in processes(paths) if "--foreground" in words and "keeper" not in words)
    for folder in Path("/proc").glob("[0-9]*"):
        words = (folder / "cmdline").read_bytes() if (folder / "cmdline").exists() else b""
        if words.replace(b"\0", b" ").decode() == killing:
            os.kill(int(folder.name), signal.SIGKILL)
    assert await gone(paths)
    assert await asyncio.to_thread(hello, await networks.attach(B)) == b"hello you"


async def test_without_a_program_containers_reach_each_other_and_the_remedy_is_said(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wayout, "_PROGRAMS", ())
    manager = Manager(paths)
    await manager.start()
    (warning,) = manager.warnings()
    assert "neither pasta nor slirp4netns is here" in warning
    assert "apt-get install passt" in warning
    one, two = await manager.attach(A), await manager.attach(B)
    with inside(one.netns_fd, lambda: socket.create_server(("0.0.0.0", 80))):
        inside(two.netns_fd, lambda: socket.create_connection((one.address, 80), 5)).close()
    for name in (A, B):
        await manager.detach(name)
    await manager.stop()


async def test_what_a_failing_program_says_is_passed_on(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [shutil.which("sh") or "/bin/sh", "-c", "echo no tap today >&2; exit 3"]
    monkeypatch.setattr(wayout, "_PROGRAMS", (("sh", lambda *_: failing),))
    manager = Manager(paths)
    await manager.start()
    started = time.monotonic()
    await manager.attach(A)
    assert time.monotonic() - started < 3
    assert manager.warnings() == ["there is no way out to other machines: sh says: no tap today"]
    await manager.detach(A)
    await manager.stop()
