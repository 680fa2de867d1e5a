"""How far the learner has come: one small file of their own, no account, no network.

Interface:
- `Progress.load()`: the file `glassdock/progress.json` in the XDG state folder; `.seed` draws the exercises' values.
- `.solved(name)`, `.record(name, solved=...)`, `.hint(name, state)`, `.forget(name)`, `.forget_all()`.

Rules: every change is on disk when the method returns; a file that cannot be read is put aside, never
overwritten. `$GLASSDOCK_SEED` takes the place of the learner's seed, so that a stored notebook is repeatable.
Source: https://specifications.freedesktop.org/basedir-spec/latest/
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from glassdock.paths import atomic_write


@dataclass(slots=True)
class Progress:
    """The learner's file: their seed, and for each exercise what they tried, saw and solved."""

    path: Path
    own_seed: str
    exercises: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None = None) -> Progress:
        """Read the learner's file, or begin one. Raises OSError where the state folder cannot be written."""
        path = path or _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
                return cls(path, str(data["seed"]), dict(data["exercises"]))
            except FileNotFoundError:
                pass
            except (ValueError, KeyError, TypeError):
                path.replace(path.with_suffix(".unreadable.json"))
            made = cls(path, secrets.token_hex(4))
            made._write()
            return made

    @property
    def seed(self) -> str:
        """What this learner's names, numbers and limits are drawn from."""
        return os.environ.get("GLASSDOCK_SEED") or self.own_seed

    def solved(self, name: str) -> bool:
        """Whether the learner has solved the exercise `name` before."""
        return bool(self._of(name).get("solved"))

    def record(self, name: str, *, solved: bool) -> None:
        """One more check of `name`. What was solved once stays solved until it is reset."""
        mine = self.exercises.setdefault(name, {})
        mine["checks"] = int(mine.get("checks", 0)) + 1
        mine["solved"] = bool(mine.get("solved")) or solved
        self._write()

    def hint(self, name: str, state: str) -> int:
        """Which hint for `state` comes next, from 0; a state not met before begins at its question."""
        shown = self.exercises.setdefault(name, {}).setdefault("hints", {})
        number = int(shown.get(state, 0))
        shown[state] = number + 1
        self._write()
        return number

    def forget(self, name: str) -> None:
        """Begin the exercise `name` again."""
        self.exercises.pop(name, None)
        self._write()

    def forget_all(self) -> None:
        """Begin the course again, with the same seed."""
        self.exercises.clear()
        self._write()

    def _of(self, name: str) -> dict[str, Any]:
        return self.exercises.get(name, {})

    def _write(self) -> None:
        data = {"seed": self.own_seed, "exercises": self.exercises}
        atomic_write(self.path, json.dumps(data, indent=2, ensure_ascii=False).encode(), mode=0o644, sync=False)


def _path() -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    folder = Path(state) if state and os.path.isabs(state) else Path.home() / ".local" / "state"
    return folder / "glassdock" / "progress.json"
