"""`glassdock exec` on a real engine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon

pytestmark = pytest.mark.needs_root


@pytest.fixture
def name(engine: Daemon) -> Iterator[str]:
    """A container that sleeps."""
    run(engine, "run", "-d", "--name", "execs", "busybox", "sleep", "100")
    yield "execs"
    run(engine, "rm", "-f", "execs")


def run(engine: Daemon, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command line of ours."""
    command = [sys.executable, "-m", "glassdock", *words]
    return subprocess.run(command, env=engine.env, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def test_output_code_and_input(engine: Daemon, name: str) -> None:
    done = run(engine, "exec", "-i", name, "sh", "-c", "cat; echo oops >&2; exit 7", stdin="line\n")
    assert (done.stdout, done.stderr, done.returncode) == ("line\n", "oops\n", 7)
    options = ("-u", "7:8", "-w", "/etc", "-e", "COLOUR=green")
    done = run(engine, "exec", *options, name, "sh", "-c", "id -u; pwd; echo $COLOUR")
    assert done.stdout.split() == ["7", "/etc", "green"]
    assert run(engine, "container", "exec", name, "no-such-program").returncode == 127
    detached = run(engine, "exec", "-d", name, "touch", "/made")
    assert (detached.stdout, detached.returncode) == ("", 0)


def test_a_container_that_does_not_run(engine: Daemon) -> None:
    done = run(engine, "exec", "no-such-container", "true")
    assert done.returncode == 1
    assert "No such container: no-such-container" in done.stderr
