"""`glassdock` as docker, against a real engine: output, exit codes, signals, terminals."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = pytest.mark.needs_root

Glassdock = Callable[..., "subprocess.CompletedProcess[str]"]
COMMAND = (sys.executable, "-m", "glassdock")


@pytest.fixture
def glassdock(engine: Daemon) -> Glassdock:
    """The command line on the session's engine, busybox pulled."""
    engine.docker("pull", "-q", "busybox")

    def run(*words: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words],
            input=stdin,
            capture_output=True,
            text=True,
            env=engine.env,
            timeout=60,
            check=False,
            cwd=cwd,
        )

    return run


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (["no-such-program"], 127),
        (["/etc"], 126),
    ],
)
def test_the_exit_code_is_the_containers_or_dockers(glassdock: Glassdock, words: list[str], code: int) -> None:
    assert glassdock("run", "--rm", "busybox", *words).returncode == code


@pytest.mark.parametrize(
    "words",
    [
        ["run", "no-such-image"],
        ["run", "--memory", "1k", "busybox"],
        ["run", "--network", "no-such-network", "busybox"],
    ],
)
def test_what_the_engine_refuses_is_125_and_a_sentence(glassdock: Glassdock, words: list[str], engine: Daemon) -> None:
    before = engine.containers()
    done = glassdock(words[0], "--rm", *words[1:])
    assert done.returncode == 125
    assert "glassdock: " in done.stderr
    assert "Traceback" not in done.stderr
    assert engine.containers() == before


def test_both_streams_come_apart_and_stdin_goes_in(glassdock: Glassdock) -> None:
    done = glassdock("run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo oops >&2", stdin="line\n")
    assert (done.stdout, done.stderr, done.returncode) == ("line\n", "oops\n", 0)


def test_a_megabyte_goes_through_whole(glassdock: Glassdock) -> None:
    text = "0123456789abcde\n" * 65536
    assert glassdock("run", "-i", "--rm", "busybox", "cat", stdin=text).stdout == text


def test_a_life_of_a_container_by_its_verbs(glassdock: Glassdock) -> None:
    started = glassdock("run", "-d", "--name", "life", "busybox", "sh", "-c", "echo alive; exec sleep 100")
    try:
        assert len(started.stdout.strip()) == 64
        assert "life" in glassdock("ps").stdout
        assert glassdock("logs", "life").stdout == "alive\n"
        assert glassdock("inspect", "-f", "{{.State.Status}} {{.Name}}", "life").stdout == "running /life\n"
        assert json.loads(glassdock("container", "inspect", "life").stdout)[0]["State"]["Running"] is True
        taken = glassdock("run", "--name", "life", "busybox")
        assert taken.returncode == 125
        assert "already in use" in taken.stderr
        assert glassdock("stop", "-t", "0", "life").stdout == "life\n"
        assert glassdock("wait", "life").stdout == "137\n"
        assert glassdock("ps", "-a", "--format", "{{.Names}}: {{.Status}}").stdout.startswith("life: Exited (137)")
        replaced = glassdock("run", "--replace", "--name", "life", "busybox", "echo", "again")
        assert replaced.stdout == "again\n"
        assert glassdock("start", "-a", "life").stdout == "again\n"
    finally:
        assert glassdock("rm", "-f", "life").stdout == "life\n"
    gone = glassdock("rm", "life")
    assert gone.returncode == 1
    assert "No such container: life" in gone.stderr
    assert glassdock("rm", "-f", "life").returncode == 0


def test_several_names_go_on_after_one_that_is_missing(glassdock: Glassdock) -> None:
    glassdock("create", "--name", "second", "busybox")
    done = glassdock("rm", "missing", "second")
    assert done.returncode == 1
    assert "missing" in done.stderr
    assert "second" not in glassdock("ps", "-a").stdout


