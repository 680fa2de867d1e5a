"""A container's life by the official client: ps, logs, wait, stop, kill, restart, rm, inspect.

Rules: as in test_client_run.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]

Container = Callable[..., str]


def test_ps_shows_running_and_all(ready: Daemon, container: Container) -> None:
    running = container("-d", "busybox", "sleep", "60")
    ended = container("busybox", "sh", "-c", "exit 3")
    shown = ready.docker("ps", "--format", "{{.Names}}").stdout.split()
    assert running in shown
    assert ended not in shown
    rows = dict(
        line.split("\t") for line in ready.docker("ps", "-a", "--format", "{{.Names}}\t{{.Status}}").stdout.splitlines()
    )
    assert rows[running].startswith("Up ")
    assert rows[ended].startswith("Exited (3) ")


def test_logs_are_what_was_written_in_order(ready: Daemon, container: Container) -> None:
    name = container("busybox", "sh", "-c", "echo one; echo two; echo three")
    assert ready.docker("logs", name).stdout == "one\ntwo\nthree\n"
    assert ready.docker("logs", "--tail", "1", name).stdout == "three\n"
    stamped = ready.docker("logs", "-t", "--tail", "1", name).stdout
    assert stamped.endswith("Z three\n")


def test_logs_keep_streams_apart(ready: Daemon, container: Container) -> None:
    name = container("busybox", "sh", "-c", "echo out; echo err >&2")
    done = ready.docker("logs", name)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_logs_follow_until_the_end(ready: Daemon, container: Container) -> None:
    name = container("-d", "busybox", "sh", "-c", "echo first; sleep 0.5; echo last")
    assert ready.docker("logs", "-f", name).stdout == "first\nlast\n"


def test_wait_gives_the_exit_code(ready: Daemon, container: Container) -> None:
    name = container("-d", "busybox", "sh", "-c", "sleep 0.3; exit 7")
    assert ready.docker("wait", name).stdout == "7\n"
    assert ready.docker("wait", name).stdout == "7\n"


def test_stop_asks_first(ready: Daemon, container: Container) -> None:
    name = container("-d", "busybox", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
    time.sleep(0.2)
    assert ready.docker("stop", name).stdout.strip() == name
    assert ready.docker("wait", name).stdout == "5\n"


def test_stop_kills_what_does_not_listen(ready: Daemon, container: Container) -> None:
    name = container("-d", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    began = time.monotonic()
    ready.docker("stop", "-t", "1", name)
    assert 0.9 < time.monotonic() - began < 5
    assert ready.docker("wait", name).stdout == "137\n"


def test_kill_sends_the_signal_that_is_named(ready: Daemon, container: Container) -> None:
    name = container("-d", "busybox", "sh", "-c", "trap 'exit 11' USR1; while :; do sleep 0.05; done")
    time.sleep(0.2)
    ready.docker("kill", "-s", "USR1", name)
    assert ready.docker("wait", name).stdout == "11\n"
    refused = ready.docker("kill", name, check=False)
    assert refused.returncode == 1
    assert "is not running" in refused.stderr


def test_kill_without_a_name_is_9(ready: Daemon, container: Container) -> None:
    name = container("-d", "busybox", "sleep", "60")
    ready.docker("kill", name)
    assert ready.docker("wait", name).stdout == "137\n"


def test_a_running_container_is_removed_only_by_force(ready: Daemon, container: Container) -> None:
    name = container("-d", "busybox", "sleep", "60")
    refused = ready.docker("rm", name, check=False)
    assert refused.returncode == 1
    assert "container is running" in refused.stderr
    assert ready.docker("rm", "-f", name).stdout.strip() == name
    assert ready.docker("inspect", name, check=False).returncode == 1


def test_starting_again_runs_it_again(ready: Daemon, container: Container) -> None:
    name = container("busybox", "sh", "-c", "echo again")
    ready.docker("start", name)
    ready.docker("wait", name)
    assert ready.docker("logs", name).stdout == "again\nagain\n"


def test_inspect_tells_how_it_was_made_and_how_it_is(ready: Daemon, container: Container) -> None:
    name = container("-d", "-e", "A=1", "--label", "who=me", "-w", "/tmp", "busybox", "sleep", "60")
    (found,) = json.loads(ready.docker("inspect", name).stdout)
    assert found["Name"] == f"/{name}"
    assert found["State"]["Running"] is True
    assert found["State"]["Pid"] > 0
    assert found["Config"]["Cmd"] == ["sleep", "60"]
    assert "A=1" in found["Config"]["Env"]
    assert found["Config"]["Labels"]["who"] == "me"
    assert found["Config"]["WorkingDir"] == "/tmp"
    assert found["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert ready.docker("inspect", "-f", "{{.State.Pid}}", name).stdout.strip() == str(found["State"]["Pid"])


def test_inspect_of_nothing_says_so(ready: Daemon) -> None:
    done = ready.docker("inspect", "nothing-of-that-name", check=False)
    assert done.returncode == 1
    assert "No such object: nothing-of-that-name" in done.stderr


def test_a_published_port_answers(ready: Daemon, container: Container) -> None:
    import urllib.request

    serve = "mkdir -p /www && echo served > /www/index.html && exec httpd -f -p 80 -h /www"
    name = container("-d", "-p", "127.0.0.1::80", "busybox", "sh", "-c", serve)
    address = ready.docker("port", name, "80").stdout.split()[0]
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
                assert answer.read() == b"served\n"
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
