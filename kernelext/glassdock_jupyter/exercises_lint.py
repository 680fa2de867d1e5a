"""The course's own linter, the half that only reads: files, hints, and the two languages of every chapter.

Interface:
- `read(catalog, notebooks)`: what is wrong, one sentence each; an empty list for a course that is whole.
- `CODE_LINES`, `CODE_WIDTH`: how long a code cell may be, and how wide, so that it is read without scrolling.

Rules: nothing is run here; `exercises_trial` runs the exercises against an engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glassdock_jupyter.exercises_catalog import Catalog, Exercise

CODE_LINES, CODE_WIDTH = 20, 88
_TAGS = re.compile(r"nbval-ignore-output|raises-exception|work:[a-z-]+")
_QUESTION = ("?", "？")


def read(catalog: Catalog, notebooks: Path) -> list[str]:
    """Everything that reading alone finds."""
    problems = [*_stray(catalog), *_shares(catalog)]
    for exercise in catalog.exercises:
        problems += [f"{exercise.name}: {problem}" for problem in _exercise(exercise)]
    for chapter, exercises in catalog.chapters():
        problems += _chapter(notebooks, chapter, exercises)
    for path in sorted(notebooks.glob("[0-9]*.ipynb")):
        if path.stem not in dict(catalog.chapters()):
            problems.append(f"{path.name} has no exercises")
    return problems


def _stray(catalog: Catalog) -> Iterator[str]:
    expected = {catalog.root / "exercises.toml", catalog.root / "README.md"}
    for exercise in catalog.exercises:
        expected |= set(_files(exercise)) | set(exercise.folder.glob("start.*"))
    for path in sorted(catalog.root.rglob("*")):
        if path.is_file() and path not in expected and "__pycache__" not in path.parts:
            yield f"{path.relative_to(catalog.root)} belongs to no exercise"


def _shares(catalog: Catalog) -> Iterator[str]:
    broken = sum(exercise.kind == "break-and-fix" for exercise in catalog.exercises)
    if 3 * broken < len(catalog.exercises):
        yield f"only {broken} of {len(catalog.exercises)} exercises are break-and-fix, and a third should be"
    names = [exercise.name for exercise in catalog.exercises]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"there are two exercises called {name}"


def _files(exercise: Exercise) -> list[Path]:
    folder, solutions = exercise.folder, exercise.solution_folder
    files = [folder / "task.md", folder / "task.zh.md", folder / "check.py"]
    files += [solutions / "solution.ipy", solutions / "why.md", solutions / "why.zh.md"]
    return files + [solutions / f"wrong-{state}.ipy" for state in exercise.wrong]


def _exercise(exercise: Exercise) -> Iterator[str]:
    missing = [path for path in _files(exercise) if not path.is_file()]
    yield from (f"{path.relative_to(exercise.root)} is missing" for path in missing)
    starts = sorted(exercise.folder.glob("start.*"))
    if len(starts) != 1:
        yield f"there are {len(starts)} files start.*, and there must be one"
    if exercise.kind not in ("make", "break-and-fix"):
        yield f"the kind {exercise.kind!r} is not known"
    if missing or not starts:
        return
    if not exercise.wrong:
        yield "no wrong answer is named"
    for state in exercise.wrong:
        if state not in exercise.hints:
            yield f"the wrong answer {state} has no hints"
    for state, hints in exercise.hints.items():
        if len(hints) < 2:
            yield f"{state}: one hint is not a way from a question to a nudge"
        if any(not hint.en.strip() or not hint.zh.strip() for hint in hints):
            yield f"{state}: a hint is empty"
        if not any(mark in hints[0].en for mark in _QUESTION) or not any(mark in hints[0].zh for mark in _QUESTION):
            yield f"{state}: the first hint asks no question"
    yield from _code(exercise)


def _code(exercise: Exercise) -> Iterator[str]:
    check = exercise.code("check")
    wanted = ["check", "hintcheck"]
    if exercise.kind == "break-and-fix":
        wanted.append("failcheck")
        if exercise.start.suffix != ".py" or not hasattr(exercise.code("start"), "start"):
            yield "a break-and-fix exercise needs a start.py with start(bench)"
    for name in wanted:
        if not hasattr(check, name):
            yield f"check.py has no {name}(bench)"
    told = "".join(path.read_text(encoding="utf-8") for path in [*_files(exercise), exercise.start])
    for variable in exercise.variables:
        if variable.name not in told:
            yield f"the seed variable {variable.name} is used nowhere"


def _chapter(notebooks: Path, chapter: str, exercises: list[Exercise]) -> Iterator[str]:
    cells: dict[str, list[dict[str, Any]]] = {}
    for language, folder in (("en", notebooks), ("zh", notebooks / "zh")):
        path = folder / f"{chapter}.ipynb"
        if not path.is_file():
            yield f"{path.relative_to(notebooks.parent)} is missing"
            return
        data = json.loads(path.read_text(encoding="utf-8"))
        cells[language] = data["cells"]
        name = str(path.relative_to(notebooks.parent))
        if data["metadata"].get("kernelspec", {}).get("name") != "glassdock":
            yield f"{name} is not for the Glassdock kernel"
        yield from (f"{name}: {problem}" for problem in _cells(data["cells"], exercises))
    yield from (f"{chapter}: {problem}" for problem in _languages(cells["en"], cells["zh"]))


def _cells(cells: list[dict[str, Any]], exercises: list[Exercise]) -> Iterator[str]:
    ids = [cell["id"] for cell in cells]
    if len(set(ids)) != len(ids):
        yield "two cells have the same id"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    for cell in code:
        source = _source(cell)
        if len(source.splitlines()) > CODE_LINES:
            yield f"the cell {cell['id']} has more than {CODE_LINES} lines"
        if any(len(line) > CODE_WIDTH for line in source.splitlines()):
            yield f"the cell {cell['id']} has a line of more than {CODE_WIDTH} characters"
        if "NBVAL_" in source:
            yield f"the cell {cell['id']} steers nbval by a comment; use a tag"
        if cell["execution_count"] is None:
            yield f"the cell {cell['id']} has no stored run, so that nothing compares its output"
        if any(output["output_type"] == "error" for output in cell["outputs"]):
            yield f"the cell {cell['id']} is stored with an error"
        for tag in cell["metadata"].get("tags", []):
            if not _TAGS.fullmatch(tag):
                yield f"the cell {cell['id']} has the tag {tag!r}, which nobody reads"
    yield from _places(code, exercises)


def _places(code: list[dict[str, Any]], exercises: list[Exercise]) -> Iterator[str]:
    """Whether each exercise has its three cells: task, work, check."""
    sources = [_source(cell).strip() for cell in code]
    for exercise in exercises:
        for line in (f"%exercise {exercise.name}", f"%exercise {exercise.name} --check"):
            if sources.count(line) != 1:
                yield f"{line!r} stands there {sources.count(line)} times, and should once"
        if sum(f"work:{exercise.name}" in cell["metadata"].get("tags", []) for cell in code) != 1:
            yield f"the exercise {exercise.name} needs one cell with the tag 'work:{exercise.name}'"


def _languages(english: list[dict[str, Any]], chinese: list[dict[str, Any]]) -> Iterator[str]:
    if [cell["cell_type"] for cell in english] != [cell["cell_type"] for cell in chinese]:
        yield "the two languages do not have the same sequence of cells"
        return
    for one, other in zip(english, chinese, strict=True):
        if one["id"] != other["id"]:
            yield f"the cell {one['id']} is called {other['id']} in Chinese"
        if one["cell_type"] != "code":
            continue
        if _source(one) != _source(other):
            yield f"the code cell {one['id']} differs between the languages"
        if one["metadata"].get("tags") != other["metadata"].get("tags"):
            yield f"the tags of the cell {one['id']} differ between the languages"


def _source(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)
