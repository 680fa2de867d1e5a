"""`glassdock course check` on a running engine: every exercise, unsolved, wrong and solved, for two learners."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glassdock_jupyter.exercises_catalog import Catalog
from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.timeout(300)]


def course(engine: Daemon, folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glassdock", "course", *words],
        env={**engine.env, "XDG_STATE_HOME": str(folder), **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", [exercise.name for exercise in Catalog.find().exercises])
def test_every_exercise_can_be_failed_told_apart_and_solved(engine: Daemon, tmp_path: Path, name: str) -> None:
    done = course(engine, tmp_path, "check", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The course is whole." in done.stdout
    assert not (tmp_path / "glassdock").exists(), "the linter must not touch a learner's progress"


def test_an_unknown_exercise_is_a_sentence(engine: Daemon, tmp_path: Path) -> None:
    done = course(engine, tmp_path, "check", "no-such-thing")
    assert done.returncode == 1
    assert "there is no exercise 'no-such-thing'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reset_wants_one_exercise_or_all(engine: Daemon, tmp_path: Path) -> None:
    assert course(engine, tmp_path, "reset").returncode != 0
    assert course(engine, tmp_path, "reset", "--all").returncode == 0


def test_the_course_images_are_in_the_registry_however_often_one_asks(engine: Daemon, tmp_path: Path) -> None:
    for _ in range(2):
        done = course(engine, tmp_path, "images")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "file, old, new, told",
    [
        (
            "solutions/00_welcome/keep-it-alive/solution.ipy",
            "TOWN={town}",
            "TOWN=Atlantis",
            "the reference solution does not pass",
        ),
        (
            "solutions/00_welcome/keep-it-alive/wrong-no-town.ipy",
            "--name {name}",
            "--name {name} -e TOWN={town}",
            "the wrong answer no-town is taken for solved",
        ),
        (
            "exercises.toml",
            "[exercise.hints.nothing-yet]",
            "[exercise.hints.another-state]",
            "there are no hints for the state 'nothing-yet'",
        ),
    ],
)
def test_a_fault_in_an_exercise_is_found_by_trying_it(
    engine: Daemon, tmp_path: Path, file: str, old: str, new: str, told: str
) -> None:
    shutil.copytree(Catalog.find().root, tmp_path / "exercises")
    shutil.copytree(Catalog.find().root.parent / "notebooks", tmp_path / "notebooks")
    place = tmp_path / "exercises" / file
    text = place.read_text()
    assert old in text
    place.write_text(text.replace(old, new, 1))
    done = course(
        engine, tmp_path, "check", "keep-it-alive", "--seed", "x", GLASSDOCK_EXERCISES=str(tmp_path / "exercises")
    )
    assert done.returncode == 1, done.stdout
    assert told in done.stdout, done.stdout + done.stderr
