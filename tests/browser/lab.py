"""A real JupyterLab for the browser tests, and a Chromium to look at it.

Interface:
- `Lab(folder, env)`: a copy of the course in `folder`, served; `.url(path)`; a context manager.
- `browser(profile)`: a page of a headless Chromium; a context manager.
- `open_chapter(page, lab, name)`, `run_all(page)`: as a learner does it, each returns when JupyterLab is done.

Rules: own port, own token, own settings; the notebooks that are run are copies without their stored outputs, so that no
run changes the tree and nothing stored is taken for what a run has drawn.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Page, expect, sync_playwright

from tests.course.chapters import ROOT

CHROMIUM = "/usr/bin/chromium"
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_SETTINGS: dict[str, dict[str, Any]] = {
    "apputils-extension/notification": {"checkForUpdates": False, "fetchNews": "false"},
    # Cells outside of the window stay in the document, where the test looks for them; on a busy machine the chapter may
    # open before the kernels are listed, and JupyterLab would ask which one is meant.
    "notebook-extension/tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
}


class Lab:
    """JupyterLab on a copy of the notebooks."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.token = secrets.token_hex(16)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, path: str) -> str:
        """The address of a path of the server, with the token."""
        return f"http://127.0.0.1:{self.port}/{path}?token={self.token}"

    def __enter__(self) -> Self:
        work, settings = self.folder / "work", self.folder / "settings"
        for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
            _copy_bare(path, work / path.relative_to(ROOT))
        for name, value in _SETTINGS.items():
            place = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(value))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1"]
        command += [
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
        ]
        command += [f"--ServerApp.root_dir={work}", f"--LabApp.workspaces_dir={self.folder / 'workspaces'}"]
        command += ["--allow-root"] if os.geteuid() == 0 else []
        env = {**self.env, "JUPYTERLAB_SETTINGS_DIR": str(settings)}
        with open(self.folder / "lab.log", "wb") as log:
            self._process = subprocess.Popen(
                command, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "lab.log").read_text()
            try:
                with urllib.request.urlopen(self.url("api/status"), timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError((self.folder / "lab.log").read_text())


@contextlib.contextmanager
def browser(profile: Path, *, width: int = 1500, height: int = 1000, dark: bool = False) -> Iterator[Page]:
    """A page of a headless Chromium with a profile of its own."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=CHROMIUM,
            headless=True,
            args=_FLAGS,
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        try:
            yield context.pages[0]
        finally:
            context.close()


def open_chapter(page: Page, lab: Lab, name: str) -> None:
    """Open a notebook and wait until its kernel is there."""
    page.goto(lab.url(f"lab/tree/notebooks/{name}.ipynb"))
    expect(page.get_by_text("Glassdock | Idle")).to_be_visible(timeout=60_000)


def run_all(page: Page) -> None:
    """Run → Run All Cells, and wait until the last code cell has its number and the kernel is idle."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts.last).to_have_text(re.compile(r"\[\d+\]:"), timeout=120_000)
    expect(page.get_by_text("Glassdock | Idle")).to_be_visible(timeout=30_000)


def _copy_bare(source: Path, target: Path) -> None:
    """A notebook as it is before anybody has run it."""
    notebook = json.loads(source.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(notebook), encoding="utf-8")
