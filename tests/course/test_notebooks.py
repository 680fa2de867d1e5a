"""Every chapter, as the learner runs it: strict nbval twice in a row in both languages, unsolved and solved."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat as _nbformat
import pytest
from nbclient import NotebookClient

from tests.course.chapters import CHAPTERS, NOTEBOOKS, ROOT, cells_of, environment
from tests.support.daemon import Daemon
from tests.support.leaks import Session

pytestmark = [pytest.mark.needs_root, pytest.mark.timeout(600)]
nbformat: Any = _nbformat  # untyped upstream
SANITIZE = ROOT / "tests" / "nbval_sanitize.cfg"


@pytest.fixture(scope="module")
def kernel(engine: Daemon, session: Session) -> dict[str, str]:
    return environment(engine, session.folder / "chapters")


@pytest.fixture
def fresh(engine: Daemon, kernel: dict[str, str]) -> Iterator[None]:
    """The course at its beginning, before and after: once the exercises are reset, nothing of a chapter is left."""
    reset(kernel)
    containers, tags = engine.containers(), tags_of(engine)
    yield
    reset(kernel)
    assert engine.containers() == containers
    for tag in tags_of(engine) - tags:
        engine.sdk.images.remove(tag, force=True)


def reset(kernel: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-m", "glassdock", "course", "reset", "--all"], env=kernel, check=True)


def tags_of(engine: Daemon) -> set[str]:
    return {tag for image in engine.sdk.images.list() for tag in image.tags}


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_chapter_gives_its_stored_output_twice_in_a_row(language: str, kernel: dict[str, str]) -> None:
    folder = NOTEBOOKS / "zh" if language == "zh" else NOTEBOOKS
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", f"--nbval-sanitize-with={SANITIZE}", "--color=no"]
    command += ["-p", "no:cacheprovider", f"--rootdir={ROOT}", *(str(folder / f"{name}.ipynb") for name in CHAPTERS)]
    for turn in ("first", "second"):
        done = subprocess.run(command, cwd=ROOT, env=kernel, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"the {turn} run of {language}:\n{done.stdout[-20000:]}\n{done.stderr[-2000:]}"
        assert "skipped" not in done.stdout


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_student_who_writes_the_solutions_passes_every_check(
    chapter: str, kernel: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in kernel.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", 4)
    cells = []
    for cell in notebook.cells:
        work = [tag.removeprefix("work:") for tag in cell.metadata.get("tags", []) if tag.startswith("work:")]
        written = cells_of(work[0]) if work else [cell.source]
        cells += [nbformat.from_dict({**cell, "id": f"{cell.id}-{n}", "source": s}) for n, s in enumerate(written)]
    notebook.cells = cells
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    checks = [cell for cell in cells if cell.source.endswith("--check")]
    assert checks
    for cell in checks:
        told = cell.outputs[0]["data"]["text/plain"]
        assert "solved" in told.splitlines()[0], told


def test_the_language_of_the_exercises_is_that_of_the_notebook() -> None:
    for folder, word in ((NOTEBOOKS, "not yet"), (NOTEBOOKS / "zh", "还差一点")):
        for chapter in CHAPTERS:
            text = (folder / f"{chapter}.ipynb").read_text(encoding="utf-8")
            assert text.count(word) >= 2, (folder.name, chapter)
