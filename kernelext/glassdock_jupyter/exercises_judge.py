"""Setting an exercise up, judging it, and clearing it away.

Interface:
- `Bench` comes from `exercises_bench`; `begin(exercise, bench)` sets up, `judge(exercise, bench)` gives a `Verdict`,
  `clear(exercise, bench)` removes what the exercise is about.
- `Verdict`: `.solved`, `.broken` (the set-up is damaged: nobody's answer), `.state` (the key of the hints),
  `.findings`.
- `unmet(exercise, bench)`: what the machine lacks for it.

Rules: `check.py` defines `check(bench)` (findings in the order in which to mend them), `hintcheck(bench)` (the name
of the state). `start.py`, where there is one, defines `start(bench)`, which may be called again and leaves alone
what is there; `check.py` then also defines `failcheck(bench)` (what is wrong with the set-up, or None).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glassdock.client import extra
from glassdock_jupyter.exercises_bench import LABEL, Bench, Finding
from glassdock_jupyter.exercises_catalog import Exercise, Text


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found."""

    findings: tuple[Finding, ...]
    state: str
    broken: Text | None = None

    @property
    def solved(self) -> bool:
        """Every claim holds, on a set-up that is whole."""
        return self.broken is None and bool(self.findings) and all(finding.ok for finding in self.findings)


def begin(exercise: Exercise, bench: Bench) -> None:
    """Set up what is broken, where the exercise is of that kind; what is there already stays as it is."""
    if exercise.start.suffix == ".py":
        exercise.code("start").start(bench)


def judge(exercise: Exercise, bench: Bench) -> Verdict:
    """Look at the engine's state. Findings end with the first that does not hold: the rest would only repeat it."""
    code = exercise.code("check")
    broken: Text | None = code.failcheck(bench) if hasattr(code, "failcheck") else None
    if broken is not None:
        return Verdict((), "", broken)
    findings: list[Finding] = []
    for finding in code.check(bench):
        findings.append(finding)
        if not finding.ok:
            return Verdict(tuple(findings), str(code.hintcheck(bench)))
    return Verdict(tuple(findings), "")


def clear(exercise: Exercise, bench: Bench) -> list[str]:
    """Remove the exercise's containers and images, the learner's and the set-up's; returns their names."""
    gone = []
    containers = {row["Id"]: row["Names"][0].lstrip("/") for row in _containers(bench)}
    for key, name in containers.items():
        bench.client.api.remove_container(key, force=True)
        gone.append(name)
    for name in exercise.owned(bench.values, "image"):
        if bench.image(name) is not None:
            bench.client.api.remove_image(name, force=True)
            gone.append(name)
    return sorted(gone)


def unmet(exercise: Exercise, bench: Bench) -> list[str]:
    """The axes of `glassdock doctor` ("isolation=root", "store=overlay") that this machine does not have."""
    if not exercise.needs:
        return []
    report: Any = extra(bench.client, "doctor")
    levels = {str(axis["name"]): str(axis["level"]) for axis in report["axes"]}
    return [need for need in exercise.needs if levels.get(need.partition("=")[0]) != need.partition("=")[2]]


def _containers(bench: Bench) -> list[dict[str, Any]]:
    """The set-up's by label, the learner's by name; both also by what was made from the exercise's images."""
    api = bench.client.api
    exercise = bench.exercise
    found: dict[str, dict[str, Any]] = {}
    for row in api.containers(all=True):
        names = {name.lstrip("/") for name in row["Names"] or []}
        ours = (row["Labels"] or {}).get(LABEL) == exercise
        if ours or names & set(bench.values.values()) or row["Image"].partition(":")[0] in bench.values.values():
            found[row["Id"]] = row
    return list(found.values())
