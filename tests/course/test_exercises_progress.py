"""The learner's progress: a file of their own, kept whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glassdock_jupyter.exercises_progress import Progress


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "glassdock" / "progress.json"


def test_a_new_learner_gets_a_seed_that_stays(path: Path) -> None:
    first = Progress.load(path)
    assert first.own_seed
    assert Progress.load(path).own_seed == first.own_seed


def test_what_is_solved_stays_solved_until_it_is_reset(path: Path) -> None:
    progress = Progress.load(path)
    progress.record("one", solved=True)
    progress.record("one", solved=False)
    assert Progress.load(path).solved("one")
    Progress.load(path).forget("one")
    assert not Progress.load(path).solved("one")


def test_hints_go_deeper_and_begin_anew_in_another_state(path: Path) -> None:
    progress = Progress.load(path)
    assert [progress.hint("one", "lost") for _ in range(3)] == [0, 1, 2]
    assert progress.hint("one", "nearly") == 0
    assert Progress.load(path).hint("one", "lost") == 3


def test_a_file_that_cannot_be_read_is_put_aside(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("{half a")
    progress = Progress.load(path)
    assert not progress.exercises
    assert path.with_suffix(".unreadable.json").read_text() == "{half a"
    assert json.loads(path.read_text())["seed"] == progress.own_seed


def test_the_file_lies_in_the_xdg_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Progress.load().path == tmp_path / "glassdock" / "progress.json"


def test_the_course_s_seed_takes_the_learner_s_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSDOCK_SEED", "course")
    assert Progress.load(path).seed == "course"
    assert Progress.load(path).own_seed != "course"
