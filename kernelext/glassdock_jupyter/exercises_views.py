"""How an exercise is shown: Markdown for a notebook, the same text for a terminal.

Interface:
- `Page(markdown)`: a result object; its `repr` is the text.
- `course_map`, `task`, `report`, `hint`: what each of the forms of `%exercise` shows, as a `Page`.

Rules: a page has no ids, no times and nothing of this machine, so that a stored notebook is repeatable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glassdock_jupyter.exercises_bench import Finding
from glassdock_jupyter.exercises_catalog import Catalog, Exercise, Text, fill
from glassdock_jupyter.exercises_judge import Verdict
from glassdock_jupyter.exercises_progress import Progress

_WORDS = {
    "exercise": Text("Exercise", "练习"),
    "map": Text("Your map", "你的地图"),
    "solved": Text("solved", "已完成"),
    "open": Text("open", "未完成"),
    "make": Text("build something", "动手做"),
    "break-and-fix": Text("break and fix", "排错"),
    "how": Text(
        "`%exercise NAME` shows a task. `%exercise NAME --check` looks at the engine and tells you what it sees.",
        "`%exercise 名字` 看题目；`%exercise 名字 --check` 会去看引擎的真实状态，再告诉你看到了什么。",
    ),
    "begin": Text("A beginning to copy:", "可以从这里抄起："),
    "set-up": Text("The set-up is ready. Have a look around.", "现场已经布置好了，去看看吧。"),
    "not here": Text("This machine cannot run it. It needs:", "这台机器做不了这道题，它需要："),
    "check": Text("When you think you are there:", "觉得做好了，就运行："),
    "stuck": Text("Stuck?", "卡住了？"),
    "not yet": Text("not yet", "还差一点"),
    "broken": Text("the set-up is damaged, and that is not your answer's fault", "现场坏了，这不算你答错"),
    "saw": Text("seen", "看到"),
    "expected": Text("expected", "期望"),
    "why": Text("why it matters", "为什么重要"),
    "hint": Text("Hint", "提示"),
    "of": Text("of", "/"),
    "last": Text("That was the last hint for where you are.", "你现在这一步的提示到此为止。"),
    "solution": Text("To see the reference solution:", "想看参考答案："),
}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of Markdown."""

    markdown: str

    def __repr__(self) -> str:
        return self.markdown

    def _repr_markdown_(self) -> str:
        return self.markdown


def course_map(catalog: Catalog, progress: Progress, language: str) -> Page:
    """Every exercise with its state."""
    say = _Speaker(language)
    rows = [f"**{say('map')}**", ""]
    for chapter, exercises in catalog.chapters():
        rows += [f"`{chapter}`", ""]
        for exercise in exercises:
            mark, state = ("●", say("solved")) if progress.solved(exercise.name) else ("○", say("open"))
            title = exercise.title.speak(language)
            rows.append(f"- {mark} **{exercise.name}** · {title} · *{say(exercise.kind)}* · {state}")
        rows.append("")
    return Page("\n".join([*rows, say("how")]))


def task(exercise: Exercise, values: Mapping[str, str], language: str, unmet: Sequence[str]) -> Page:
    """The task, what to begin from, and how to go on."""
    say = _Speaker(language)
    parts = [f"**{say('exercise')} `{exercise.name}`** · {exercise.title.speak(language)}"]
    parts.append(exercise.text("task", language, values).strip())
    if unmet:
        parts.append(f"{say('not here')} {', '.join(unmet)} (`%engine doctor`)")
    elif exercise.start.suffix == ".py":
        parts.append(say("set-up"))
    else:
        parts.append(f"{say('begin')}\n\n```\n{exercise.read(exercise.start, values).strip()}\n```")
    parts.append(
        f"{say('check')} `%exercise {exercise.name} --check` · {say('stuck')} `%exercise {exercise.name} --hint`"
    )
    return Page("\n\n".join(parts))


def report(exercise: Exercise, verdict: Verdict, values: Mapping[str, str], language: str) -> Page:
    """What a check saw; after success, why it worked and the other ways."""
    say = _Speaker(language)
    if verdict.broken is not None:
        rows = [f"**{exercise.name}** · {say('broken')}", "", verdict.broken.speak(language)]
        return Page("\n".join([*rows, "", f"`%exercise {exercise.name} --reset`"]))
    title = say("solved") if verdict.solved else say("not yet")
    rows = [f"**{exercise.name}** · {title}", ""]
    for finding in verdict.findings:
        rows += _finding(finding, language)
    if verdict.solved:
        rows += ["", exercise.text("why", language, values, folder=exercise.solution_folder).strip(), ""]
        rows.append(f"{say('solution')} `%exercise {exercise.name} --solution`")
    else:
        rows += ["", f"{say('stuck')} `%exercise {exercise.name} --hint`"]
    return Page("\n".join(rows))


def hint(exercise: Exercise, verdict: Verdict, number: int, values: Mapping[str, str], language: str) -> Page:
    """The hint of that number (from 0) for the state that the check found; the last one stays."""
    say = _Speaker(language)
    group = exercise.hints[verdict.state]
    last = number >= len(group) - 1
    text = fill(group[min(number, len(group) - 1)].speak(language), values)
    count = f"{min(number + 1, len(group))} {say('of')} {len(group)}"
    rows = [f"**{say('hint')}** ({count})", "", text]
    return Page("\n".join([*rows, "", say("last")] if last else rows))


def _finding(finding: Finding, language: str) -> list[str]:
    say = _Speaker(language)
    rows = [f"- {'✓' if finding.ok else '✗'} {finding.claim.speak(language)}"]
    if not finding.ok:
        for word, text in (("saw", finding.saw), ("expected", finding.expected), ("why", finding.why)):
            rows.append(f"    - {say(word)}: {text.speak(language)}")
    return rows


class _Speaker:
    """The words of one language."""

    def __init__(self, language: str) -> None:
        self.language = language

    def __call__(self, word: str) -> str:
        return _WORDS[word].speak(self.language)
