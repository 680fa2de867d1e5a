"""Log drivers and their options by the official client."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def test_logs_over_files_that_had_their_turn(ready: Daemon, container: Callable[..., str]) -> None:
    words = ("--log-opt", "max-size=4k", "--log-opt", "max-file=3")
    name = container(*words, "busybox", "sh", "-c", "for i in $(seq 200); do echo line $i; done")
    lines = ready.docker("logs", name).stdout.splitlines()
    assert lines == [f"line {number}" for number in range(201 - len(lines), 201)] and 50 < len(lines) < 200
    assert ready.docker("logs", "--tail", "60", name).stdout.splitlines() == lines[-60:]
    path = Path(ready.get(f"/containers/{name}/json")[1]["LogPath"])
    assert sorted(os.listdir(path.parent)).count(path.name) == 1
    assert [Path(f"{path}.{number}").exists() for number in (1, 2, 3)] == [True, True, False]


def test_attributes_are_shown_as_details(ready: Daemon, container: Callable[..., str]) -> None:
    words = ("-e", "A=1", "-l", "who=me", "--log-opt", "env=A", "--log-opt", "labels=who", "--log-opt", "tag={{.Name}}")
    name = container(*words, "busybox", "echo", "hello")
    assert ready.docker("logs", "--details", name).stdout == f"A=1,tag={name},who=me hello\n"
    assert ready.docker("logs", name).stdout == "hello\n"


def test_none_keeps_nothing_and_says_so(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("--log-driver", "none", "busybox", "echo", "hello")
    refused = ready.docker("logs", name, check=False)
    assert "configured logging driver does not support reading" in refused.stderr
    assert not Path(ready.get(f"/containers/{name}/json")[1]["LogPath"] or "/nowhere").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--log-driver", "nosuch"), "logger: no log driver named 'nosuch' is registered"),
        (("--log-opt", "colour=red"), "unknown log opt 'colour' for json-file log driver"),
        (("--log-opt", "max-size=much"), "invalid size: 'much'"),
        (("--log-opt", "max-file=0"), "max-file cannot be less than 1"),
        (("--log-opt", "compress=true"), "compress cannot be true when max-size is not set"),
    ],
)
def test_what_makes_no_sense_is_refused(ready: Daemon, words: tuple[str, ...], message: str) -> None:
    before = ready.containers()
    refused = ready.docker("create", *words, "busybox", "true", check=False)
    assert refused.returncode == 1 and message in refused.stderr
    assert ready.containers() == before
