"""The linter finds nothing in the course, and finds each fault that is put into a copy of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glassdock_jupyter.exercises_catalog import Catalog
from glassdock_jupyter.exercises_lint import read

CHAPTER = "00_welcome"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = Catalog.find().root
    shutil.copytree(root, tmp_path / "exercises")
    shutil.copytree(root.parent / "notebooks", tmp_path / "notebooks")
    return tmp_path


def problems(root: Path) -> list[str]:
    return read(Catalog.find(root / "exercises"), root / "notebooks")


def test_the_course_is_whole() -> None:
    root = Catalog.find().root
    assert read(Catalog.find(), root.parent / "notebooks") == []


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda root: (root / CHAPTER / "keep-it-alive" / "notes.txt").write_text("x"), "belongs to no exercise"),
        (lambda root: (root / CHAPTER / "keep-it-alive" / "task.zh.md").unlink(), "task.zh.md is missing"),
        (lambda root: (root / CHAPTER / "keep-it-alive" / "start.ipy").unlink(), "there are 0 files start"),
        (
            lambda root: replace(root / "exercises.toml", "[exercise.hints.it-ended]", "[exercise.hints.other]"),
            "no hints",
        ),
        (lambda root: replace(root / "exercises.toml", 'kind = "break-and-fix"', 'kind = "make"'), "a third"),
        (
            lambda root: replace(root / CHAPTER / "why-it-stopped" / "check.py", "def failcheck", "def nocheck"),
            "has no failcheck",
        ),
    ],
)
def test_a_fault_in_an_exercise_is_found(copy: Path, change: Callable[[Path], Any], told: str) -> None:
    change(copy / "exercises")
    assert any(told in problem for problem in problems(copy)), problems(copy)


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda cell: cell.update(source="print('only here')"), "differs between the languages"),
        (lambda cell: cell.update(source="\n".join(f"x = {n}" for n in range(21))), "more than 20 lines"),
        (lambda cell: cell.update(source="# NBVAL_SKIP"), "use a tag"),
        (lambda cell: cell.update(execution_count=None), "no stored run"),
        (lambda cell: cell["metadata"].update(tags=["slow"]), "which nobody reads"),
        (lambda cell: cell.update(id="another"), "is called"),
        (lambda cell: cell["outputs"].append({"output_type": "error"}), "stored with an error"),
    ],
)
def test_a_fault_in_a_notebook_is_found(copy: Path, change: Callable[[dict[str, Any]], Any], told: str) -> None:
    path = copy / "notebooks" / f"{CHAPTER}.ipynb"
    notebook = json.loads(path.read_text())
    change(next(cell for cell in notebook["cells"] if cell["cell_type"] == "code"))
    path.write_text(json.dumps(notebook))
    assert any(told in problem for problem in problems(copy)), problems(copy)


def test_a_chapter_without_its_exercise_cells_is_found(copy: Path) -> None:
    for folder in (copy / "notebooks", copy / "notebooks" / "zh"):
        path = folder / f"{CHAPTER}.ipynb"
        notebook = json.loads(path.read_text())
        notebook["cells"] = [c for c in notebook["cells"] if "keep-it-alive" not in "".join(c["source"])]
        path.write_text(json.dumps(notebook))
    told = problems(copy)
    assert any("'%exercise keep-it-alive' stands there 0 times" in problem for problem in told), told


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    path.write_text(text.replace(old, new))
