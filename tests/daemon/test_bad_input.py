"""What a person gets wrong: a sentence that says what happened and what to do, Docker's exit code, nothing left.

Rules: the session's leak check is the other half of each of these tests.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def glassdock(engine: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Our own command line against the same engine."""
    command = [sys.executable, "-m", "glassdock", *arguments]
    return subprocess.run(command, env=engine.env, capture_output=True, text=True, timeout=60, check=False)


def test_an_image_that_nobody_has(ready: Daemon) -> None:
    before = ready.containers()
    done = ready.docker("run", "--rm", "localhost:1/no-such-image", check=False)
    assert done.returncode == 125
    assert "Unable to find image 'localhost:1/no-such-image:latest' locally" in done.stderr
    assert ready.containers() == before


def test_a_name_that_is_no_reference(ready: Daemon) -> None:
    done = ready.docker("run", "--rm", "Upper/Case", check=False)
    assert done.returncode == 125
    assert "must be lowercase" in done.stderr


def test_an_unknown_image_of_the_course_registry(ready: Daemon) -> None:
    registry = ready.get("/glassdock/status")[1]["registry"]
    done = ready.docker("pull", f"{registry}/library/nothing", check=False)
    assert done.returncode == 1
    assert "nothing" in done.stderr


@pytest.mark.parametrize("who", ["docker", "glassdock"])
def test_an_unknown_flag(ready: Daemon, who: str) -> None:
    words = ("run", "--no-such-flag", "busybox")
    done = ready.docker(*words, check=False) if who == "docker" else glassdock(ready, *words)
    assert done.returncode == 125
    assert "unknown flag: --no-such-flag" in done.stderr


def test_a_name_that_is_taken(ready: Daemon) -> None:
    ready.docker("create", "--name", "taken", "busybox")
    try:
        done = ready.docker("run", "--name", "taken", "busybox", check=False)
        assert done.returncode == 125
        assert 'The container name "/taken" is already in use by container' in done.stderr
    finally:
        ready.docker("rm", "taken")


def test_a_port_that_is_taken(ready: Daemon) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = ready.docker("run", "--rm", "-p", f"127.0.0.1:{port}:80", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "address already in use" in done.stderr


def test_our_own_command_line_says_the_same(ready: Daemon) -> None:
    assert glassdock(ready, "run", "--rm", "busybox", "no-such-program").returncode == 127
    assert glassdock(ready, "run", "--rm", "busybox", "/etc").returncode == 126
    refused = glassdock(ready, "run", "--rm", "localhost:1/nothing")
    assert refused.returncode == 125
    assert "Traceback" not in refused.stderr


def _build(engine: Daemon, folder: Path, dockerfile: str) -> subprocess.CompletedProcess[str]:
    (folder / "Dockerfile").write_text(dockerfile)
    return engine.docker("build", "-t", "bad", str(folder), check=False)


def test_a_dockerfile_with_a_typo_names_its_line(ready: Daemon, tmp_path: Path) -> None:
    done = _build(ready, tmp_path, "FROM busybox\nRUN true\nCOPPY a b\n")
    assert done.returncode != 0
    assert "unknown instruction: COPPY" in done.stderr
    assert "line 3" in done.stderr


def test_a_source_that_is_not_in_the_context(ready: Daemon, tmp_path: Path) -> None:
    done = _build(ready, tmp_path, "FROM busybox\nCOPY missing.txt /\n")
    assert done.returncode != 0
    assert "missing.txt" in done.stderr
    assert "line 2" in done.stderr or "Dockerfile:2" in done.stderr


def test_an_empty_dockerfile(ready: Daemon, tmp_path: Path) -> None:
    done = _build(ready, tmp_path, "# nothing here\n")
    assert done.returncode != 0
    assert done.stderr.strip()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/containers/no-such/json", None, 404),
        ("POST", "/containers/no-such/start", None, 404),
        ("DELETE", "/containers/no-such", None, 404),
        ("GET", "/images/no-such/json", None, 404),
        ("GET", "/networks/no-such", None, 404),
        ("GET", "/volumes/no-such", None, 404),
        ("GET", "/no/such/path", None, 404),
        ("POST", "/containers/create", {"Image": "no-such"}, 404),
        ("POST", "/containers/create", {}, 400),
        ("GET", "/v1.10/version", None, 400),
        ("GET", "/v1.99/version", None, 400),
    ],
)
def test_every_refusal_is_a_message(ready: Daemon, method: str, path: str, body: object, status: int) -> None:
    seen, answer = ready.request(method, path, body)
    assert seen == status
    assert answer["message"]


def test_json_that_is_none(ready: Daemon) -> None:
    from tests.support.daemon import UnixConnection

    connection = UnixConnection(ready.socket)
    connection.request("POST", "/containers/create", b"{not json", {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 400
    assert b"message" in response.read()
    connection.close()
