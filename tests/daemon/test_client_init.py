"""`--init` by the official client: orphans are reaped, signals arrive, codes go through, and nothing of us is open."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def test_codes_and_signals_of_the_program_are_the_containers(ready: Daemon, container: Callable[..., str]) -> None:
    for script, code in (("exit 7", 7), ("kill -USR1 $$", 138), ("kill -9 $$", 137)):
        name = container("--init", "busybox", "sh", "-c", script)
        assert ready.get(f"/containers/{name}/json")[1]["State"]["ExitCode"] == code
    missing = ready.docker("run", "--rm", "--init", "busybox", "nosuch", check=False)
    assert missing.returncode == 127 and "executable file not found in $PATH" in missing.stderr


def test_it_is_process_1_and_reaps(ready: Daemon, container: Callable[..., str]) -> None:
    script = "sh -c 'sleep 0.2 & exec sleep 0.1' & wait; sleep 0.5; ps -o pid,stat,comm; exec sleep 60"
    name = container("-d", "--init", "busybox", "sh", "-c", script)
    deadline = time.monotonic() + 10
    while "glassdock-init" not in (shown := ready.docker("logs", name).stdout):
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)
    assert " Z" not in shown
    assert shown.split("\n")[1].split()[0::2] == ["1", "glassdock-init"]
    assert "glassdock-init -- sh -c" in ready.docker("top", name).stdout


def test_a_program_that_handles_nothing_ends_with_the_stop_signal(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "--init", "busybox", "sleep", "60")
    begun = time.monotonic()
    ready.docker("stop", "-t", "20", name)
    assert time.monotonic() - begun < 10
    assert ready.get(f"/containers/{name}/json")[1]["State"]["ExitCode"] == 143


def test_nothing_of_the_engine_can_be_reached_through_process_1(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "--init", "busybox", "sleep", "60")
    for path in ("exe", "root", "cwd", "fd/0"):
        tried = ready.docker("exec", name, "ls", "-l", f"/proc/1/{path}/", check=False)
        assert tried.returncode != 0, tried.stdout
    assert "glassdock.runtime" not in ready.docker("exec", name, "cat", "/proc/1/cmdline").stdout
    assert ready.docker("exec", "--privileged", name, "sh", "-c", "echo >>/proc/1/exe", check=False).returncode != 0


def test_with_a_terminal_the_program_is_in_the_foreground(ready: Daemon) -> None:
    ours, theirs = pty.openpty()
    try:
        command = [
            "docker",
            "run",
            "--rm",
            "-it",
            "--init",
            "busybox",
            "sh",
            "-c",
            "trap 'exit 9' INT; echo up; sleep 60",
        ]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=ready.env) as client:
            os.close(theirs)
            said = b""
            while b"up" not in said:
                said += os.read(ours, 4096)
            os.write(ours, b"\x03")
            assert client.wait(20) == 9
    finally:
        os.close(ours)


def test_with_a_user_and_without_a_pid_namespace_of_its_own(ready: Daemon, container: Callable[..., str]) -> None:
    for words in (("-u", "1234"), ("--pid", "host")):
        name = container("-d", "--init", *words, "busybox", "sleep", "60")
        ready.docker("stop", "-t", "20", name)
        assert ready.get(f"/containers/{name}/json")[1]["State"]["ExitCode"] == 143
