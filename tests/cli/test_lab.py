"""`glassdock lab` from a terminal: the address, the page behind it, and what ends with Ctrl-C.

Rules: a real JupyterLab; its browser is the browser test's business (tests/browser).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.timeout(240)]


@pytest.fixture
def place(short_tmp: Path) -> Iterator[Daemon]:
    """A socket and a state folder that the lab may use; whatever is left of its engine is ended."""
    daemon = Daemon(short_tmp / "lab")
    yield daemon
    if daemon.process is not None:
        assert daemon.stop() == []


def _lab(place: Daemon) -> tuple[subprocess.Popen[str], list[str]]:
    """The lab, started, and what it printed up to its address."""
    command = [sys.executable, "-m", "glassdock", "lab", "--no-browser"]
    process = subprocess.Popen(
        command, env=place.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    return process, lines


def _end(process: subprocess.Popen[str]) -> str:
    # As Ctrl-C, which a shell's background jobs, and so this test in one, ignore.
    process.send_signal(signal.SIGTERM)
    try:
        rest, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0
    return rest


def test_the_lab_prints_an_address_and_ends_what_it_started(place: Daemon) -> None:
    process, lines = _lab(place)
    text = "".join(lines)
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/lab/tree/notebooks/00_welcome\.ipynb\?token=\w+", text)
        assert found, text
        with urllib.request.urlopen(found.group(), timeout=30) as answer:
            assert b"JupyterLab" in answer.read()
        assert "Course images: in the course registry" in text
        assert place.get("/glassdock/status")[1]["can_run"] is True
    finally:
        rest = _end(process)
    assert "The engine has ended" in rest
    assert not os.path.exists(place.socket)


def test_an_engine_that_was_there_stays(place: Daemon) -> None:
    place.start()
    process, lines = _lab(place)
    assert "was running" in "".join(lines)
    _end(process)
    assert place.get("/_ping")[0] == 200


def test_the_last_of_two_labs_ends_the_engine(place: Daemon) -> None:
    first, _ = _lab(place)
    second, lines = _lab(place)
    try:
        assert "was running" in "".join(lines)
        rest = _end(first)
        assert "another lab uses it" in rest
        assert place.get("/_ping")[0] == 200
    finally:
        rest = _end(second)
    assert "The engine has ended" in rest
    assert not os.path.exists(place.socket)


def test_a_port_that_is_taken_is_told(place: Daemon) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "glassdock", "lab", "--no-browser", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, env=place.env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "JupyterLab did not start" in done.stderr
    assert "Traceback" not in done.stderr
