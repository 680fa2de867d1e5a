"""Errors come out of the SDK as they went into the daemon's answer: none of the tree is unmapped."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glassdock import errors
from glassdock.client import Session
from glassdock.client.containers import Inspect
from glassdock.client.extras import extra
from glassdock.client.mapping import from_event


class Engine(socketserver.ThreadingUnixStreamServer):
    """Answers `/_ping` and `/version` as an engine does, and everything else with `answer`."""

    daemon_threads = True
    answer: tuple[int, bytes] = (200, b"{}")


class Handler(http.server.BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        status, body = self.server.answer
        if self.path == "/_ping":
            status, body = 200, b"OK"
        elif self.path.endswith("/version"):
            status, body = 200, json.dumps({"ApiVersion": "1.41", "Version": "x"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def engine_that_refuses(short_tmp: Path) -> Iterator[tuple[Engine, Session]]:
    with Engine(str(short_tmp / "s"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        session = Session(f"unix://{short_tmp}/s")
        try:
            yield server, session
        finally:
            session.close()
            server.shutdown()
            thread.join()


def tree(root: type[errors.GlassdockError] = errors.GlassdockError) -> list[type[errors.GlassdockError]]:
    """The classes that errors.py draws: what a command line adds for itself never goes over the wire."""
    children = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root] + [kind for child in children for kind in tree(child)]


@pytest.mark.parametrize("kind", [kind for kind in tree() if kind.status >= 400])
def test_every_error_of_the_tree_survives_the_way_through_the_sdk(
    kind: type[errors.GlassdockError], engine_that_refuses: tuple[Engine, Session]
) -> None:
    server, session = engine_that_refuses
    server.answer = (kind.status, json.dumps(errors.to_body(kind("it is so", "Do this."))).encode())
    with pytest.raises(errors.GlassdockError) as caught:
        Inspect(("web",), "container").do(session)
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.remedy) == ("it is so", "Do this.")


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "No such container: web", errors.NotFound),
        (409, "name is in use", errors.Conflict),
        (400, 'OCI runtime create failed: exec: "x": executable file not found in $PATH', errors.CommandNotFound),
        (400, 'OCI runtime create failed: exec: "/bin": permission denied', errors.CommandNotExecutable),
        (500, "OCI runtime create failed: mount proc: no such device", errors.StartFailed),
        (500, "something else", errors.GlassdockError),
    ],
)
def test_another_engines_errors_are_known_by_status_and_words(
    status: int, message: str, kind: type[errors.GlassdockError], engine_that_refuses: tuple[Engine, Session]
) -> None:
    server, session = engine_that_refuses
    server.answer = (status, json.dumps({"message": message}).encode())
    with pytest.raises(errors.GlassdockError) as caught:
        Inspect(("web",), "container").do(session)
    assert type(caught.value) is kind
    assert caught.value.message == message


def test_an_answer_that_is_no_json_is_still_a_sentence(engine_that_refuses: tuple[Engine, Session]) -> None:
    server, session = engine_that_refuses
    server.answer = (502, b"<html>bad gateway</html>")
    with pytest.raises(errors.GlassdockError):
        Inspect(("web",), "container").do(session)


def test_what_only_our_engine_has_is_said_to_be_missing_elsewhere(engine_that_refuses: tuple[Engine, Session]) -> None:
    server, session = engine_that_refuses
    server.answer = (404, b'{"message":"page not found"}')
    with pytest.raises(errors.NotSupported, match="needs the Glassdock engine") as caught:
        extra(session.client, "status")
    assert caught.value.remedy


def test_where_nobody_listens_the_address_is_named(short_tmp: Path) -> None:
    with pytest.raises(errors.Unavailable, match="no engine answers"):
        _ = Session(f"unix://{short_tmp}/none").client


def test_an_error_among_the_lines_of_a_stream_is_found() -> None:
    assert from_event({"status": "Pulling"}) is None
    error = from_event({"error": "denied", "errorDetail": {"message": "denied", "code": 401}})
    assert isinstance(error, errors.Unauthorized)
    detail = errors.to_body(errors.BuildError("Dockerfile:2: unknown instruction RUNN", "Did you mean RUN?"))
    assert isinstance(from_event({"errorDetail": detail}), errors.BuildError)
