"""Execs: one more program in a container that runs, like its own in everything that was not asked to be different."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glassdock.errors import CommandNotExecutable, CommandNotFound, Conflict, StartFailed
from glassdock.linux import ids
from glassdock.runtime import cgroups, execs
from glassdock.runtime.execs import ExecTask
from glassdock.runtime.launch import Process
from tests.runtime.lab import Lab, alive, eventually, joined, pair, read_all

pytestmark = pytest.mark.needs_root


@contextlib.contextmanager
def running(lab: Lab, **changes: Any) -> Iterator[Process]:
    """A container that sleeps, killed afterwards."""
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sleep", "60", **changes))
        try:
            yield process
        finally:
            with contextlib.suppress(Conflict):
                lab.do(process.signal(signal.SIGKILL))
            lab.do(process.wait())


def begin(lab: Lab, process: Process, *args: str, **task: Any) -> tuple[execs.Running, socket.socket]:
    """Start an exec with a client."""
    ours, theirs = pair()
    values: dict[str, Any] = {"env": ("PATH=/bin",)} | task
    made = ExecTask(uuid.uuid4().hex, args, **values)
    try:
        return lab.do(execs.begin(process.run_dir, made, theirs.detach())), ours
    except BaseException:
        ours.close()
        raise


async def gone(found: execs.Running) -> None:
    """As when the daemon dies."""
    found.detach()


def execute(lab: Lab, process: Process, *args: str, stdin: bytes | None = None, **task: Any) -> tuple[int, str, str]:
    """(code, stdout, stderr) of an exec."""
    found, ours = begin(lab, process, *args, stdin=stdin is not None, **task)
    with ours:
        if stdin is not None:
            ours.sendall(stdin)
            ours.shutdown(socket.SHUT_WR)
        data = read_all(ours)
    code = lab.do(found.wait()).code
    return code, joined(data, 1).decode(), joined(data, 2).decode()


def test_output_and_exit_code(lab: Lab) -> None:
    with running(lab) as process:
        assert execute(lab, process, "sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
        assert execute(lab, process, "sh", "-c", "kill -9 $$") == (137, "", "")


def test_it_is_in_all_namespaces_and_groups_of_the_container(lab: Lab) -> None:
    with running(lab) as process:
        script = "cd /proc/self/ns; for n in mnt pid uts ipc net cgroup pid_for_children; do readlink $n; done"
        inside = execute(lab, process, "sh", "-c", script)[1].split()
        names = ("mnt", "pid", "uts", "ipc", "net", "cgroup", "pid_for_children")
        assert inside == [os.readlink(f"/proc/{process.pid}/ns/{name}") for name in names]
        found, ours = begin(lab, process, "sleep", "60")
        with ours:
            of_first = Path(f"/proc/{process.pid}/cgroup").read_text()
            assert Path(f"/proc/{found.pid}/cgroup").read_text() == of_first
            assert os.readlink(f"/proc/{found.pid}/root") == "/"
            os.kill(found.pid, signal.SIGKILL)
            assert lab.do(found.wait()).code == 137


def test_stdin_arrives_and_ends(lab: Lab) -> None:
    with running(lab) as process:
        text = b"".join(b"%07d\n" % number for number in range(100_000))
        assert execute(lab, process, "md5sum", stdin=text)[1].split()[0] == hashlib.md5(text).hexdigest()
        assert execute(lab, process, "cat") == (0, "", "")


def test_user_environment_and_directory(lab: Lab) -> None:
    with running(lab) as process:
        script = "id -u; id -g; id -G; echo $HOME $COLOUR; pwd; umask"
        task: dict[str, Any] = {"user": "ada", "env": ("PATH=/bin", "COLOUR=green"), "cwd": "/home/ada"}
        code, out, _ = execute(lab, process, "sh", "-c", script, **task)
        groups = ["2000", "2001"] if ids.has_gid(2000) else []  # with a single id there is nobody to be besides
        assert (code, out.split()) == (
            0,
            ["1000", "1000", "1000", *groups, "/home/ada", "green", "/home/ada", "0022"],
        )


def test_it_may_do_what_the_container_may(lab: Lab) -> None:
    wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters")

    def facts(text: str) -> dict[str, str]:
        rows = (line.split(":", 1) for line in text.splitlines())
        return {name: value.strip() for name, value in rows if name in wanted}

    for nnp in (False, True):
        with running(lab, process={"no_new_privileges": nnp}) as process:
            first = facts(Path(f"/proc/{process.pid}/status").read_text())
            assert facts(execute(lab, process, "cat", "/proc/self/status")[1]) == first
            raised = facts(execute(lab, process, "cat", "/proc/self/status", privileged=True)[1])
            assert int(raised["CapEff"], 16) > int(first["CapEff"], 16)
            assert raised["Seccomp"] == first["Seccomp"] == "2"


def test_no_descriptor_of_the_machines_comes_along(lab: Lab) -> None:
    with running(lab) as process:
        found, ours = begin(lab, process, "sleep", "60", stdin=True)
        with ours:
            targets = [os.readlink(f"/proc/{found.pid}/fd/{number}") for number in os.listdir(f"/proc/{found.pid}/fd")]
            assert [target.partition(":")[0] for target in targets] == ["pipe", "pipe", "pipe"]
            os.kill(found.pid, signal.SIGKILL)
            lab.do(found.wait())


@pytest.mark.parametrize(
    ("program", "cwd", "kind", "message"),
    [
        ("nosuch", "/", CommandNotFound, 'exec: "nosuch": executable file not found in $PATH'),
        ("/no/such", "/", CommandNotFound, 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("/etc/passwd", "/", CommandNotExecutable, 'exec: "/etc/passwd": permission denied'),
        (
            "true",
            "/nowhere",
            StartFailed,
            'chdir to cwd ("/nowhere") set in config.json failed: no such file or directory',
        ),
    ],
)
def test_what_cannot_run_is_said_in_dockers_words(
    lab: Lab, program: str, cwd: str, kind: type[StartFailed], message: str
) -> None:
    with running(lab) as process:
        with pytest.raises(kind) as caught:
            begin(lab, process, program, cwd=cwd)
        assert caught.value.message == message
        assert execute(lab, process, "true")[0] == 0


def test_a_terminal_of_its_own(lab: Lab) -> None:
    with running(lab) as process:
        task = {"terminal": True, "stdin": True, "height": 30, "width": 90}
        found, ours = begin(lab, process, "sh", "-c", "tty; stty size; read line; stty size", **task)
        with ours:
            said = b""
            while said.count(b"\n") < 2:
                said += ours.recv(4096)
            assert said == b"/dev/pts/0\r\n30 90\r\n"
            lab.do(found.resize(40, 100))
            ours.sendall(b"\n")
            assert read_all(ours).endswith(b"40 100\r\n")
        assert lab.do(found.wait()).code == 0


def test_it_ends_with_the_container(lab: Lab) -> None:
    with running(lab) as process:
        found, ours = begin(lab, process, "sleep", "60")
        with ours:
            lab.do(process.signal(signal.SIGKILL))
            assert read_all(ours) == b""
        assert lab.do(found.wait()).code == 137
        assert not alive(found.pid)
        assert lab.do(process.wait()).code == 137
    with pytest.raises(Conflict):
        begin(lab, process, "true")


def test_what_it_leaves_running_does_not_hold_up_its_end(lab: Lab) -> None:
    with running(lab) as process:
        began = time.monotonic()
        assert execute(lab, process, "sh", "-c", "sleep 60 & echo started")[:2] == (0, "started\n")
        assert time.monotonic() - began < 5


def test_many_at_once_and_the_daemon_may_go(lab: Lab) -> None:
    with running(lab) as process:
        many = [begin(lab, process, "sh", "-c", f"sleep 0.1; echo {number}; exit {number}") for number in range(20)]
        for number, (found, ours) in enumerate(many):
            with ours:
                assert joined(read_all(ours), 1) == b"%d\n" % number
            assert lab.do(found.wait()).code == number
        found, ours = begin(lab, process, "sh", "-c", "sleep 0.2; echo done >/tmp/done")
        lab.do(gone(found))
        ours.close()
        eventually(lambda: execute(lab, process, "cat", "/tmp/done")[1] == "done\n")


def test_nothing_is_left_in_the_shim(lab: Lab) -> None:
    with running(lab) as process:
        shim = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
        execute(lab, process, "true")

        def held() -> int:
            time.sleep(0.01)
            return len(os.listdir(f"/proc/{shim}/fd"))

        before = min(held() for _ in range(20))  # the first exec's are closed a moment after its end is told
        for _ in range(5):
            execute(lab, process, "true")
            with pytest.raises(CommandNotFound):
                begin(lab, process, "nosuch")
            execute(lab, process, "true", terminal=True)
        eventually(lambda: held() == before)
        # Where its children come to is the container's from the first exec on; where it is itself stays.
        assert os.readlink(f"/proc/{shim}/ns/pid") == os.readlink("/proc/self/ns/pid")


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
def test_it_enters_the_groups_without_waiting(lab: Lab) -> None:
    if not cgroups.layout().v1:
        pytest.skip("cgroup v1")
    with running(lab) as process:
        times = []
        for _ in range(9):
            began = time.perf_counter()
            found, ours = begin(lab, process, "true")
            times.append(time.perf_counter() - began)
            ours.close()
            lab.do(found.wait())
        assert sorted(times)[4] < 0.05, times
