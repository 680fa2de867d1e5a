"""`docker exec` by the official client and by the SDK, and the events and records of execs."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]
REFUSED = "OCI runtime exec failed: exec failed: unable to start container process: "


@pytest.fixture
def name(container: Callable[..., str]) -> str:
    """A container that sleeps."""
    return container("-d", "-e", "FROM=run", "-w", "/tmp", "busybox", "sleep", "600")


def test_output_errors_and_code(ready: Daemon, name: str) -> None:
    done = ready.docker("exec", name, "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


def test_environment_folder_and_user(ready: Daemon, name: str) -> None:
    script = "echo $FROM $COLOUR; pwd; id -u; hostname"
    lines = ready.docker("exec", "-e", "COLOUR=green", "-u", "1000", name, "sh", "-c", script).stdout.split("\n")
    assert lines[:3] == ["run green", "/tmp", "1000"]
    assert ready.docker("exec", name, "hostname").stdout.strip() == lines[3]
    assert ready.docker("exec", "-w", "/etc", name, "pwd").stdout == "/etc\n"


def test_stdin_and_its_end(ready: Daemon, name: str) -> None:
    text = "".join(f"{number:07}\n" for number in range(50_000))
    assert ready.docker("exec", "-i", name, "cat", input=text).stdout == text
    assert ready.docker("exec", name, "cat", input="never read").stdout == ""


def test_a_terminal(ready: Daemon, name: str) -> None:
    ours, theirs = pty.openpty()
    try:
        command = ["docker", "exec", "-it", name, "sh", "-c", "tty; echo $TERM; exit 4"]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=ready.env) as client:
            os.close(theirs)
            assert client.wait(20) == 4
            said = os.read(ours, 4096)
        assert said.split() == [b"/dev/pts/0", b"xterm"]
    finally:
        os.close(ours)


def test_detached(ready: Daemon, name: str) -> None:
    assert ready.docker("exec", "-d", name, "sh", "-c", "echo $$ >/tmp/pid; sleep 60").stdout == ""
    deadline = time.monotonic() + 10
    while not (pid := ready.docker("exec", name, "sh", "-c", "cat /tmp/pid 2>/dev/null; true").stdout.strip()):
        assert time.monotonic() < deadline
    inspected = ready.get(f"/containers/{name}/json")[1]
    (identity,) = inspected["ExecIDs"]
    shown = ready.get(f"/exec/{identity}/json")[1]
    assert (shown["Running"], shown["ExitCode"], shown["ContainerID"]) == (True, None, inspected["Id"])
    assert shown["ProcessConfig"]["arguments"] == ["-c", "echo $$ >/tmp/pid; sleep 60"]
    assert f"\t{pid}\n" in Path(f"/proc/{shown['Pid']}/status").read_text()
    status, answer = ready.post(f"/exec/{identity}/start", {})
    assert (status, answer["message"]) == (409, f"Error: Exec command {identity} is already running")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (("nosuch",), 127, 'exec: "nosuch": executable file not found in $PATH'),
        (("/etc",), 126, 'exec: "/etc": is a directory: permission denied'),
        (("/no/such",), 127, 'exec: "/no/such": stat /no/such: no such file or directory'),
    ],
)
def test_a_program_that_cannot_run(ready: Daemon, name: str, command: tuple[str, ...], code: int, message: str) -> None:
    done = ready.docker("exec", name, *command, check=False)
    assert (done.returncode, done.stdout.strip()) == (code, REFUSED + message)
    made = ready.post(f"/containers/{name}/exec", {"Cmd": command})[1]["Id"]
    status, answer = ready.post(f"/exec/{made}/start", {"Detach": True})
    assert (status, answer["message"]) == (400, REFUSED + message)
    assert ready.get(f"/exec/{made}/json")[1]["ExitCode"] == code


def test_a_container_that_does_not_run(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("busybox", "true")
    identity = ready.get(f"/containers/{name}/json")[1]["Id"]
    status, answer = ready.post(f"/containers/{name}/exec", {"Cmd": ["true"]})
    assert (status, answer["message"]) == (409, f"container {identity} is not running")
    done = ready.docker("exec", name, "true", check=False)
    assert done.returncode == 1
    assert f"container {identity} is not running" in done.stderr
    assert ready.get("/exec/nosuch/json") == (404, {"message": "No such exec instance: nosuch", "kind": "NotFound"})
    assert ready.post(f"/containers/{name}/exec", {})[0] == 409


def test_the_sdk(ready: Daemon, name: str) -> None:
    found = ready.sdk.containers.get(name)
    for number in range(20):
        assert found.exec_run(["sh", "-c", f"echo {number}; exit {number}"]) == (number, b"%d\n" % number)
    assert found.exec_run("sh -c 'echo a; echo b >&2'", demux=True) == (0, (b"a\n", b"b\n"))
    code, text = found.exec_run("nosuch")
    assert code == 127
    assert b"executable file not found" in text
    assert found.exec_run("id -u", user="7:8", privileged=True).output == b"7\n"


def test_events(ready: Daemon, name: str) -> None:
    began = time.time()
    ready.docker("exec", name, "sh", "-c", "exit 5", check=False)
    form = "{{.Action}} {{.Actor.Attributes.exitCode}}"
    lines = ready.docker(
        *("events", "--since", f"{began:.6f}", "--until", f"{time.time() + 1:.6f}"), "--format", form
    ).stdout.splitlines()
    told = [line.replace("<no value>", "").strip() for line in lines if line.startswith("exec_")]
    assert told == ["exec_create: sh -c exit 5", "exec_start: sh -c exit 5", "exec_die 5"]


def test_it_goes_on_after_the_daemon_is_killed(ready: Daemon, name: str) -> None:
    ready.docker("exec", "-d", name, "sh", "-c", "sleep 1; echo survived >/tmp/told")
    ready.kill()
    ready.start()
    assert ready.docker("exec", name, "sh", "-c", "sleep 2; cat /tmp/told").stdout == "survived\n"
    assert ready.docker("exec", name, "sh", "-c", "exit 6", check=False).returncode == 6
