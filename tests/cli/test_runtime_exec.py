"""`glassdock-runtime exec`, `update` and `events` on a real container."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.bundles import Runtime
from tests.runtime.lab import alive, eventually

pytestmark = pytest.mark.needs_root


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime(tmp_path)
    yield made
    made("delete", "--force", "one")


def test_exec_joins_the_container_and_gives_the_exit_code(runtime: Runtime) -> None:
    pid = runtime.begin()
    script = "hostname; cat /proc/self/cgroup; test -d /proc/1 && cat; exit 7"
    done = runtime("exec", "one", "sh", "-c", script, check=False, stdin=b"said\n")
    assert (done.returncode, done.stderr) == (7, "")
    first, *groups, last = done.stdout.splitlines()
    assert (first, last) == ("glassdock", "said")
    assert {line.split(":")[2] for line in groups} == {"/"}
    # It is in the container's cgroup and namespaces, and in its own session.
    runtime("exec", "--detach", "--pid-file", str(runtime.folder / "pid"), "one", "sleep", "100")
    other = int((runtime.folder / "pid").read_text())
    for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/{other}/ns/{kind}")
    assert sorted(json.loads(runtime("ps", "-f", "json", "one").stdout)) == sorted([pid, other])
    table = runtime("ps", "one", "-o", "pid,comm").stdout.split()
    assert table[:2] == ["PID", "COMMAND"]
    assert set(table) >= {str(pid), str(other)}
    runtime("delete", "--force", "one")
    eventually(lambda: not alive(other))


def test_execs_flags_change_the_process(runtime: Runtime) -> None:
    runtime.begin()
    shown = "id -u; id -g; id -G; pwd; echo $A $B; grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status"
    plain = runtime("exec", "-e", "A=1", "--env", "B=2", "--cwd", "/bin", "one", "sh", "-c", shown).stdout.splitlines()
    assert plain[3:5] == ["/bin", "1 2"]
    arguments = ("-u", "5:6", "-g", "7", "--additional-gids=8", "--cap", "CAP_SYS_ADMIN", "--no-new-privs")
    uid, gid, groups, cwd, _, bounding, privileges = runtime(
        "exec", *arguments, "one", "sh", "-c", shown
    ).stdout.splitlines()
    assert (uid, gid, set(groups.split()), cwd) == ("5", "6", {"6", "7", "8"}, "/")
    assert int(bounding.split()[1], 16) == int(plain[5].split()[1], 16) | 1 << 21
    assert privileges.split() == ["NoNewPrivs:", "1"]


def test_exec_takes_the_process_from_a_file(runtime: Runtime) -> None:
    runtime.begin()
    path = runtime.folder / "process.json"
    limits = [{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}]
    body = {"args": ["sh", "-c", "pwd; id -u; ulimit -n; echo $X"], "cwd": "/bin", "env": ["PATH=/bin", "X=y"]}
    path.write_text(json.dumps({**body, "user": {"uid": 9, "gid": 9}, "rlimits": limits}))
    assert runtime("exec", "--process", str(path), "one").stdout.split() == ["/bin", "9", "33", "y"]


def test_exec_refuses_in_runcs_words_with_255(runtime: Runtime) -> None:
    pid = runtime.begin()
    wrong = {
        ("one", "nosuch"): 'unable to start container process: exec: "nosuch": executable file not found in $PATH',
        ("one",): "process args cannot be empty",
        (
            "--cwd",
            "/nope",
            "one",
            "true",
        ): 'chdir to cwd ("/nope") set in config.json failed: no such file or directory',
        ("-u", "ada", "one", "true"): "parsing ada as int for uid failed",
        ("--cgroup", "inner", "one", "true"): "inner: no such file or directory",
        ("--detach", "--tty", "one", "true"): "cannot allocate tty if glassdock-runtime will detach",
        ("other", "true"): "exec failed: container does not exist",
    }
    for arguments, words in wrong.items():
        done = runtime("exec", *arguments, check=False)
        assert (done.returncode, done.stdout) == (255, "")
        assert words in done.stderr
        assert runtime.last_error() == done.stderr.strip()
        assert done.stderr.startswith("exec failed: ")
    runtime("pause", "one")
    done = runtime("exec", "one", "true", check=False)
    assert "cannot exec in a paused container (use --ignore-paused to override)" in done.stderr
    runtime("resume", "one")
    runtime("kill", "one", "9")
    eventually(lambda: not alive(pid))
    assert "cannot exec in a stopped container" in runtime("exec", "one", "true", check=False).stderr


def test_run_and_exec_hand_on_the_descriptors_that_are_asked_for(runtime: Runtime) -> None:
    (runtime.folder / "note").write_text("handed on\n")
    script = "cat <&3; for fd in /proc/self/fd/*; do echo ${fd##*/}; done"

    def with_third(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", 'exec "$@" 3<note', "sh", *runtime.command(*arguments)]
        return subprocess.run(command, cwd=runtime.folder, capture_output=True, text=True, timeout=30, check=False)

    runtime.begin()
    done = with_third("exec", "--preserve-fds", "1", "one", "sh", "-c", script)
    assert done.stdout.splitlines()[:5] == ["handed on", "0", "1", "2", "3"]
    assert with_third("exec", "one", "sh", "-c", "cat <&3").returncode != 0
    runtime("delete", "--force", "one")
    runtime.program(script)
    assert with_third("run", "--preserve-fds", "1", "one").stdout.splitlines()[:5] == done.stdout.splitlines()[:5]
    assert "handed on" not in with_third("run", "one").stdout


def test_execs_terminal_goes_to_the_console_socket(runtime: Runtime) -> None:
    runtime.begin()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime.folder / "console"))
        listener.listen(1)
        arguments = ("--console-socket", str(runtime.folder / "console"), "--detach", "--tty", "one")
        runtime("exec", *arguments, "sh", "-c", "tty; test -t 0 && echo yes")
        connection, _ = listener.accept()
        with connection:
            _, (terminal,), _, _ = socket.recv_fds(connection, 64, 1)
    with os.fdopen(terminal, "rb", buffering=0) as outer:
        told = b""
        while b"yes" not in told:
            told += outer.read(100)
    assert told.startswith(b"/dev/pts/0\r\n")


class Terminal:
    """A command in a terminal of ours."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.outer, inner = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
        )
        os.close(inner)
        self.told = b""

    def until(self, word: bytes) -> bytes:
        deadline = time.monotonic() + 20
        while word not in self.told:
            assert time.monotonic() < deadline, self.told
            if select.select([self.outer], [], [], 0.1)[0]:
                self.told += os.read(self.outer, 4096)
        before, _, self.told = self.told.partition(word)
        return before

    def close(self) -> int:
        code = self.process.wait(20)
        os.close(self.outer)
        return code


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_foreground_terminal_is_relayed_raw_and_follows_the_size(runtime: Runtime, verb: str) -> None:
    script = "trap 'stty size' WINCH; stty -echo; echo ready; while read -r line; do echo got $line; done; exit 5"
    if verb == "exec":
        runtime.begin()
        command = runtime.command("exec", "-t", "one", "sh", "-c", script)
    else:
        runtime.change(lambda spec: spec["process"].update(terminal=True))
        runtime.program(script)
        command = runtime.command("run", "one")
    terminal = Terminal(command, runtime.folder)
    terminal.until(b"ready\r\n")
    os.write(terminal.outer, b"one\r")
    terminal.until(b"got one\r\n")
    fcntl.ioctl(terminal.outer, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    terminal.process.send_signal(signal.SIGWINCH)
    os.write(terminal.outer, b"two\r")
    terminal.until(b"33 77")
    os.write(terminal.outer, b"\x04")
    assert terminal.close() == 5


def test_update_changes_limits_from_flags_and_documents(runtime: Runtime) -> None:
    runtime.begin()

    def limits() -> tuple[int, int]:
        data = json.loads(runtime("events", "--stats", "one").stdout)["data"]
        return data["memory"]["usage"]["limit"], data["pids"]["limit"]

    runtime("update", "--memory", "64m", "--pids-limit", "50", "one")
    assert limits() == (64 << 20, 50)
    runtime("update", "--resources", "-", "one", stdin=b'{"memory": {"limit": 33554432}, "cpu": {"shares": 0}}')
    assert limits() == (32 << 20, 50)
    refused = runtime("update", "--cpu-quota", "5", "one", check=False)
    assert refused.returncode == 1
    assert "can not be less than 1ms" in refused.stderr
    assert "Intel RDT is not supported" in runtime("update", "--l3-cache-schema", "x", "one", check=False).stderr


def test_events_tell_numbers_again_and_again_and_end_with_the_container(runtime: Runtime) -> None:
    runtime.begin()
    with subprocess.Popen(runtime.command("events", "--interval", "200ms", "one"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        second = json.loads(process.stdout.readline())
        assert (first["type"], first["id"], second["type"]) == ("stats", "one", "stats")
        assert second["data"]["cpu"]["usage"]["total"] > 0
        assert second["data"]["pids"]["current"] == 1
        runtime("kill", "one", "KILL")
        assert process.wait(20) == 0
    assert "not running" in runtime("events", "one", check=False).stderr


def test_events_tell_that_memory_was_short(runtime: Runtime) -> None:
    runtime.change(lambda spec: spec["linux"]["resources"].update(memory={"limit": 16 << 20, "swap": 16 << 20}))
    runtime.begin(script="while ! test -e /dev/shm/go; do sleep 0.1; done; (tail /dev/zero); sleep 100")
    with subprocess.Popen(runtime.command("events", "--interval", "30s", "one"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        time.sleep(0.5)
        runtime("exec", "one", "touch", "/dev/shm/go")
        assert json.loads(process.stdout.readline()) == {"type": "oom", "id": "one"}
        runtime("delete", "--force", "one")
        assert process.wait(20) == 0


def test_without_pivot_root_the_container_sees_its_root_alone(runtime: Runtime) -> None:
    runtime.program("ls /; echo and; cd -P /proc/1/root/.. && ls")
    first, _, second = runtime("run", "--no-pivot", "one").stdout.partition("and\n")
    assert first.split() == second.split() == sorted(os.listdir(runtime.folder / "rootfs"))


def test_the_session_keyring_is_its_own_unless_it_is_told(runtime: Runtime) -> None:
    runtime.program("cat /proc/keys | grep -c _ses.one || true")
    runtime.change(lambda spec: spec["linux"].update(maskedPaths=[]))
    assert int(runtime("run", "one").stdout) >= 1
    runtime.program("cat /proc/keys | grep -c _ses.two || true")  # the first one's may not have been collected yet
    assert int(runtime("run", "--no-new-keyring", "two").stdout) == 0
