"""The command line as a process: words, exit codes, speed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time

import click
import pytest

from glassdock.cli import main


def run(*words: str, program: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program] if program else [sys.executable, "-m", "glassdock", *words]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})}
    )


def test_help_lists_every_command_without_importing_one() -> None:
    program = (
        "import sys; from glassdock.cli.main import main; main(['--help']);"
        "sys.exit(','.join(m for m in sys.modules if m.startswith(('docker', 'requests', 'rich', 'aiohttp'))))"
    )
    done = run(program=program)
    assert done.stderr.strip() == ""
    for name in ("run", "ps", "build", "daemon", "doctor", "lab", "container"):
        assert f"\n  {name} " in done.stdout


def test_help_is_fast() -> None:
    took = []
    for _ in range(5):
        began = time.monotonic()
        run("--help")
        took.append(time.monotonic() - began)
    assert min(took) < 0.15, took


@pytest.mark.parametrize(
    "table",
    [main._TOP, main._CONTAINER, main._IMAGE, main._NETWORK, main._ENGINE],
    ids=["top", *main._ALIASES, "e"][:5],
)
def test_every_row_of_a_table_leads_to_a_command(table: dict[str, tuple[str, str]]) -> None:
    for target, text in table.values():
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(f"glassdock.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        assert text


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["run"], 1, "glassdock: 'glassdock run' requires at least 1 argument"),
        (["run", "--bad", "x"], 125, "unknown flag: --bad"),
        (["ps", "--bad"], 125, "unknown flag: --bad"),
        (["ps", "-Z"], 125, "unknown shorthand flag: 'Z' in -Z"),
        (["tag", "x"], 1, "glassdock: 'glassdock tag' requires at least 2 arguments"),
        (["foo"], 1, "glassdock: unknown command: glassdock foo"),
        (["container", "foo"], 1, "glassdock: unknown command: glassdock container foo"),
        (["container", "lst"], 1, "glassdock: unknown command: glassdock container lst\n\nDid you mean ls?"),
        (["run", "--memory"], 125, "flag needs an argument: --memory"),
        (["run", "--pids-limit", "x", "y"], 125, 'invalid argument for "--pids-limit"'),
        (["build"], 1, "glassdock: 'glassdock build' requires 1 argument"),
        (["-H", "unix:///nowhere/e.sock", "ps"], 1, "glassdock: no engine answers on unix:///nowhere/e.sock"),
        (["-H", "unix:///nowhere/e.sock", "run", "x"], 125, "glassdock: no engine answers on unix:///nowhere/e.sock"),
        (["logs", "--since", "yesterday", "x"], 1, 'glassdock: invalid value "yesterday": not a time'),
        (["run", "--env-file", "/nowhere", "x"], 1, "glassdock: --env-file: open /nowhere: No such file or directory"),
    ],
)
def test_what_is_wrong_is_told_in_dockers_words(words: list[str], code: int, told: str) -> None:
    done = run(*words)
    assert done.stderr.startswith(told)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.returncode == code


@pytest.mark.parametrize("platform", ["darwin", "win32"])
@pytest.mark.parametrize("words", [["--help"], ["ps"], ["daemon"], ["lab"], ["doctor"]])
def test_elsewhere_every_command_ends_in_one_sentence(platform: str, words: list[str]) -> None:
    done = run(
        program=f"import sys; from glassdock.cli.main import main;sys.platform = {platform!r}; sys.exit(main({words}))"
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    for name in ("Binder", "devcontainer", "WSL2"):
        assert name in line


def test_status_without_an_engine_starts_none_and_says_so(tmp_path: object) -> None:
    done = run("status", env={"GLASSDOCK_HOST": f"{tmp_path}/e.sock"})
    assert "not running" in done.stdout
    assert done.returncode == 3


def test_a_bug_is_a_sentence_and_its_traceback_is_a_variable_away() -> None:
    program = "import sys; from glassdock.cli import main;main.parse = lambda words: 1 / 0; sys.exit(main.main(['ps']))"
    done = run(program=program)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" in run(program=program, env={"GLASSDOCK_DEBUG": "1"}).stderr


def test_the_reader_of_a_pipe_may_go_away() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m glassdock run --help | head -n 1"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
