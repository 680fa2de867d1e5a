"""Detach keys, as the server finds them and as our own client does; attach with what was written before."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def upgraded(ready: Daemon, path: str, body: bytes = b"") -> socket.socket:
    """A connection after its 101."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(10)
    made.connect(ready.socket)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    made.sendall(head.encode() + body)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += made.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return made


def ended(stream: socket.socket) -> bytes:
    """What came until the end."""
    said = b""
    while data := stream.recv(4096):
        said += data
    stream.close()
    return said


def actions(ready: Daemon, name: str, since: float) -> list[str]:
    words = ("events", "--since", f"{since:.6f}", "--until", f"{time.time():.6f}", "--filter", f"container={name}")
    return ready.docker(*words, "--format", "{{.Action}}").stdout.splitlines()


def test_the_server_lets_go_of_who_types_them_and_the_program_goes_on(
    ready: Daemon, container: Callable[..., str]
) -> None:
    since = time.time()
    name = container("-dit", "busybox", "cat")
    stream = upgraded(ready, f"/containers/{name}/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x")
    stream.sendall(b"hello\x01")
    stream.sendall(b"xmore\n")
    assert b"more" not in ended(stream)
    assert ready.get(f"/containers/{name}/json")[1]["State"]["Running"]
    assert actions(ready, name, since)[-2:] == ["attach", "detach"]
    again = upgraded(ready, f"/containers/{name}/attach?stream=1&stdin=1&stdout=1")
    again.sendall(b"\x10\x11")
    ended(again)
    asked = {"Cmd": ["cat"], "Tty": True, "AttachStdin": True, "AttachStdout": True, "detachKeys": "ctrl-b"}
    made = ready.post(f"/containers/{name}/exec", asked)
    stream = upgraded(ready, f"/exec/{made[1]['Id']}/start", b'{"Tty": true}')
    stream.sendall(b"up\n")
    assert stream.recv(4096)
    stream.sendall(b"\x02")
    ended(stream)
    deadline = time.monotonic() + 10
    while not ready.get(f"/exec/{made[1]['Id']}/json")[1]["Running"]:  # the terminal echoes before the program runs
        assert time.monotonic() < deadline
    while actions(ready, name, since)[-2:] != ["exec_start: cat", "exec_detach"]:
        assert time.monotonic() < deadline, actions(ready, name, since)
    status, answer = ready.post(f"/containers/{name}/attach?stream=1&stdin=1&detachKeys=nonsense")
    assert (status, answer["message"]) == (400, "Invalid detach keys (nonsense) provided")


def test_without_a_terminal_they_are_bytes_like_others(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-di", "busybox", "head", "-c", "2")
    stream = upgraded(ready, f"/containers/{name}/attach?stream=1&stdin=1&stdout=1")
    stream.sendall(b"\x10\x11")
    assert ended(stream).endswith(b"\x10\x11")


@pytest.mark.parametrize("program", ["docker", "glassdock"])
def test_a_client_with_a_terminal_comes_back(ready: Daemon, container: Callable[..., str], program: str) -> None:
    name = container("-dit", "busybox", "sh", "-c", "echo up; cat")
    words = ["docker"] if program == "docker" else [sys.executable, "-m", "glassdock"]
    ours, theirs = pty.openpty()
    try:
        command = [*words, "attach", "--detach-keys", "ctrl-x,q", name]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=ready.env) as client:
            os.close(theirs)
            said = b""
            while b"again" not in said:
                os.write(ours, b"again\r")
                time.sleep(0.2)
                said += os.read(ours, 4096)
            os.write(ours, b"\x18q")
            while b"read escape sequence" not in said:
                said += os.read(ours, 4096)
            client.wait(20)
    finally:
        os.close(ours)
    assert ready.get(f"/containers/{name}/json")[1]["State"]["Running"]
    assert ready.docker("logs", name).stdout.startswith("up")


def test_what_was_written_comes_before_what_is_written(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-di", "busybox", "sh", "-c", "echo before; read line; echo after $line")
    while "before" not in ready.docker("logs", name).stdout:
        time.sleep(0.05)
    stream = upgraded(ready, f"/containers/{name}/attach?stream=1&logs=1&stdin=1&stdout=1")
    stream.sendall(b"this\n")
    said = ended(stream)
    assert said.index(b"before\n") < said.index(b"after this\n")
