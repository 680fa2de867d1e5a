"""Ping and upgrade against real sockets."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from glassdock import errors
from glassdock.client import wire


@contextmanager
def listener(path: Path, answer: bytes | None) -> Iterator[None]:
    """A server for one connection; None accepts and says nothing."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        done = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                if answer is not None:
                    connection.sendall(answer)
                done.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def test_nothing_there_is_no(short_tmp: Path) -> None:
    assert wire.ping(short_tmp / "none.sock") is False


def test_a_stale_socket_is_no(short_tmp: Path) -> None:
    path = short_tmp / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    assert wire.ping(path) is False


def test_an_answer_is_yes(short_tmp: Path) -> None:
    with listener(short_tmp / "s", b"HTTP/1.1 200 OK\r\n\r\nOK"):
        assert wire.ping(short_tmp / "s") is True


def test_silence_is_an_error_that_says_so(short_tmp: Path) -> None:
    with listener(short_tmp / "s", None), pytest.raises(errors.Unavailable, match="does not answer"):
        wire.ping(short_tmp / "s", timeout=0.1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every socket")
def test_somebody_elses_socket_is_forbidden(short_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(short_tmp / "s"))
        server.listen()
        (short_tmp / "s").chmod(0)
        with pytest.raises(errors.Forbidden):
            wire.ping(short_tmp / "s")


def test_a_path_that_is_too_long_for_a_socket_is_told(short_tmp: Path) -> None:
    with pytest.raises(errors.InvalidParameter, match="cannot be an engine's socket"):
        wire.ping(short_tmp / ("x" * 200))


def test_an_upgrade_keeps_the_bytes_that_came_with_its_head(short_tmp: Path) -> None:
    answer = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\nearly"
    with listener(short_tmp / "s", answer), wire.upgrade(f"unix://{short_tmp}/s", "/x") as stream:
        assert stream.pending()
        assert stream.recv() == b"early"


def test_a_refused_upgrade_is_the_engines_error(short_tmp: Path) -> None:
    body = json.dumps(errors.to_body(errors.NotFound("No such container: web", "Look at ps."))).encode()
    head = f"HTTP/1.1 404 Not Found\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with listener(short_tmp / "s", head + body), pytest.raises(errors.NotFound) as caught:
        wire.upgrade(f"unix://{short_tmp}/s", "/x")
    assert caught.value.remedy == "Look at ps."


def test_an_upgrade_where_nobody_listens_is_unavailable(short_tmp: Path) -> None:
    with pytest.raises(errors.Unavailable):
        wire.upgrade(f"unix://{short_tmp}/none", "/x")
