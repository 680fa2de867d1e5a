"""The course's own linter, the half that does: every exercise, solved and failed against a running engine.

Interface:
- `trial(exercise, seed, client, run)`: what is wrong, one sentence each, for one learner's seed.
- `Shell`: runs the cells of a `.ipy` file, divided by lines `# %%`, in an IPython of this process.

Rules: unsolved must fail; a named wrong answer must be told apart, with its own report and hints; the reference
solution must pass; a damaged set-up must not count as an answer; a reset leaves nothing. The learner's progress is
not touched.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from glassdock.errors import GlassdockError
from glassdock_jupyter import exercises_judge as judge
from glassdock_jupyter import exercises_views as views
from glassdock_jupyter.exercises_bench import Bench
from glassdock_jupyter.exercises_catalog import LANGUAGES, Exercise

Run = Callable[[str], None]


def trial(exercise: Exercise, seed: str, client: Any, run: Run) -> list[str]:
    """Everything that goes wrong with `exercise` for a learner with `seed`."""
    bench = Bench(client, exercise.values(seed), exercise.name)
    unmet = judge.unmet(exercise, bench)
    if unmet:
        return [f"not tried, this machine lacks {', '.join(unmet)}"]
    try:
        return list(_trial(exercise, bench, run))
    finally:
        judge.clear(exercise, bench)


def _trial(exercise: Exercise, bench: Bench, run: Run) -> Iterator[str]:
    with _begun(exercise, bench):
        judge.begin(exercise, bench)  # asking for the task twice must not disturb anything
        unsolved = judge.judge(exercise, bench)
        if unsolved.solved:
            yield "it is solved before anything was done"
        if unsolved.broken is not None:
            yield f"its own set-up is called damaged: {unsolved.broken.en}"
        yield from _hints(exercise, unsolved, "unsolved")
    seen = {_report(exercise, unsolved, bench)}
    for state in exercise.wrong:
        with _begun(exercise, bench):
            run(_answer(exercise, f"wrong-{state}.ipy", bench))
            verdict = judge.judge(exercise, bench)
            if verdict.solved or verdict.broken is not None or verdict.state != state:
                got = "solved" if verdict.solved else "damaged" if verdict.broken is not None else verdict.state
                yield f"the wrong answer {state} is taken for {got}"
            yield from _hints(exercise, verdict, state)
            report = _report(exercise, verdict, bench)
            if report in seen:
                yield f"the wrong answer {state} gets no feedback of its own"
            seen.add(report)
    with _begun(exercise, bench):
        run(_answer(exercise, "solution.ipy", bench))
        solved = judge.judge(exercise, bench)
        if not solved.solved:
            yield f"the reference solution does not pass:\n{_report(exercise, solved, bench)}"
        else:
            for language in LANGUAGES:
                views.report(exercise, solved, bench.values, language)
    if exercise.kind == "break-and-fix":
        with _begun(exercise, bench):
            judge.clear(exercise, bench)
            if judge.judge(exercise, bench).broken is None:
                yield "a set-up that is gone is taken for a wrong answer"
    left = judge.clear(exercise, bench)
    if left:
        yield f"a reset left {', '.join(left)}"


@contextmanager
def _begun(exercise: Exercise, bench: Bench) -> Iterator[None]:
    judge.clear(exercise, bench)
    judge.begin(exercise, bench)
    yield
    judge.clear(exercise, bench)


def _answer(exercise: Exercise, file: str, bench: Bench) -> str:
    return exercise.read(exercise.solution_folder / file, bench.values)


def _report(exercise: Exercise, verdict: judge.Verdict, bench: Bench) -> str:
    return repr(views.report(exercise, verdict, bench.values, "en"))


def _hints(exercise: Exercise, verdict: judge.Verdict, where: str) -> Iterator[str]:
    if not verdict.solved and verdict.broken is None and verdict.state not in exercise.hints:
        yield f"{where}: there are no hints for the state {verdict.state!r}"


class Shell:
    """An IPython without a history and with a profile of its own, the magics loaded; a context manager."""

    def __init__(self) -> None:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        self._folder = tempfile.TemporaryDirectory(prefix="glassdock-ipython-")
        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        self._shell: Any = InteractiveShell.instance(config=config, ipython_dir=self._folder.name)
        self._shell.run_line_magic("load_ext", "glassdock_jupyter")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.run_line_magic("unload_ext", "glassdock_jupyter")
        self._shell.clear_instance()
        self._folder.cleanup()

    def __call__(self, text: str) -> None:
        """Run the cells of `text`. Raises GlassdockError with the cell that failed and why."""
        from IPython.utils.capture import capture_output

        for cell in re.split(r"^# %%.*\n", text, flags=re.MULTILINE):
            with capture_output() as captured:
                result = self._shell.run_cell(cell)
            error = result.error_before_exec or result.error_in_exec
            if error is not None:
                raise GlassdockError(f"this cell failed: {error}\n{cell}\n{captured.stdout}{captured.stderr}")
