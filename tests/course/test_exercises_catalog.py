"""The catalogue of exercises: order, seeds, texts with variables, languages."""

from __future__ import annotations

import string
from pathlib import Path

import pytest

from glassdock.errors import InvalidParameter, NotFound
from glassdock_jupyter.exercises_catalog import Catalog, Text, Variable, fill, language

SEEDS = [f"learner-{number}" for number in range(40)]


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.find()


def test_the_exercises_of_the_clone_are_found_and_ordered_by_chapter(catalog: Catalog) -> None:
    chapters = [chapter for chapter, _ in catalog.chapters()]
    assert chapters == sorted(chapters)
    assert chapters[0] == "00_welcome"


def test_values_are_the_learner_s_own_and_always_the_same(catalog: Catalog) -> None:
    exercise = catalog.get("keep-it-alive")
    assert exercise.values("anna") == exercise.values("anna")
    assert exercise.values("anna") != exercise.values("ben")


def test_values_within_an_exercise_are_distinct_and_fit_for_docker(catalog: Catalog) -> None:
    allowed = set(string.ascii_letters + string.digits + "-")
    for exercise in catalog.exercises:
        for seed in SEEDS:
            values = exercise.values(seed)
            assert len(set(values.values())) == len(values), (exercise.name, seed, values)
            assert all(set(value) <= allowed and value for value in values.values())


def test_a_number_stays_within_its_limits() -> None:
    variable = Variable("port", "number", low=20, high=25)
    drawn = {int(variable.value(seed, "x")) for seed in SEEDS}
    assert drawn <= set(range(20, 26))
    assert len(drawn) > 3


def test_an_unknown_draw_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="draws 'colour'"):
        Variable("x", "colour").value("seed", "exercise")


@pytest.mark.parametrize(
    "text, filled",
    [
        ("run {name} now", "run heron now"),
        ("{{.Name}} ${name} {other} {name}", "{{.Name}} ${name} {other} heron"),
        ("awk '{print $1}'", "awk '{print $1}'"),
        ("{{name}}", "{{name}}"),
    ],
)
def test_only_seed_variables_are_filled(text: str, filled: str) -> None:
    assert fill(text, {"name": "heron"}) == filled


def test_an_unknown_exercise_names_the_way_out(catalog: Catalog) -> None:
    with pytest.raises(NotFound) as caught:
        catalog.get("no-such-thing")
    assert "%exercise" in str(caught.value.remedy)


def test_a_folder_without_exercises_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there are no exercises"):
        Catalog.find(tmp_path)


def test_a_table_with_a_gap_names_the_exercise_and_the_gap(tmp_path: Path) -> None:
    (tmp_path / "exercises.toml").write_text('[[exercise]]\nname = "half"\nchapter = "00_welcome"\n')
    with pytest.raises(InvalidParameter, match="half has no"):
        Catalog.find(tmp_path)


def test_the_language_is_that_of_the_notebooks_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zh").mkdir()
    monkeypatch.chdir(tmp_path)
    assert language() == "en"
    monkeypatch.chdir(tmp_path / "zh")
    assert language() == "zh"
    monkeypatch.setenv("GLASSDOCK_LANG", "en_GB.UTF-8")
    assert language() == "en"
    assert Text("yes", "是").speak("zh") == "是"
