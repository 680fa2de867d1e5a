"""The magic `%source`: the engine's own code, live, as it runs on this machine.

Interface:
- `find(name)`: the function, class, module or module's table that `containers.manager.Manager.start` or
  `daemon.app.ROUTES` names, as a `Source`.
- `source_command`: the magic's words, as a click command that returns the `Source`.

Rules: names are given below `glassdock`; the text comes from the loaded module, never from a copy.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import glassdock
from glassdock.errors import NotFound

_LINES = 80


@dataclass(frozen=True, slots=True)
class Source:
    """A piece of the engine: its name, its file below the source root, its first line, its text."""

    name: str
    file: str
    line: int
    text: str

    def __repr__(self) -> str:
        return f"{self.file}, line {self.line}\n\n{self.text}"

    def _repr_markdown_(self) -> str:
        return f"`{self.file}`, line {self.line}\n\n```python\n{self.text}```"


def find(name: str) -> Source:
    """The source of `name`. Raises NotFound with the nearest name that there is."""
    target, path = _resolve(name.removeprefix("glassdock."))
    target = inspect.unwrap(target) if callable(target) else target
    try:
        file = inspect.getsourcefile(target)
        lines, line = inspect.getsourcelines(target)
    except (TypeError, OSError):
        file, lines, line = _assignment(path)
    if file is None:
        raise NotFound(f"{path} has no source of its own", "Name a function, a class, a module or a module's table.")
    text = textwrap.dedent("".join(lines))
    shown = text.splitlines(keepends=True)
    if len(shown) > _LINES:
        text = "".join(shown[:_LINES]) + f"# ... {len(shown) - _LINES} more lines\n"
    root = Path(glassdock.__file__).parents[2]
    place = Path(file).relative_to(root) if Path(file).is_relative_to(root) else Path(file).name
    return Source(path, str(place), max(line, 1), text)


@click.command("%source", add_help_option=False)
@click.argument("name")
def source_command(name: str) -> Source:
    """Show the engine's own code behind NAME, for example containers.manager.Manager.start."""
    return find(name)


def _resolve(name: str) -> tuple[Any, str]:
    """The object that `name` leads to, and its full name: modules first, then attributes."""
    found: Any = glassdock
    path = "glassdock"
    for part in name.split("."):
        following = f"{path}.{part}"
        if inspect.ismodule(found) and not hasattr(found, part):
            try:
                found = importlib.import_module(following)
            except ModuleNotFoundError:
                raise _missing(part, path, found) from None
        elif hasattr(found, part):
            found = getattr(found, part)
        else:
            raise _missing(part, path, found)
        path = following
    return found, path


def _assignment(path: str) -> tuple[str | None, list[str], int]:
    """File, lines and first line of a value that a module of ours gives a name; no file where there is none."""
    owner, _, name = path.rpartition(".")
    module = sys.modules.get(owner)
    if module is None or not hasattr(module, "__file__"):
        return None, [], 0
    text = inspect.getsource(module)
    for node in ast.parse(text).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return module.__file__, text.splitlines(keepends=True)[node.lineno - 1 : node.end_lineno], node.lineno
    return None, [], 0


def _missing(part: str, path: str, found: Any) -> NotFound:
    import difflib

    near = difflib.get_close_matches(part, dir(found), 1)
    remedy = f"Did you mean {path}.{near[0]}?" if near else "engine/README.md is the map of the engine."
    return NotFound(f"there is no {part} in {path}", remedy)
