"""The streams of a container, over real sockets."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from glassdock.client.attach import Frames, pump
from glassdock.client.wire import Upgraded


class Kept:
    """An output that is kept."""

    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""

    def out(self, data: bytes) -> None:
        self.stdout += data

    def err(self, data: bytes) -> None:
        self.stderr += data

    def event(self, event: Mapping[str, Any]) -> None:
        raise AssertionError(event)

    def note(self, text: str) -> None:
        raise AssertionError(text)


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize("piece", [1, 3, 8, 9, 1000])
def test_frames_are_put_together_whatever_the_pieces(piece: int) -> None:
    whole = frame(1, b"hello ") + frame(2, b"") + frame(2, b"oops") + frame(1, b"world")
    frames = Frames()
    found = [pair for at in range(0, len(whole), piece) for pair in frames.feed(whole[at : at + piece])]
    assert found == [(1, b"hello "), (2, b""), (2, b"oops"), (1, b"world")]


def test_stdout_and_stderr_are_told_apart_until_the_end() -> None:
    ours, theirs = socket.socketpair()
    output = Kept()
    with theirs, Upgraded(ours, frame(1, b"early ")) as stream:
        theirs.sendall(frame(1, b"out") + frame(2, b"err"))
        theirs.shutdown(socket.SHUT_WR)
        pump(stream, output, framed=True, stdin=None)
    assert (output.stdout, output.stderr) == (b"early out", b"err")


def test_a_terminals_stream_is_passed_on_as_it_is() -> None:
    ours, theirs = socket.socketpair()
    output = Kept()
    with theirs, Upgraded(ours, b"") as stream:
        theirs.sendall(b"\x01\x00 raw\r\n")
        theirs.shutdown(socket.SHUT_WR)
        pump(stream, output, framed=False, stdin=None)
    assert output.stdout == b"\x01\x00 raw\r\n"


def echo(connection: socket.socket) -> None:
    """A container that runs `cat`: echoes until its stdin ends, then ends."""
    with connection:
        while data := connection.recv(65536):
            connection.sendall(frame(1, data))


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_input_longer_than_every_buffer_comes_back_whole(size: int) -> None:
    ours, theirs = socket.socketpair()
    output, text = Kept(), os.urandom(size)
    container = threading.Thread(target=echo, args=(theirs,))
    container.start()
    with Upgraded(ours, b"") as stream:
        pump(stream, output, framed=True, stdin=text)
    container.join()
    assert output.stdout == text


def test_input_from_a_descriptor_is_sent_and_its_end_is_told() -> None:
    ours, theirs = socket.socketpair()
    output = Kept()
    reads, writes = os.pipe()
    container = threading.Thread(target=echo, args=(theirs,))
    container.start()
    os.write(writes, b"typed")
    os.close(writes)
    with Upgraded(ours, b"") as stream:
        pump(stream, output, framed=True, stdin=reads)
    os.close(reads)
    container.join()
    assert output.stdout == b"typed"


def test_output_goes_on_after_the_input_has_ended() -> None:
    ours, theirs = socket.socketpair()
    output = Kept()

    def container() -> None:
        with theirs:
            assert theirs.recv(10) == b"x"
            assert theirs.recv(10) == b""
            theirs.sendall(frame(1, b"after the end"))

    running = threading.Thread(target=container)
    running.start()
    with Upgraded(ours, b"") as stream:
        pump(stream, output, framed=True, stdin=b"x")
    running.join()
    assert output.stdout == b"after the end"
