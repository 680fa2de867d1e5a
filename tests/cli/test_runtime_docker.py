"""Debian's dockerd with `glassdock-runtime` as a container's runtime: what the official client does with it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.lab import eventually, make_root

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("dockerd", "docker", "ip")]

_BRIDGE, _ADDRESS = f"gdtrt{os.getpid()}", "10.213.77.1/24"  # a run that was cut off may have left its own


class Docker:
    """A dockerd of our own, and the official client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{folder}/s", "DOCKER_CONFIG": f"{folder}/client"}

    def command(self, *arguments: str) -> list[str]:
        return ["docker", *arguments]

    def __call__(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        done = subprocess.run(
            self.command(*arguments), env=self.environment, input=stdin, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == code, (arguments, done)
        return done.stdout + done.stderr

    def run(self, *arguments: str, code: int = 0, stdin: str = "", network: str = "none") -> str:
        return self("run", "--rm", "--runtime", "glassdock", "--network", network, *arguments, code=code, stdin=stdin)

    def in_terminal(self, *arguments: str) -> tuple[int, str]:
        """The exit code, and what a terminal showed."""
        outer, inner = pty.openpty()
        with subprocess.Popen(
            self.command(*arguments), env=self.environment, stdin=inner, stdout=inner, stderr=inner,
            start_new_session=True,
        ) as process:  # fmt: skip
            os.close(inner)
            told = b""
            while select.select([outer], [], [], 30)[0]:
                try:
                    told += os.read(outer, 4096)
                except OSError:
                    break
            os.close(outer)
            return process.wait(10), told.decode()

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("inspect", name))[0]
        return found


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    folder = Path(tempfile.mkdtemp(prefix="gdt-dockerd-", dir="/var/tmp"))
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, folder)
        undo.callback(_unmount_all, folder)  # dockerd leaves the namespace of `--network host` mounted
        subprocess.run(["ip", "link", "add", _BRIDGE, "type", "bridge"], check=True)
        undo.callback(subprocess.run, ["ip", "link", "del", _BRIDGE], check=True)
        subprocess.run(["ip", "addr", "add", _ADDRESS, "dev", _BRIDGE], check=True)
        subprocess.run(["ip", "link", "set", _BRIDGE, "up"], check=True)
        runtime = Path(sys.executable).parent / "glassdock-runtime"
        (folder / "daemon.json").write_text(json.dumps({"runtimes": {"glassdock": {"path": str(runtime)}}}))
        command = ["dockerd", "--config-file", f"{folder}/daemon.json", "--host", f"unix://{folder}/s"]
        command += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
        command += ["--bridge", _BRIDGE, "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        log = undo.enter_context(open(folder / "log", "wb"))
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        undo.callback(_end, process)
        made = Docker(folder)
        deadline = time.monotonic() + 30
        while subprocess.run(
            made.command("version"), env=made.environment, capture_output=True, check=False
        ).returncode:
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            time.sleep(0.2)
        make_root(folder / "root")
        subprocess.run(["tar", "-C", folder / "root", "-cf", folder / "root.tar", "."], check=True)
        made("import", str(folder / "root.tar"), "box")
        yield made


def _unmount_all(folder: Path) -> None:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{folder}/")]):
        subprocess.run(["umount", mount], check=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def test_run_gives_output_input_and_exit_code(docker: Docker) -> None:
    assert docker.run("-i", "box", "sh", "-c", "cat; echo err >&2; exit 7", code=7, stdin="said\n") == "said\nerr\n"


def test_a_program_that_cannot_start_has_dockers_exit_code(docker: Docker) -> None:
    told = docker.run("box", "nosuch", code=127)
    assert 'unable to start container process: exec: "nosuch": executable file not found in $PATH' in told
    assert "permission denied" in docker.run("box", "/bin", code=126)


def test_run_with_a_terminal(docker: Docker) -> None:
    arguments = ("run", "--rm", "--runtime", "glassdock", "--network", "none", "-it", "box")
    assert docker.in_terminal(*arguments, "sh", "-c", "tty; exit 6") == (6, "/dev/pts/0\r\n")


def test_what_a_container_is_given(docker: Docker) -> None:
    (docker.folder / "volume").mkdir(exist_ok=True)
    (docker.folder / "volume/file").write_text("from the volume\n")
    script = """id -u; id -g; cat /volume/file; ulimit -n; cat /proc/sys/kernel/msgmax
    touch /x 2>/dev/null || echo readonly; touch /volume/x 2>/dev/null || echo readonly
    touch /t/x && echo writable; hostname; cut -d: -f3 /proc/1/cgroup | sort -u; readlink /proc/1/exe
    grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status"""
    told = docker.run(
        *("--init", "--user", "7:8", "--read-only", "--tmpfs", "/t:mode=1777", "--ulimit", "nofile=99:100"),
        *("-v", f"{docker.folder}/volume:/volume:ro", "--sysctl", "kernel.msgmax=999", "--hostname", "named"),
        *("--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt", "no-new-privileges", "box", "sh", "-c", script),
    ).split()
    assert told[:2] == ["7", "8"]
    assert told[2:8] == ["from", "the", "volume", "99", "999", "readonly"]
    assert told[8:11] == ["readonly", "writable", "named"]
    assert told[-6:] == ["CapBnd:", "0000000000000001", "NoNewPrivs:", "1", "Seccomp:", "2"]


def test_privileged_and_the_machines_namespaces(docker: Docker) -> None:
    script = "grep -E '^(CapEff|Seccomp):' /proc/self/status; ls /dev | wc -l; hostname"
    told = docker.run("--privileged", "--pid", "host", "--uts", "host", "box", "sh", "-c", script, network="host")
    _, capabilities, _, mode, devices, name = told.split()
    assert (mode, name) == ("0", os.uname().nodename)
    assert int(capabilities, 16) & 1 << 21  # CAP_SYS_ADMIN
    assert int(devices) > 15


def test_a_container_on_a_bridge_has_its_address(docker: Docker) -> None:
    docker("run", "-d", "--name", "wired", "--runtime", "glassdock", "box", "sleep", "100")
    try:
        network = docker.inspect("wired")["NetworkSettings"]["Networks"]["bridge"]
        told = docker("exec", "wired", "cat", "/proc/net/fib_trie")
        assert network["IPAddress"] in told
        assert "eth0" in docker("exec", "wired", "cat", "/proc/net/dev")
        docker("exec", "-d", "wired", "sh", "-c", "echo reached | nc -l -p 8080")
        with _connect(network["IPAddress"], 8080) as connection:
            assert connection.recv(100) == b"reached\n"
    finally:
        docker("rm", "-f", "wired")


def _connect(address: str, port: int) -> socket.socket:
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection((address, port), 2)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_the_life_of_a_container(docker: Docker) -> None:
    docker(
        "run", "-d", "--name", "one", "--runtime", "glassdock", "--network", "none", "-m", "32m", "box", "sleep", "99"
    )
    try:
        first = docker.inspect("one")["State"]["Pid"]
        script = "id -u; id -g; pwd; echo $A; cat; exit 4"
        told = docker(
            "exec", "-i", "-u", "3:4", "-w", "/bin", "-e", "A=b", "one", "sh", "-c", script, code=4, stdin="c\n"
        )
        assert told.split() == ["3", "4", "/bin", "b", "c"]
        assert docker.in_terminal("exec", "-it", "one", "sh", "-c", "tty; exit 3") == (3, "/dev/pts/0\r\n")
        assert "executable file not found in $PATH" in docker("exec", "one", "nosuch", code=126)
        docker("exec", "-d", "one", "sleep", "98")
        eventually(lambda: "sleep 98" in docker("top", "one"))
        docker("pause", "one")
        assert docker.inspect("one")["State"]["Status"] == "paused"
        docker("unpause", "one")
        docker("update", "--memory", "64m", "--memory-swap", "64m", "--cpu-shares", "300", "one")
        shown = docker("stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "one")
        assert shown.split()[2:] == ["64MiB", "2"]
        docker("kill", "--signal", "KILL", "one")
        eventually(lambda: docker.inspect("one")["State"]["Status"] == "exited")
        assert docker.inspect("one")["State"]["ExitCode"] == 137
        docker("start", "one")
        assert docker.inspect("one")["State"]["Pid"] not in (0, first)
        docker("stop", "--time", "0", "one")
    finally:
        docker("rm", "-f", "one")


def test_memory_that_runs_out_is_told(docker: Docker) -> None:
    limits = ("-m", "16m", "--memory-swap", "16m")
    docker(
        "run", "-d", "--name", "big", "--runtime", "glassdock", "--network", "none", *limits, "box", "tail", "/dev/zero"
    )
    try:
        eventually(lambda: docker.inspect("big")["State"]["Status"] == "exited")
        state = docker.inspect("big")["State"]
        assert (state["ExitCode"], state["OOMKilled"]) == (137, True)
    finally:
        docker("rm", "-f", "big")
