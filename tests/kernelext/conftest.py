"""A shell in this process for what needs no kernel, and a real kernel for what does.

Interface:
- fixture `shell`: an `InteractiveShell` with the extension loaded; unloaded afterwards.
- fixture `notebook`: `notebook(cell, cell, …)` runs the cells in a fresh Glassdock kernel on the session's engine.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from traitlets.config import Config

from glassdock_jupyter import kernelspec, load_ipython_extension, unload_ipython_extension
from tests.support.daemon import Daemon

Notebook = Callable[..., list[list[dict[str, Any]]]]


@pytest.fixture(autouse=True)
def home() -> None:
    """IPython's folder is there, or it would make a temporary one and leave it."""
    os.makedirs(os.environ["IPYTHONDIR"], exist_ok=True)


@pytest.fixture
def bare() -> InteractiveShell:
    """A shell without the magics, that keeps no history."""
    config = Config()
    config.HistoryManager.enabled = False
    return InteractiveShell(config=config)  # type: ignore[no-untyped-call]


@pytest.fixture
def shell(bare: InteractiveShell) -> Iterator[InteractiveShell]:
    """A shell with the magics."""
    load_ipython_extension(bare)
    yield bare
    unload_ipython_extension(bare)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The Glassdock kernel, installed where only this test finds it; its name."""
    kernelspec.install(str(tmp_path))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    return kernelspec.NAME


@pytest.fixture
def notebook(engine: Daemon, kernel: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Notebook:
    """Run cells in a fresh kernel; the outputs of each cell."""
    engine.docker("pull", "busybox")
    for name in ("GLASSDOCK_HOST", "GLASSDOCK_ROOT", "DOCKER_HOST", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, engine.env[name])

    def run(*cells: str) -> list[list[dict[str, Any]]]:
        made = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
        document = nbformat.v4.new_notebook(cells=made)  # type: ignore[no-untyped-call]
        client = NotebookClient(
            document,
            kernel_name=kernel,
            timeout=60,
            allow_errors=True,
            coalesce_streams=True,
            resources={"metadata": {"path": str(tmp_path)}},
        )
        asyncio.run(client.async_execute(env=dict(os.environ)))  # the blocking form leaves an event loop behind
        return [[dict(output) for output in cell.outputs] for cell in document.cells]

    return run


def shown(outputs: list[dict[str, Any]]) -> str:
    """The text of a cell's result, "" if it has none."""
    return "".join(output["data"]["text/plain"] for output in outputs if output["output_type"] == "execute_result")


def stream(outputs: list[dict[str, Any]], name: str = "stdout") -> str:
    """What a cell wrote."""
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream" and output["name"] == name)


def errors(outputs: list[dict[str, Any]]) -> list[str]:
    """The kinds of error that a cell ended in."""
    return [output["ename"] for output in outputs if output["output_type"] == "error"]
