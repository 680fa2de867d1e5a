"""The learner's desk on a running engine: what each form of `%exercise` shows, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from glassdock.errors import Forbidden, NotFound
from glassdock_jupyter.exercises import Desk, exercise_command
from glassdock_jupyter.exercises_catalog import Catalog
from glassdock_jupyter.exercises_progress import Progress
from tests.support.daemon import Daemon

pytestmark = pytest.mark.needs_root
NAME = "keep-it-alive"
BROKEN = "why-it-stopped"


@pytest.fixture
def desk(engine: Daemon, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(Catalog.find(), Progress.load(tmp_path / "progress.json"), lambda: engine.sdk, "en")
    made.reset_all()
    yield made
    made.reset_all()


def values(desk: Desk, name: str) -> dict[str, str]:
    return desk.catalog.get(name).values(desk.progress.seed)


def solve(engine: Daemon, desk: Desk) -> None:
    mine = values(desk, NAME)
    engine.sdk.images.pull("busybox")
    engine.sdk.containers.run(
        "busybox", ["sleep", "600"], name=mine["name"], environment={"TOWN": mine["town"]}, detach=True
    )


def test_any_way_that_reaches_the_state_passes_and_the_map_shows_it(engine: Daemon, desk: Desk) -> None:
    assert f"○ **{NAME}**" in repr(desk.map())
    assert "not yet" in repr(desk.check(NAME))
    solve(engine, desk)
    told = repr(desk.check(NAME))
    assert "solved" in told
    assert "✗" not in told
    assert f"● **{NAME}**" in repr(desk.map())


def test_the_solution_is_shown_after_success_with_the_learner_s_own_names(engine: Daemon, desk: Desk) -> None:
    with pytest.raises(Forbidden) as caught:
        desk.solution(NAME)
    assert "--hint" in str(caught.value.remedy)
    solve(engine, desk)
    desk.check(NAME)
    assert values(desk, NAME)["name"] in repr(desk.solution(NAME))


def test_hints_go_from_a_question_to_a_nudge_and_begin_anew_in_another_state(engine: Daemon, desk: Desk) -> None:
    told = [repr(desk.hint(NAME)) for _ in range(4)]
    assert [text.splitlines()[0] for text in told] == [f"**Hint** ({number} of 3)" for number in (1, 2, 3, 3)]
    assert "?" in told[0]
    assert values(desk, NAME)["name"] in told[2]
    engine.sdk.images.pull("busybox")
    engine.sdk.containers.run("busybox", "true", name=values(desk, NAME)["name"])
    assert "(1 of 3)" in repr(desk.hint(NAME))


def test_asking_for_a_task_again_leaves_the_learner_s_repair_alone(engine: Daemon, desk: Desk) -> None:
    desk.task(BROKEN)
    mine = values(desk, BROKEN)
    engine.sdk.containers.get(mine["name"]).remove()
    engine.sdk.containers.run(mine["image"], name=mine["name"], environment={"TOWN": mine["town"]}, detach=True)
    desk.task(BROKEN)
    assert "solved" in repr(desk.check(BROKEN))


def test_a_damaged_set_up_is_not_the_learner_s_fault_and_is_not_counted(engine: Daemon, desk: Desk) -> None:
    desk.task(BROKEN)
    mine = values(desk, BROKEN)
    engine.sdk.containers.get(mine["name"]).remove()
    engine.sdk.images.remove(mine["image"])
    told = repr(desk.check(BROKEN))
    assert "not your answer's fault" in told
    assert f"%exercise {BROKEN} --reset" in told
    assert BROKEN not in desk.progress.exercises


def test_a_reset_sets_the_scene_again_and_forgets(engine: Daemon, desk: Desk) -> None:
    solve(engine, desk)
    desk.check(NAME)
    assert "Exercise" in repr(desk.reset(NAME))
    assert not desk.progress.solved(NAME)
    assert values(desk, NAME)["name"] not in {container.name for container in engine.sdk.containers.list(all=True)}


def test_an_exercise_that_this_machine_cannot_run_says_what_it_needs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glassdock_jupyter import exercises_judge

    class Other:
        """A machine with another store, which this one cannot be."""

        def extra(self, client: object, path: str) -> dict[str, object]:
            return {"axes": [{"name": "isolation", "level": "root"}, {"name": "store", "level": "copy"}]}

    monkeypatch.setattr(exercises_judge, "extra", Other().extra)
    told = repr(desk.task("the-lost-letter"))
    assert "store=overlay" in told
    assert "ready" not in told


def test_an_unknown_name_and_a_form_without_a_name_are_sentences(desk: Desk) -> None:
    import click

    with pytest.raises(NotFound, match="there is no exercise"):
        desk.check("no-such-thing")
    with pytest.raises(click.UsageError, match="--check needs the name"):
        exercise_command.main(["--check"], standalone_mode=False)
