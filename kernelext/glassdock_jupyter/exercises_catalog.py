"""The exercises as they lie in the folder `exercises/`: what there is, what it needs, what it says.

Interface:
- `Catalog.find()` reads `exercises.toml`; `.exercises` in the order of the course, `.get(name)`, `.chapters`.
- `Exercise`: its texts, seed variables, hints and files; `values(seed)` draws the learner's own names and numbers;
  `fill(text, values)` puts them into a text; `code(name)` loads `start.py` or `check.py`.
- `Text(en, zh)`: one sentence in both languages of the course; `language()` says which one to show.

Rules: a value depends on the seed, the exercise and the variable, and on nothing else. A text is filled only
where it names a seed variable, `{like_this}`: every other brace belongs to a shell, a template or a Dockerfile.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from glassdock.errors import InvalidParameter, NotFound

LANGUAGES = ("en", "zh")

# fmt: off
_COLOURS = (
    "amber", "azure", "bronze", "coral", "cream", "crimson", "dusky", "ebony", "fawn", "golden", "hazel",
    "indigo", "ivory", "jade", "lilac", "mauve", "mossy", "ochre", "olive", "pearl", "plum", "rosy", "ruby",
    "russet", "sandy", "scarlet", "silver", "slate", "tawny", "teal", "umber", "violet",
)
_ANIMALS = (
    "badger", "beaver", "bittern", "curlew", "dipper", "dunlin", "ermine", "falcon", "finch", "gecko", "grebe",
    "heron", "hoopoe", "ibis", "lapwing", "linnet", "marten", "merlin", "newt", "otter", "petrel", "plover",
    "puffin", "raven", "robin", "shrike", "stoat", "swift", "tern", "vole", "wagtail", "wren",
)
_TOWNS = (
    "Aarhus", "Bergen", "Cusco", "Dunhuang", "Esztergom", "Fez", "Ghent", "Hobart", "Iquitos", "Kanazawa",
    "Leiden", "Matera", "Nara", "Oulu",
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Text:
    """One text in both languages of the course."""

    en: str
    zh: str

    def speak(self, language: str) -> str:
        """The text in `language`, which is one of `LANGUAGES`."""
        return self.zh if language == "zh" else self.en


def language() -> str:
    """`$GLASSDOCK_LANG`, else Chinese for a kernel that runs in the Chinese notebooks' folder, else English."""
    chosen = os.environ.get("GLASSDOCK_LANG", "")[:2]
    if chosen in LANGUAGES:
        return chosen
    return "zh" if Path.cwd().name == "zh" else "en"


@dataclass(frozen=True, slots=True)
class Variable:
    """A value drawn for each learner; `names` says what the value will be the name of: "container", "image" or ""."""

    name: str
    draw: str
    names: str = ""
    low: int = 0
    high: int = 0

    def value(self, seed: str, exercise: str) -> str:
        """The value for `seed`. Raises InvalidParameter for an unknown kind of draw."""
        digest = hashlib.sha256(f"{seed}/{exercise}/{self.name}".encode()).digest()
        number = int.from_bytes(digest[:8], "big")
        if self.draw == "name":
            return f"{_COLOURS[number % 32]}-{_ANIMALS[number // 32 % 32]}-{10 + number // 1024 % 90}"
        if self.draw == "town":
            return _TOWNS[number % len(_TOWNS)]
        if self.draw == "word":
            return _ANIMALS[number % 32]
        if self.draw == "number" and self.low < self.high:
            return str(self.low + number % (self.high - self.low + 1))
        raise InvalidParameter(f"{exercise}: seed variable {self.name} draws {self.draw!r}, which is not known")


@dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise. `hints` maps a state that the check can tell apart to its hints, from question to nudge."""

    root: Path
    name: str
    chapter: str
    kind: str
    title: Text
    needs: tuple[str, ...]
    wrong: tuple[str, ...]
    variables: tuple[Variable, ...]
    hints: Mapping[str, tuple[Text, ...]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where task, start and check lie."""
        return self.root / self.chapter / self.name

    @property
    def solution_folder(self) -> Path:
        """Where the reference solution, the wrong answers and the explanation lie."""
        return self.root / "solutions" / self.chapter / self.name

    @property
    def start(self) -> Path:
        """The one `start.*`: a text to begin from, or `start.py`, which sets up something broken."""
        found = sorted(self.folder.glob("start.*"))
        if len(found) != 1:
            raise NotFound(f"{self.name}: there are {len(found)} files start.*, and there must be one")
        return found[0]

    def values(self, seed: str) -> dict[str, str]:
        """The seed variables of this exercise for one learner."""
        drawn: dict[str, str] = {}
        for variable in self.variables:
            value, again = variable.value(seed, self.name), 0
            while value in drawn.values():
                again += 1
                value = variable.value(f"{seed}+{again}", self.name)
            drawn[variable.name] = value
        return drawn

    def owned(self, values: Mapping[str, str], kind: str) -> list[str]:
        """The names of the containers or images ("container", "image") that this exercise is about."""
        return [values[variable.name] for variable in self.variables if variable.names == kind]

    def text(self, stem: str, language: str, values: Mapping[str, str], *, folder: Path | None = None) -> str:
        """`task` or `why` in one language, filled. Raises NotFound."""
        path = (folder or self.folder) / (f"{stem}.zh.md" if language == "zh" else f"{stem}.md")
        return self.read(path, values)

    def read(self, path: Path, values: Mapping[str, str]) -> str:
        """A file of this exercise, filled. Raises NotFound."""
        try:
            return fill(path.read_text(encoding="utf-8"), values)
        except FileNotFoundError:
            raise NotFound(f"{self.name}: {path.relative_to(self.root)} is missing") from None

    def code(self, stem: str) -> ModuleType:
        """`check.py` or `start.py`, loaded anew, so that its author sees each change at once. Raises NotFound."""
        path = self.folder / f"{stem}.py"
        spec = importlib.util.spec_from_file_location(f"glassdock_exercise_{self.name}_{stem}".replace("-", "_"), path)
        if spec is None or spec.loader is None or not path.exists():
            raise NotFound(f"{self.name}: {path.relative_to(self.root)} is missing")
        module = importlib.util.module_from_spec(spec)
        written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            spec.loader.exec_module(module)
        finally:
            sys.dont_write_bytecode = written
        return module


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every exercise, in the order in which the course gives them."""

    root: Path
    exercises: tuple[Exercise, ...]

    @classmethod
    def find(cls, root: Path | None = None) -> Catalog:
        """Read `exercises.toml` under `root`, else `$GLASSDOCK_EXERCISES`, else beside the code or the notebooks."""
        root = root or _folder()
        try:
            table = tomllib.loads((root / "exercises.toml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotFound(f"there are no exercises in {root}", "Run inside a clone of the course.") from None
        except tomllib.TOMLDecodeError as error:
            raise InvalidParameter(f"{root / 'exercises.toml'}: {error}") from None
        return cls(root, tuple(_exercise(root, row) for row in table.get("exercise", [])))

    def get(self, name: str) -> Exercise:
        """The exercise called `name`. Raises NotFound, with the names that there are."""
        for exercise in self.exercises:
            if exercise.name == name:
                return exercise
        raise NotFound(f"there is no exercise {name!r}", "%exercise shows the map of all exercises.")

    def chapters(self) -> Iterator[tuple[str, list[Exercise]]]:
        """Each chapter with its exercises."""
        for chapter in dict.fromkeys(exercise.chapter for exercise in self.exercises):
            yield chapter, [exercise for exercise in self.exercises if exercise.chapter == chapter]


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put the seed variables into a text; braces around anything else stay as they are."""
    if not values:
        return text
    pattern = r"(?<![{$])\{(" + "|".join(map(re.escape, values)) + r")\}(?!\})"
    return re.sub(pattern, lambda match: values[match[1]], text)


def _folder() -> Path:
    told = os.environ.get("GLASSDOCK_EXERCISES")
    if told:
        return Path(told).absolute()
    beside = [Path(__file__).resolve().parents[2], Path.cwd(), *Path.cwd().parents]
    for place in beside:
        if (place / "exercises" / "exercises.toml").is_file():
            return place / "exercises"
    return beside[0] / "exercises"


def _exercise(root: Path, row: Mapping[str, Any]) -> Exercise:
    try:
        hints = {state: tuple(_texts(group)) for state, group in row.get("hints", {}).items()}
        return Exercise(
            root=root,
            name=row["name"],
            chapter=row["chapter"],
            kind=row["kind"],
            title=Text(row["title"]["en"], row["title"]["zh"]),
            needs=tuple(row["needs"]),
            wrong=tuple(row["wrong"]),
            variables=tuple(_variable(name, spec) for name, spec in row["seed"].items()),
            hints=hints,
        )
    except KeyError as error:
        raise InvalidParameter(f"exercises.toml: {row.get('name', 'an exercise')} has no {error}") from None


def _variable(name: str, spec: Mapping[str, Any]) -> Variable:
    return Variable(name, spec["draw"], spec.get("names", ""), int(spec.get("from", 0)), int(spec.get("to", 0)))


def _texts(group: Mapping[str, Sequence[str]]) -> Iterator[Text]:
    for en, zh in zip(group["en"], group["zh"], strict=True):
        yield Text(en, zh)