def test_logs_are_followed_to_the_end(glassdock: Glassdock) -> None:
    glassdock("run", "-d", "--name", "talks", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")
    try:
        assert glassdock("logs", "-f", "talks").stdout == "1\n2\n3\n"
        assert glassdock("logs", "-n", "1", "talks").stdout == "3\n"
    finally:
        glassdock("rm", "-f", "talks")


def test_a_signal_is_passed_on_to_the_container(glassdock: Glassdock, engine: Daemon) -> None:
    script = 'trap "echo got it; exit 9" INT; echo ready; while :; do sleep 0.1; done'
    command = [*COMMAND, "run", "--rm", "busybox", "sh", "-c", script]
    with subprocess.Popen(command, env=engine.env, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        client.send_signal(signal.SIGINT)
        assert client.stdout.read() == "got it\n"
        assert client.wait(20) == 9


def test_a_terminal_is_a_terminal_inside(glassdock: Glassdock, engine: Daemon) -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "run", "--rm", "-it", "busybox", "sh", "-c", "tty; read x; echo got $x"]
    with subprocess.Popen(
        command, env=engine.env, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    ) as client:
        os.close(theirs)
        seen = b""
        deadline = time.monotonic() + 20
        typed = False
        while time.monotonic() < deadline and client.poll() is None:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    seen += os.read(ours, 4096)
                except OSError:  # the other side has closed its end
                    break
            if b"/dev/pts/" in seen and not typed:
                typed = os.write(ours, b"typed\r") > 0
        assert client.wait(20) == 0
    os.close(ours)
    assert b"got typed\r\n" in seen


def test_a_terminal_is_not_given_where_there_is_none(glassdock: Glassdock, engine: Daemon) -> None:
    before = engine.containers()
    done = glassdock("run", "--rm", "-it", "busybox", "sh")
    assert done.returncode == 125
    assert "the input device is not a TTY" in done.stderr
    assert engine.containers() == before


def test_a_folder_builds_runs_and_is_explained(glassdock: Glassdock, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM busybox\nCOPY hello /hello\nRUN rm /etc/group\nCMD ["cat", "/hello"]\n')
    (tmp_path / "hello").write_text("from the context\n")
    try:
        built = glassdock("build", "-t", "clibuilt", ".", cwd=tmp_path)
        assert built.returncode == 0, built.stderr
        assert "Step 1/4 : FROM busybox" in built.stdout
        assert glassdock("run", "--rm", "clibuilt").stdout == "from the context\n"
        assert "COPY hello /hello" in glassdock("history", "--no-trunc", "clibuilt").stdout
        assert "D /etc/group" in glassdock("image", "layers", "clibuilt").stdout
        quiet = glassdock("build", "-q", "-t", "clibuilt:2", str(tmp_path))
        assert quiet.stdout.startswith("sha256:")
        assert "clibuilt" in glassdock("images").stdout
    finally:
        removed = glassdock("rmi", "clibuilt", "clibuilt:2")
    assert "Untagged: clibuilt:latest" in removed.stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [("FROM busybox\nRUNN x\n", "RUNN"), ("FROM busybox\nCOPY nope /x\n", "nope"), ("FROM busybox\nRUN exit 3\n", "3")],
)
def test_a_build_that_fails_says_where(glassdock: Glassdock, text: str, told: str) -> None:
    done = glassdock("build", "-", stdin=text)
    assert done.returncode == 1
    assert told in done.stderr
    assert "line 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_image_is_pushed_to_and_pulled_from_the_course_registry(glassdock: Glassdock) -> None:
    address = glassdock("registry").stdout.splitlines()[0]
    name = f"{address}/cli/busybox:1"
    assert glassdock("tag", "busybox", name).returncode == 0
    pushed = glassdock("push", name)
    assert pushed.returncode == 0, pushed.stderr
    assert glassdock("rmi", name).returncode == 0
    assert "cli/busybox: 1" in glassdock("registry").stdout
    pulled = glassdock("pull", name)
    assert pulled.stdout.splitlines()[-1] == name
    assert glassdock("rmi", name).returncode == 0


def test_the_spans_of_a_run_are_shown_on_stderr(glassdock: Glassdock) -> None:
    done = glassdock("run", "--rm", "--record", "busybox", "sleep", "0.3")
    for name in ("client.run", "containers.start", "network.attach", "runtime.exec"):
        assert name in done.stderr


def test_version_info_and_status_tell_of_both_sides(glassdock: Glassdock, engine: Daemon) -> None:
    assert glassdock("version", "-f", "{{.Server.Platform.Name}}").stdout == "Glassdock Engine\n"
    assert f"DockerRootDir: {engine.root}" in glassdock("info").stdout
    status = glassdock("status")
    assert status.returncode == 0
    assert "is running" in status.stdout
    assert json.loads(glassdock("status", "--json").stdout)["up"] is True


def test_the_doctor_needs_no_engine(glassdock: Glassdock) -> None:
    report = json.loads(glassdock("-H", "unix:///nowhere", "doctor", "--json").stdout)
    assert {"isolation", "store", "net", "limits"} <= {axis["name"] for axis in report["axes"]}
