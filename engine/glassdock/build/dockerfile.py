r"""A Dockerfile as a tree: directives, arguments before the first FROM, stages of instructions.

Interface:
- `parse(text, name)`: the tree; raises BuildError that names every problem, file and line.
- `check(text)`: everything that is wrong, as values, for editors and exercises.
- `parse_trigger(expression, line)`: the instruction that ONBUILD left in a base image.

>>> tree = parse("FROM busybox AS base\nRUN echo hi\n")
>>> [type(instruction).__name__ for instruction in tree.stages[0].instructions]
['Run']

Rules: the tree says what is written, with line ranges; what variables mean is for `plan.py`.
Source: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from glassdock.build.instructions import Arg, From, Instruction
from glassdock.build.lines import Finding, Problem, read
from glassdock.build.reading import Refused
from glassdock.build.reading import parse as parse_instruction
from glassdock.errors import BuildError

_FIRST = "FROM comes before every other instruction but ARG"


@dataclass(slots=True)
class Stage:
    """One FROM and what follows it; `index` counts from 0."""

    index: int
    from_: From
    instructions: list[Instruction] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the stage is called, its number where it has no name."""
        return self.from_.name or str(self.index)


@dataclass(slots=True)
class Dockerfile:
    """The tree of one file. `arguments` are those before the first FROM."""

    name: str
    escape: str
    directives: Mapping[str, str]
    arguments: list[Arg] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def parse(text: str, name: str = "Dockerfile") -> Dockerfile:
    """Parse a file; raises BuildError with every problem, a line each, and the file and line of the first."""
    tree, problems = _read(text, name)
    if problems:
        first = problems[0]
        remedy = f"Look at line {first.line} of {name}." if first.line else None
        raise BuildError("\n".join(map(str, problems)), remedy, file=name, line=first.line)
    return tree


def check(text: str) -> tuple[Problem, ...]:
    """Everything that is wrong with the text, in the order of lines."""
    return tuple(_read(text, "Dockerfile")[1])


def parse_trigger(expression: str, line: int) -> Instruction:
    """The instruction of an ONBUILD trigger, placed at the line of the FROM that brought it; raises BuildError."""
    lines = read(expression).lines
    try:
        instruction = parse_instruction(lines[0])
    except (IndexError, ValueError) as error:
        message = f"the base image's ONBUILD trigger {expression!r} cannot be read: {error}"
        raise BuildError(message, line=line) from error
    return instruction


def _read(text: str, name: str) -> tuple[Dockerfile, list[Problem]]:
    document = read(text)
    tree = Dockerfile(name, document.escape, document.directives, findings=document.findings)
    problems = document.problems
    for line in document.lines:
        try:
            _place(tree, parse_instruction(line, document.escape))
        except ValueError as error:
            hint = getattr(error, "hint", "")
            problems.append(Problem(line.start, str(error), hint))
    if not document.lines:
        problems.append(Problem(1, "file with no instructions", _FIRST))
    elif not tree.stages and not problems:
        problems.append(Problem(document.lines[-1].start, "no build stage in current context", _FIRST))
    return tree, sorted(problems, key=lambda problem: problem.line)


def _place(tree: Dockerfile, instruction: Instruction) -> None:
    if isinstance(instruction, From):
        tree.stages.append(Stage(len(tree.stages), instruction))
    elif tree.stages:
        tree.stages[-1].instructions.append(instruction)
    elif isinstance(instruction, Arg):
        tree.arguments.append(instruction)
    else:
        raise Refused("no build stage in current context", _FIRST)
