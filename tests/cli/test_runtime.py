"""`glassdock-runtime` on real bundles: the whole life of a container, its hooks, its terminal, its errors."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from tests.cli.bundles import Runtime
from tests.runtime.lab import alive, eventually

pytestmark = pytest.mark.needs_root


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def test_run_gives_the_programs_output_and_exit_code(runtime: Runtime) -> None:
    runtime.program("echo out; echo err >&2; exit 7")
    done = runtime("run", "one", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert json.loads(runtime("list", "--format", "json").stdout) == []


def test_a_container_lives_from_create_to_delete(runtime: Runtime) -> None:
    runtime.program("sleep 100")
    pid_file = runtime.folder / "pid"
    runtime("create", "--pid-file", str(pid_file), "one")
    made = runtime.state("one")
    assert (made["status"], made["pid"], made["bundle"]) == ("created", int(pid_file.read_text()), str(runtime.folder))
    runtime("start", "one")
    assert runtime.state("one")["status"] == "running"
    assert made["pid"] in json.loads(runtime("ps", "--format", "json", "one").stdout)
    runtime("pause", "one")
    assert runtime.state("one")["status"] == "paused"
    runtime("resume", "one")
    refused = runtime("delete", "one", check=False)
    assert "that is not stopped: running" in refused.stderr
    runtime("kill", "one", "KILL")
    eventually(lambda: runtime.state("one")["status"] == "stopped")
    runtime("delete", "one")
    assert "container does not exist" in runtime("state", "one", check=False).stderr


def test_a_container_is_started_once(runtime: Runtime) -> None:
    runtime.program("sleep 100")
    runtime("create", "one")
    runtime("start", "one")
    assert "cannot start an already running container" in runtime("start", "one", check=False).stderr
    assert "already exists" in runtime("create", "one", check=False).stderr
    runtime("delete", "--force", "one")
    runtime("delete", "--force", "one")


def test_what_waits_at_the_gate_can_be_deleted(runtime: Runtime) -> None:
    runtime("create", "one")
    pid = runtime.state("one")["pid"]
    runtime("delete", "one")
    assert not alive(pid)


def test_a_missing_program_is_an_error_of_create_and_leaves_nothing(runtime: Runtime) -> None:
    runtime.change(lambda spec: spec["process"].update(args=["nosuch"]))
    done = runtime("create", "one", check=False)
    message = 'unable to start container process: exec: "nosuch": executable file not found in $PATH'
    assert (done.returncode, done.stderr) == (1, f"glassdock-runtime create failed: {message}\n")
    assert runtime.last_error() == done.stderr.strip()
    assert os.listdir(runtime.root) == []


def test_hooks_run_in_the_order_of_the_specification(runtime: Runtime) -> None:
    told = runtime.folder / "told"
    inside = runtime.folder / "rootfs/told"
    line = 'echo {} "$state" >> ' + str(told)
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    runtime.hooks(**{kind: line.format(kind) for kind in kinds}, startContainer='echo startContainer "$state" >> /told')
    runtime.change(lambda spec: (spec["root"].update(readonly=False), spec.update(annotations={"color": "blue"})))
    runtime.program("exit 0")
    runtime("run", "one")
    rows = [line.partition(" ")[::2] for line in told.read_text().splitlines()]
    assert [kind for kind, _ in rows] == list(kinds)
    states = [json.loads(text) for _, text in rows]
    assert [state["status"] for state in states] == ["creating", "creating", "creating", "running", "stopped"]
    assert len({state["pid"] for state in states}) == 1
    assert states[0] | {"pid": 0} == {
        "ociVersion": "1.2.0", "id": "one", "status": "creating", "pid": 0, "bundle": str(runtime.folder),
        "annotations": {"color": "blue"},
    }  # fmt: skip
    kind, _, text = inside.read_text().partition(" ")
    assert (kind, json.loads(text)["status"]) == ("startContainer", "created")


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer"])
def test_a_hook_that_fails_before_the_program_stops_the_container(runtime: Runtime, kind: str) -> None:
    runtime.hooks(**{kind: "echo because; exit 3"})
    runtime.program("echo ran")
    done = runtime("run", "one", check=False)
    assert done.returncode == 1
    assert "ran" not in done.stdout
    assert f"error running {kind} hook #0: /bin/sh: exit status 3: because" in done.stderr
    assert os.listdir(runtime.root) == []


def test_a_hook_that_fails_when_all_is_over_is_a_warning(runtime: Runtime) -> None:
    runtime.hooks(poststop="exit 2")
    runtime.program("exit 0")
    runtime("run", "one")
    entry = json.loads(runtime.log.read_text())
    assert (entry["level"], entry["msg"].split(":")[0]) == ("warning", "error running poststop hook #0")


def test_a_hook_that_fails_after_the_start_ends_the_container(runtime: Runtime) -> None:
    runtime.hooks(poststart="exit 1")
    runtime.program("sleep 100")
    runtime("create", "one")
    pid = runtime.state("one")["pid"]
    assert "error running poststart hook #0" in runtime("start", "one", check=False).stderr
    eventually(lambda: not alive(pid))
    runtime("delete", "one")


def test_a_hook_without_environment_inside_has_the_programs(runtime: Runtime) -> None:
    runtime.change(lambda spec: spec["process"].update(env=["PATH=/bin", "ONE=two"]))
    runtime.hooks(startContainer='test "$ONE$HOME" = two/root || exit 9', createContainer='test -z "$ONE" || exit 9')
    runtime.program("exit 0")
    runtime("run", "one")


def test_a_hook_that_takes_too_long_is_stopped(runtime: Runtime) -> None:
    slow = {"path": "/bin/sleep", "args": ["sleep", "20"], "timeout": 1}
    runtime.change(lambda spec: spec.update(hooks={"createRuntime": [slow]}))
    assert "ran past its timeout of 1 seconds" in runtime("create", "one", check=False).stderr


def test_the_terminal_goes_to_the_console_socket(runtime: Runtime) -> None:
    runtime.change(lambda spec: spec["process"].update(terminal=True))
    runtime.program("tty; test -t 1 && echo yes")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime.folder / "console"))
        listener.listen(1)
        runtime("create", "--console-socket", str(runtime.folder / "console"), "one")
        connection, _ = listener.accept()
        with connection:
            _, (terminal,), _, _ = socket.recv_fds(connection, 64, 1)
    runtime("start", "one")
    with os.fdopen(terminal, "rb", buffering=0) as outer:
        told = b""
        while b"yes" not in told:
            told += outer.read(100)
    assert told.startswith(b"/dev/pts/0\r\n")
    eventually(lambda: runtime.state("one")["status"] == "stopped")
    runtime("delete", "one")


def test_what_it_does_not_do_is_refused_with_a_sentence(runtime: Runtime) -> None:
    assert "without systemd" in runtime("--systemd-cgroup", "list", check=False).stderr
    runtime.change(lambda spec: spec["process"].update(terminal=True))
    told = runtime("create", "one", check=False).stderr
    assert "cannot allocate tty if glassdock-runtime will detach without setting console socket" in told
    runtime.change(lambda spec: spec["process"].update(terminal=False))
    told = runtime("create", "--console-socket", "/nowhere", "one", check=False).stderr
    assert "cannot use console socket if glassdock-runtime will not detach or allocate tty" in told
    assert "criu" in runtime("checkpoint", "one", check=False).stderr


def test_features_names_the_hooks_and_namespaces(runtime: Runtime) -> None:
    found = json.loads(runtime("features").stdout)
    assert "startContainer" in found["hooks"]
    assert "pid" in found["linux"]["namespaces"]
