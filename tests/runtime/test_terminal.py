"""A terminal: made inside, raw outside, with a size."""

from __future__ import annotations

import socket
import time

import pytest

from glassdock.oci.runtime import Box
from glassdock.runtime.launch import Attach
from tests.runtime.lab import Lab, pair, read_all, read_log

pytestmark = pytest.mark.needs_root


def read_until(sock: socket.socket, end: bytes) -> bytes:
    found = b""
    while end not in found:
        chunk = sock.recv(1 << 16)
        assert chunk, f"it ended with {found!r}"
        found += chunk
    return found


def test_the_streams_are_a_terminal_and_the_bytes_are_raw(lab: Lab) -> None:
    ours, theirs = pair()
    with lab.folder() as folder, ours:
        request = lab.request(folder, "sh", "-c", "tty; ls -l /dev/console; echo err >&2", process={"terminal": True})
        process = lab.start(request, [Attach(theirs.detach())])
        data = read_all(ours)
        assert lab.do(process.wait()).code == 0
        log = read_log(folder / "log")
    assert data.startswith((b"/dev/pts/0\r\n", b"/dev/console\r\n"))
    assert data.endswith(b"err\r\n")
    assert b"136," in data
    assert log == (data.decode(), "")


def test_it_is_interactive_and_ctrl_c_reaches_the_program(lab: Lab) -> None:
    ours, theirs = pair()
    with lab.folder() as folder, ours:
        request = lab.request(folder, "sh", process={"terminal": True}, stdin=True, stdin_once=True)
        process = lab.start(request, [Attach(theirs.detach(), stdin=True)])
        read_until(ours, b"# ")
        ours.send(b"sleep 100\n")
        read_until(ours, b"\n")
        time.sleep(0.1)
        ours.send(b"\x03")
        read_until(ours, b"# ")
        ours.send(b"echo code $?; exit 9\n")
        assert b"code 130" in read_until(ours, b"code 130")
        read_all(ours)
        assert lab.do(process.wait()).code == 9


def test_it_has_the_size_that_was_asked_for_and_can_be_resized(lab: Lab) -> None:
    ours, theirs = pair()
    with lab.folder() as folder, ours:
        script = "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done"
        settings = {"terminal": True, "console_size": Box(30, 100)}
        process = lab.start(lab.request(folder, "sh", "-c", script, process=settings), [Attach(theirs.detach())])
        assert read_until(ours, b"ready").startswith(b"30 100\r\n")
        lab.do(process.resize(40, 120))
        assert b"40 120" in read_all(ours)
        lab.do(process.wait())


def test_another_user_owns_the_terminal(lab: Lab) -> None:
    with lab.folder() as folder:
        request = lab.request(folder, "sh", "-c", "echo x > /dev/console && stat -c %U $(tty)", user="ada")
        from msgspec.structs import replace

        assert request.spec.process is not None
        body = replace(request.spec.process, terminal=True)
        lab.do(lab.start(replace(request, spec=replace(request.spec, process=body))).wait())
        assert read_log(folder / "log")[0].split() == ["x", "ada"]


def test_a_lot_that_is_typed_arrives(lab: Lab) -> None:
    ours, theirs = pair()
    with lab.folder() as folder, ours:
        script = "stty -echo raw; echo ready; head -c 100000 | wc -c"
        request = lab.request(folder, "sh", "-c", script, process={"terminal": True}, stdin=True)
        process = lab.start(request, [Attach(theirs.detach(), stdin=True)])
        read_until(ours, b"ready")
        ours.sendall(b"x" * 100_000)
        assert b"100000" in read_all(ours)
        assert lab.do(process.wait()).code == 0
