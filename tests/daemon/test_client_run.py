"""`docker run` by the official client, attached and detached.

Rules: what is checked is what a user sees: output, exit code, and what `ps -a` shows afterwards.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def test_output_and_errors_arrive_apart(ready: Daemon) -> None:
    done = ready.docker("run", "--rm", "busybox", "sh", "-c", "echo to stdout; echo to stderr >&2")
    assert (done.stdout, done.stderr) == ("to stdout\n", "to stderr\n")


def test_a_container_has_its_own_view_of_the_machine(ready: Daemon) -> None:
    script = "echo $$; hostname; ls /proc | grep -c '^[0-9]'; ip -o link | wc -l; id -u"
    lines = ready.docker("run", "--rm", "--hostname", "inside", "busybox", "sh", "-c", script).stdout.split()
    assert lines[0] == "1"
    assert lines[1] == "inside"
    assert int(lines[2]) < 8
    assert lines[3:] == ["2", "0"]


def test_a_container_has_an_address_and_reaches_its_gateway(ready: Daemon) -> None:
    script = "ip -4 -o addr show eth0; ping -c 1 -W 2 $(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p')"
    done = ready.docker("run", "--rm", "busybox", "sh", "-c", script)
    assert "inet 1" in done.stdout
    assert " 0% packet loss" in done.stdout


def test_without_network_there_is_only_loopback(ready: Daemon) -> None:
    done = ready.docker("run", "--rm", "--network", "none", "busybox", "ip", "-o", "link")
    assert done.stdout.count("\n") == 1
    assert ": lo:" in done.stdout


@pytest.mark.parametrize("code", [0, 3, 42])
def test_the_exit_code_is_the_programs(ready: Daemon, code: int) -> None:
    assert ready.docker("run", "--rm", "busybox", "sh", "-c", f"exit {code}", check=False).returncode == code


def test_a_program_that_is_not_there_is_127(ready: Daemon) -> None:
    done = ready.docker("run", "--rm", "busybox", "no-such-program", check=False)
    assert done.returncode == 127
    assert "no-such-program" in done.stderr
    assert "executable file not found in $PATH" in done.stderr


def test_a_program_that_cannot_be_executed_is_126(ready: Daemon) -> None:
    done = ready.docker("run", "--rm", "busybox", "/etc", check=False)
    assert done.returncode == 126
    assert "permission denied" in done.stderr.lower()


def test_environment_folder_and_user(ready: Daemon) -> None:
    options = ("-e", "COLOUR=green", "-w", "/tmp", "-u", "1000:1000")
    done = ready.docker("run", "--rm", *options, "busybox", "sh", "-c", "echo $COLOUR; pwd; id -u; id -g")
    assert done.stdout.split() == ["green", "/tmp", "1000", "1000"]


def test_a_folder_that_is_not_there_is_made(ready: Daemon) -> None:
    assert ready.docker("run", "--rm", "-w", "/a/b", "busybox", "pwd").stdout == "/a/b\n"


def test_stdin_reaches_the_program_and_its_end_too(ready: Daemon) -> None:
    done = ready.docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end", input="one\ntwo\n")
    assert done.stdout == "one\ntwo\nend\n"


def test_much_input_and_output_is_not_lost(ready: Daemon) -> None:
    text = "".join(f"{number:07}\n" for number in range(200_000))
    done = ready.docker("run", "--rm", "-i", "busybox", "cat", input=text)
    assert done.stdout == text


def test_without_i_stdin_is_empty(ready: Daemon) -> None:
    done = ready.docker("run", "--rm", "busybox", "sh", "-c", "cat; echo end", input="never read\n")
    assert done.stdout == "end\n"


def test_rm_leaves_no_container(ready: Daemon) -> None:
    before = ready.containers()
    ready.docker("run", "--rm", "--name", "gone", "busybox", "true")
    assert ready.containers() == before


def test_a_detached_container_gives_its_id_and_goes_on(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-d", "busybox", "sleep", "60")
    row = ready.docker(
        "ps", "--no-trunc", "--filter", f"name={name}", "--format", "{{.ID}} {{.Image}} {{.Status}}"
    ).stdout
    number, image, status = row.strip().split(" ", 2)
    assert len(number) == 64
    assert image == "busybox"
    assert status.startswith("Up")


def test_an_interrupted_run_ends_the_container(ready: Daemon) -> None:
    command = [
        "docker",
        "run",
        "--rm",
        "--name",
        "interrupted",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' INT; echo up; sleep 60 & wait",
    ]
    with subprocess.Popen(command, env=ready.env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 9
    deadline = time.monotonic() + 5
    while "/interrupted" in ready.containers().values() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "/interrupted" not in ready.containers().values()


def test_a_terminal_is_one_stream(ready: Daemon) -> None:
    # The client refuses -t without a terminal, so this is plain HTTP: raw bytes, no frames.
    answer = ready.sdk.api.create_container("busybox", ["sh", "-c", "test -t 0 && echo yes"], tty=True)
    try:
        ready.sdk.api.start(answer["Id"])
        ready.sdk.api.wait(answer["Id"])
        assert ready.sdk.api.logs(answer["Id"]) == b"yes\r\n"
    finally:
        ready.sdk.api.remove_container(answer["Id"], force=True)


def test_what_a_container_writes_stays_in_it(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("busybox", "sh", "-c", "echo kept > /note")
    assert ready.docker("run", "--rm", "busybox", "cat", "/note", check=False).returncode == 1
    ready.docker("start", name)
    assert ready.docker("wait", name).stdout == "0\n"
