"""The magic `%exercise`: the map, a task, a check, a hint, a reset, and the solution once it is earned.

Interface:
- `Desk.open()`: what each form of the magic does, without IPython: `map`, `task`, `check`, `hint`, `reset`,
  `reset_all`, `solution`. All but `reset_all` return a `Page`.
- `exercise_command`: the magic's words, as a click command that returns the `Page`.

Rules: a failed check is a result, not an error, so that "Run All" goes on. The solution is shown after success only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from glassdock.client import connect
from glassdock.errors import Forbidden
from glassdock_jupyter import exercises_judge as judge
from glassdock_jupyter import exercises_views as views
from glassdock_jupyter.exercises_bench import Bench
from glassdock_jupyter.exercises_catalog import Catalog, Exercise, language
from glassdock_jupyter.exercises_progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from glassdock_jupyter.exercises_views import Page


@dataclass(slots=True)
class Desk:
    """The learner's desk: the course's exercises, their own progress, and the engine that both are about."""

    catalog: Catalog
    progress: Progress
    connect: Callable[[], Any]
    language: str

    @classmethod
    def open(cls, connect: Callable[[], Any] = connect) -> Desk:
        """The desk of whoever runs this process. Raises NotFound outside of a clone of the course."""
        return cls(Catalog.find(), Progress.load(), connect, language())

    def map(self) -> Page:
        """Every exercise with its state."""
        return views.course_map(self.catalog, self.progress, self.language)

    def task(self, name: str) -> Page:
        """The task; its set-up stands when this returns, unless the machine cannot run it."""
        exercise, bench = self._at(name)
        unmet = judge.unmet(exercise, bench)
        if not unmet:
            judge.begin(exercise, bench)
        return views.task(exercise, bench.values, self.language, unmet)

    def check(self, name: str) -> Page:
        """What the engine's state says; counted in the learner's progress unless the set-up is damaged."""
        exercise, bench = self._at(name)
        verdict = judge.judge(exercise, bench)
        if verdict.broken is None:
            self.progress.record(name, solved=verdict.solved)
        return views.report(exercise, verdict, bench.values, self.language)

    def hint(self, name: str) -> Page:
        """The next hint for the state that the engine is in now."""
        exercise, bench = self._at(name)
        verdict = judge.judge(exercise, bench)
        if verdict.solved or verdict.broken is not None:
            return views.report(exercise, verdict, bench.values, self.language)
        number = self.progress.hint(name, verdict.state)
        return views.hint(exercise, verdict, number, bench.values, self.language)

    def reset(self, name: str) -> Page:
        """Clear the exercise away, set it up anew, and show the task."""
        self.clear(name)
        return self.task(name)

    def clear(self, name: str) -> list[str]:
        """Clear the exercise away, progress and all; returns the names of what is gone from the engine."""
        exercise, bench = self._at(name)
        gone = judge.clear(exercise, bench)
        self.progress.forget(name)
        return gone

    def reset_all(self) -> list[str]:
        """Clear every exercise away, progress and all; returns the names of what is gone from the engine."""
        client = self.connect()
        gone = [judge.clear(exercise, self._bench(exercise, client)) for exercise in self.catalog.exercises]
        self.progress.forget_all()
        return [name for names in gone for name in names]

    def solution(self, name: str) -> Page:
        """The reference solution, with the learner's own names in it. Raises Forbidden before success."""
        exercise = self.catalog.get(name)
        if not self.progress.solved(name):
            raise Forbidden(
                f"the solution of {name} is shown once you have one of your own",
                f"%exercise {name} --hint asks you a question first, and tells you more each time.",
            )
        values = exercise.values(self.progress.seed)
        text = exercise.read(exercise.solution_folder / "solution.ipy", values)
        return views.Page(f"```python\n{text.strip()}\n```")

    def _at(self, name: str) -> tuple[Exercise, Bench]:
        exercise = self.catalog.get(name)
        return exercise, self._bench(exercise, self.connect())

    def _bench(self, exercise: Exercise, client: Any) -> Bench:
        return Bench(client, exercise.values(self.progress.seed), exercise.name)


@click.command("%exercise", add_help_option=False)
@click.argument("name", required=False)
@click.option("--check", "form", flag_value="check", help="Look at the engine, and say what is there.")
@click.option("--hint", "form", flag_value="hint", help="The next hint for where you are.")
@click.option("--reset", "form", flag_value="reset", help="Clear it away and begin again.")
@click.option("--solution", "form", flag_value="solution", help="The reference solution, after success.")
def exercise_command(name: str | None, form: str | None) -> Page:
    """Show the map of all exercises, or one task; check it, ask for a hint, reset it."""
    desk = Desk.open()
    if name is None:
        if form is not None:
            raise click.UsageError(f"--{form} needs the name of an exercise")
        return desk.map()
    forms = {None: desk.task, "check": desk.check, "hint": desk.hint, "reset": desk.reset, "solution": desk.solution}
    return forms[form](name)
