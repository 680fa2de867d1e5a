"""The daemon's own life: one instance, its socket, its end, its death, and what survives it.

Rules: each test has a daemon of its own, with its own state folder; whatever it leaves fails the test.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glassdock.daemon.main import serve
from glassdock.errors import Forbidden
from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


@pytest.fixture
def own(short_tmp: Path) -> Iterator[Daemon]:
    """A daemon that is not started yet; stopped at the end, with nothing left."""
    daemon = Daemon(short_tmp / "d")
    yield daemon
    if daemon.process is not None and daemon.process.poll() is None:
        assert daemon.stop() == []


@pytest.fixture
def busybox(engine: Daemon) -> Callable[[Daemon], None]:
    """`busybox(daemon)` brings the image from the session's registry: quicker than to assemble it again."""

    def bring(daemon: Daemon) -> None:
        name = f"{engine.get('/glassdock/status')[1]['registry']}/library/busybox"
        assert "Pull complete" in daemon.docker("pull", name).stdout
        daemon.docker("tag", name, "busybox")

    return bring


def test_the_socket_is_the_users_alone(own: Daemon) -> None:
    own.start()
    assert stat.S_IMODE(os.stat(own.socket).st_mode) == 0o600


def test_a_folder_that_somebody_else_made_is_refused_for_the_socket(short_tmp: Path) -> None:
    os.chown(short_tmp, 1, 1)
    os.chmod(short_tmp, 0o777)
    os.seteuid(65534)
    try:
        with pytest.raises(Forbidden, match="belongs to user 1, not to you"):
            serve(short_tmp / "engine.sock", short_tmp / "root", 0)
    finally:
        os.seteuid(0)


def test_it_starts_again_on_the_same_state(own: Daemon) -> None:
    for _ in range(2):
        own.start()
        assert own.stop() == []
        assert not os.path.exists(own.socket)


def test_an_interrupt_ends_it_in_order(own: Daemon) -> None:
    own.start()
    assert own.process is not None
    own.process.send_signal(signal.SIGINT)
    assert own.process.wait(20) == 0


def test_a_second_daemon_says_where_the_first_one_is(own: Daemon) -> None:
    own.start()
    other = own.socket.replace("e.sock", "other.sock")
    command = [other if word == own.socket else word for word in own.command()]
    for line in (own.command(), command):
        second = subprocess.run(line, env=own.env, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == 1
        assert "already runs" in second.stderr
        assert "Traceback" not in second.stderr
    assert own.get("/_ping")[0] == 200


def test_a_stale_socket_is_replaced(own: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(own.socket)
    own.start()
    assert own.get("/_ping")[0] == 200


def test_a_taken_registry_port_is_replaced_and_told(own: Daemon) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        own.arguments = ("--registry-port", str(taken.getsockname()[1]))
        own.start()
        status = own.get("/glassdock/status")[1]
    assert any("is taken" in warning for warning in status["warnings"])


def test_containers_outlive_a_daemon_that_is_killed(own: Daemon, busybox: Callable[[Daemon], None]) -> None:
    own.start()
    busybox(own)
    own.docker("run", "-d", "--name", "long", "busybox", "sh", "-c", "echo before; sleep 8; echo after; exit 6")
    own.docker("run", "-d", "--name", "short", "busybox", "sh", "-c", "sleep 0.3; echo meanwhile; exit 5")
    own.kill()
    time.sleep(0.8)  # "short" ends while nobody watches
    own.start()
    assert own.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "short").stdout == "exited 5\n"
    assert own.docker("logs", "short").stdout == "meanwhile\n"
    assert own.docker("inspect", "-f", "{{.State.Status}}", "long").stdout == "running\n"
    assert own.docker("wait", "long").stdout == "6\n"
    assert own.docker("logs", "long").stdout == "before\nafter\n"
    own.docker("rm", "long", "short")


def test_a_new_daemon_can_stop_what_the_old_one_started(own: Daemon, busybox: Callable[[Daemon], None]) -> None:
    own.start()
    busybox(own)
    own.docker("run", "-d", "--name", "orphan", "busybox", "sleep", "600")
    own.kill()
    own.start()
    own.docker("stop", "-t", "1", "orphan")
    assert own.docker("inspect", "-f", "{{.State.ExitCode}}", "orphan").stdout in ("137\n", "143\n")
    own.docker("start", "orphan")
    assert own.docker("ps", "-q").stdout
    own.docker("rm", "-f", "orphan")


def test_a_container_whose_start_was_refused_does_not_keep_the_next_daemon_from_starting(
    own: Daemon, busybox: Callable[[Daemon], None]
) -> None:
    own.start()
    busybox(own)
    assert own.docker("run", "--name", "refused", "busybox", "/no/such/program", check=False).returncode == 127
    assert own.stop() == []
    own.start()
    assert own.docker("inspect", "-f", "{{.State.Status}}", "refused").stdout == "created\n"
    own.docker("rm", "refused")


def test_a_daemon_that_died_is_told_in_a_sentence(own: Daemon) -> None:
    own.start()
    own.kill()
    done = own.docker("ps", check=False)
    assert done.returncode == 1
    assert "Cannot connect to the Docker daemon" in done.stderr
    own.start()


def _refused(daemon: Daemon) -> str:
    done = subprocess.run(daemon.command(), env=daemon.env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.needs("mount", "umount")
def test_a_read_only_state_folder_is_told(own: Daemon) -> None:
    own.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", own.root], check=True)
    try:
        assert "read-only" in _refused(own)
    finally:
        subprocess.run(["umount", own.root], check=True)


@pytest.mark.needs("mount", "umount")
def test_a_full_state_folder_is_told(own: Daemon) -> None:
    (disk := own.folder / "disk").mkdir()
    own.root = disk / "root"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", disk], check=True)
    try:
        own.start()
        with pytest.raises(AssertionError, match="no space left"):
            own.course_images()
        assert own.get("/_ping")[0] == 200
        assert own.stop() == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_state_folder_that_is_a_file_is_told(own: Daemon) -> None:
    own.root.touch()
    assert str(own.root) in _refused(own)


@pytest.mark.parametrize("words", [["ps"], ["lab"], ["daemon"], ["doctor"], ["run", "busybox"]])
def test_elsewhere_than_on_linux_every_command_is_one_sentence(words: list[str]) -> None:
    # The platform is the one thing that this machine cannot really be: the name is swapped before anything is imported.
    code = f"import sys; sys.platform = 'darwin'; from glassdock.cli.main import main; sys.exit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert all(name in done.stderr for name in ("Binder", "devcontainer", "WSL2"))
