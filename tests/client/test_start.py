"""The daemon on demand: started, found, replaced, and told about when it cannot start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassdock import errors
from glassdock.client import connect, start, wire

pytestmark = pytest.mark.needs_root


def pids(socket_path: Path) -> list[int]:
    """The daemons on this socket."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"daemon" in command and os.fsencode(socket_path) in command:
            found.append(int(folder.name))
    return found


def end(socket_path: Path, number: int = signal.SIGTERM) -> None:
    """Send a signal to the daemons on this socket and wait until they are gone."""
    for pid in pids(socket_path):
        os.kill(pid, number)
    deadline = time.monotonic() + 20
    while pids(socket_path):
        assert time.monotonic() < deadline, "the daemon does not end"
        time.sleep(0.02)


@pytest.fixture
def place(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An engine's socket and root of its own; whatever was started there ends."""
    path = short_tmp / "e.sock"
    monkeypatch.setenv("GLASSDOCK_HOST", str(path))
    monkeypatch.setenv("GLASSDOCK_ROOT", str(short_tmp / "root"))
    monkeypatch.setenv("GLASSDOCK_REGISTRY_PORT", "0")
    yield path
    end(path)


def test_the_first_client_starts_an_engine_in_a_session_of_its_own(place: Path) -> None:
    client = connect()
    try:
        assert client.version()["Platform"]["Name"] == "Glassdock Engine"
    finally:
        client.close()
    (daemon,) = pids(place)
    assert os.getsid(daemon) != os.getsid(0)
    assert start.log_path(place).exists()


def test_the_second_client_finds_it(place: Path) -> None:
    connect().close()
    before = pids(place)
    connect().close()
    assert pids(place) == before


def test_clients_that_start_at_once_start_one(place: Path) -> None:
    program = "from glassdock.client import connect; connect().close()"
    clients = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [client.wait(60) for client in clients] == [0, 0, 0]
    assert len(pids(place)) == 1


def test_after_a_crash_the_stale_socket_is_replaced(place: Path) -> None:
    connect().close()
    end(place, signal.SIGKILL)
    assert place.exists()
    assert wire.ping(place) is False
    connect().close()
    assert wire.ping(place) is True


def test_a_socket_that_nobody_left_a_daemon_behind_is_replaced(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place))
    connect().close()
    assert wire.ping(place) is True


def test_an_engine_that_cannot_start_says_why(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSDOCK_ROOT", "/proc/nowhere")
    with pytest.raises(errors.Unavailable, match="the engine did not start") as caught:
        connect()
    assert "/proc/nowhere" in caught.value.message
    assert "Traceback" not in caught.value.message
    assert caught.value.remedy
