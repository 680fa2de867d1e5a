"""The linters, run as tests: one command says whether a change may land.

Rules: nothing here writes to the tree. The tools come from the lock file, so that everybody has the same opinion.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tree import ROOT


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}", pytrace=False)


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def test_ruff_check() -> None:
    _run(_tool("ruff"), "check", "--quiet", ".")


def test_ruff_format() -> None:
    _run(_tool("ruff"), "format", "--check", "--quiet", ".")


@pytest.mark.timeout(600)
def test_mypy_strict() -> None:
    _run(_tool("mypy"))


def test_layers() -> None:
    _run(_tool("lint-imports"), "--no-logo")
