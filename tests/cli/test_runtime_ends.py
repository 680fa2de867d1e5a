"""How containers of bundles end where the first process is not all: shared PID namespaces, descriptors of processes."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.cli.bundles import Runtime
from tests.runtime.lab import alive, eventually

pytestmark = pytest.mark.needs_root


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def in_the_machines_pids(runtime: Runtime) -> list[int]:
    """A container without PID namespace that runs two programs; the first is the container's own."""
    runtime.change(
        lambda spec: spec["linux"].update(
            namespaces=[one for one in spec["linux"]["namespaces"] if one["type"] != "pid"]
        )
    )
    first = runtime.begin()
    runtime("exec", "--detach", "--pid-file", str(runtime.folder / "second"), "one", "sleep", "100")
    return [first, int((runtime.folder / "second").read_text())]


def test_sigkill_ends_all_where_the_pid_namespace_is_the_machines(runtime: Runtime) -> None:
    pids = in_the_machines_pids(runtime)
    runtime("kill", "one", "KILL")
    eventually(lambda: not any(alive(pid) for pid in pids))
    assert "container not running" in runtime("kill", "one", "0", check=False).stderr
    runtime("kill", "--all", "one", "0")
    runtime("delete", "one")


@pytest.mark.parametrize("words", [("kill", "one", "KILL"), ("delete", "one"), ("delete", "--force", "one")])
def test_what_outlives_the_first_process_is_ended(runtime: Runtime, words: tuple[str, ...]) -> None:
    pids = in_the_machines_pids(runtime)
    os.kill(pids[0], signal.SIGKILL)
    eventually(lambda: runtime.state("one")["status"] == "stopped")
    assert alive(pids[1])
    runtime(*words)
    eventually(lambda: not alive(pids[1]))
    runtime("delete", "--force", "one")


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_the_process_is_handed_over_as_a_descriptor(runtime: Runtime, verb: str) -> None:
    path = str(runtime.folder / "pidfd")
    got: list[int] = []

    def take(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            name, descriptors, _, _ = socket.recv_fds(connection, 64, 1)
            assert name == b"pidfd"
            got.extend(descriptors)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        taker = threading.Thread(target=take, args=(listener,))
        taker.start()
        if verb == "run":
            runtime.program("sleep 100")
            runtime("run", "--detach", "--pidfd-socket", path, "one")
        else:
            runtime.begin()
            number = str(runtime.folder / "number")
            runtime("exec", "--detach", "--pid-file", number, "--pidfd-socket", path, "one", "sleep", "100")
        taker.join(20)
    pid = runtime.state("one")["pid"] if verb == "run" else int((runtime.folder / "number").read_text())
    signal.pidfd_send_signal(got[0], signal.SIGKILL)
    os.close(got[0])
    eventually(lambda: not alive(pid))
    runtime("delete", "--force", "one")


def test_a_create_that_cannot_write_its_pid_file_leaves_nothing(runtime: Runtime) -> None:
    assert runtime("create", "--pid-file", "/nowhere/pid", "one", check=False).returncode == 1
    assert os.listdir(runtime.root) == []


def test_a_root_that_is_named_and_not_there_has_no_list(runtime: Runtime) -> None:
    done = runtime("list", check=False)
    assert (done.returncode, "no such file or directory" in done.stderr) == (1, True)


def test_exec_joins_groups_for_some_controllers(runtime: Runtime) -> None:
    from glassdock.runtime import cgroups

    if not cgroups.layout().v1:
        pytest.skip("version 2 has one tree")
    runtime.begin()
    top = next(folder for _, folder, words in cgroups.layout().v1 if "pids" in words)
    inner = Path(f"{top}{runtime.cgroup}/inner")
    inner.mkdir()
    try:
        runtime("exec", "--detach", "--pid-file", "pid", "--cgroup", "pids:inner", "one", "sleep", "100")
        assert (inner / "cgroup.procs").read_text().split() == [(runtime.folder / "pid").read_text()]
        for words, text in {"nosuch:/": "unknown controller nosuch", "pids:other": "adding pid to cgroups"}.items():
            assert text in runtime("exec", "--cgroup", words, "one", "true", check=False).stderr
    finally:
        runtime("delete", "--force", "one")
    assert not inner.exists()


def test_a_bundle_that_is_changed_later_does_not_change_the_container(runtime: Runtime) -> None:
    runtime.begin()
    runtime.change(lambda spec: spec["process"].update(env=["PATH=/bin", "LATER=yes"]))
    try:
        assert "LATER" not in runtime("exec", "one", "env").stdout
        (runtime.folder / "config.json").unlink()
        assert runtime("exec", "one", "echo", "still").stdout == "still\n"
    finally:
        runtime("delete", "--force", "one")


def test_what_waits_for_its_start_can_be_told_to_end(runtime: Runtime) -> None:
    runtime("create", "one")
    runtime("kill", "one", "TERM")
    eventually(lambda: runtime.state("one")["status"] == "stopped")
    runtime("delete", "one")
