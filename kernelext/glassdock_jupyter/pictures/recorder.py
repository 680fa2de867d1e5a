"""The run recorder: a run as a sequence, from the client's call to the program's exec.

Interface:
- `RunRecorder.of(name, client, engine)`: the picture of a run's spans; `.steps` are its `client.recording.Step`s.

Rules: the twin's text is the same for the same run but for its times, which are written `1.23 ms` and in the bars'
`margin-left:…%;width:…%`; what was made ready before the run is `ahead`. Attributes, files and lines are in the
widget only: they differ from run to run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glassdock.client.recording import Step, lines, merge
from glassdock.trace import Span
from glassdock_jupyter.show import CODE, SOFT, Shown, escape

_STORY = 4  # how deep the twin goes before the whole recording opens on demand
COLOURS = {
    "client": "#1976d2",
    "daemon": "#6a4fbf",
    "images": "#00897b",
    "registry": "#5d8a00",
    "unionfs": "#00838f",
    "network": "#c77700",
    "launcher": "#ad1457",
    "shim": "#8d6e63",
    "init": "#d84315",
}


@dataclass(frozen=True, slots=True, repr=False)
class RunRecorder(Shown):
    """The steps of one run."""

    name: str
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, name: str, client: Sequence[Span], engine: Sequence[Mapping[str, Any]]) -> RunRecorder:
        """The picture of a run: the client's spans and the engine's on one axis."""
        return cls(name, merge(client, engine))

    @property
    def actors(self) -> tuple[str, ...]:
        """Who took part, in the order of appearance."""
        return tuple(dict.fromkeys(step.actor for step in self.steps))

    @property
    def duration(self) -> int:
        """Nanoseconds from the first step's start to the last one's end."""
        return max((step.start + step.duration for step in self.steps if not step.ahead), default=0)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, key: int | str) -> Step:
        """A step by its place, or the first of that name."""
        if isinstance(key, int):
            return self.steps[key]
        for step in self.steps:
            if step.name == key:
                return step
        raise KeyError(key)

    def table(self) -> str:
        """All steps with their times, as text."""
        return "\n".join(lines(self.steps))

    def _text(self) -> str:
        return f"<Run {self.name}: {' → '.join(self.actors)}>"

    def _html(self) -> str:
        story = [step for step in self.steps if step.depth <= _STORY and not step.ahead]
        return (
            f'<section aria-label="The run {escape(self.name)}" style="max-width:1100px">'
            f'<b>The run {escape(self.name)}</b> <span style="color:{SOFT}">{self.duration / 1e6:.2f} ms</span>'
            f"{self._rows(story)}"
            f"<details><summary>all {len(self.steps)} steps</summary>{self._rows(self.steps)}</details></section>"
        )

    def _rows(self, steps: Sequence[Step]) -> str:
        rows = "".join(self._row(step) for step in steps)
        return (
            f'<table style="{CODE};width:100%;table-layout:auto">'
            '<thead><tr><th scope="col" style="text-align:left">who</th>'
            '<th scope="col" style="text-align:left">step</th>'
            '<th scope="col" style="text-align:right">time</th><th scope="col" style="width:45%"></th></tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )

    def _row(self, step: Step) -> str:
        whole = self.duration or 1
        left, width = 100 * step.start / whole, max(100 * step.duration / whole, 0.2)
        colour = COLOURS.get(step.actor, "#607d8b")
        failed = ' <b style="color:var(--jp-error-color1,#c62828)">failed</b>' if step.error else ""
        time, bar = "ahead", ""
        if not step.ahead:
            time = f"{step.duration / 1e6:.2f} ms"
            place = f"margin-left:{left:.1f}%;width:{min(width, 100 - left):.1f}%"
            bar = f'<div style="{place};height:9px;background:{colour}"></div>'
        return (
            f'<tr><td style="text-align:left;color:{colour}">{escape(step.actor)}</td>'
            f'<td style="text-align:left;padding-left:{8 + 14 * step.depth}px">{escape(step.name)}{failed}</td>'
            f'<td style="text-align:right">{time}</td><td>{bar}</td></tr>'
        )

    def _widget(self) -> Any:
        from glassdock_jupyter.pictures.widgets import RunWidget

        if RunWidget is None:
            return None
        steps = [_state(step) for step in self.steps]
        return RunWidget(picture={"name": self.name, "steps": steps, "colours": COLOURS})


def _state(step: Step) -> dict[str, Any]:
    """A step for the widget: microseconds, and only what JSON can say."""
    return {
        "name": step.name,
        "actor": step.actor,
        "depth": step.depth,
        "start": step.start / 1e3,
        "duration": step.duration / 1e3,
        "attributes": {key: _plain(value) for key, value in step.attributes.items()},
        "file": step.file,
        "line": step.line,
        "error": step.error,
        "ahead": step.ahead,
        "syscalls": [
            {"name": c.name, "arguments": c.arguments, "result": c.result, "duration": c.duration / 1e3}
            for c in step.syscalls
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int | bool) or value is None else str(value)
