"""The course from a terminal: its linter, its images, and a fresh beginning.

Interface:
- `course`: the click group with `check`, `images`, `reset`; each gives a `Call`.
- `Check`, `Images`, `Reset`: the verbs, with `do(session)`.

Rules: the exercises are `glassdock_jupyter`'s, which is imported only when a verb runs. What `check` finds is printed
one sentence a line, and its exit code is 1; a learner's progress is touched by `reset` alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from glassdock.cli.call import Call
from glassdock.client.extras import post
from glassdock.client.mapping import from_event

if TYPE_CHECKING:
    from glassdock.client.session import Session

SEEDS = ("first", "second")
_HELP = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True, slots=True)
class Check:
    """Read the whole course, then try the exercises (all, or those named) on an engine, once a seed."""

    names: tuple[str, ...] = ()
    static: bool = False
    seeds: tuple[str, ...] = SEEDS

    def do(self, session: Session) -> list[str]:
        """What is wrong, one sentence each. Raises NotFound for an unknown exercise."""
        from glassdock_jupyter.exercises_catalog import Catalog
        from glassdock_jupyter.exercises_lint import read

        catalog = Catalog.find()
        chosen = [catalog.get(name) for name in self.names] or list(catalog.exercises)
        problems = read(catalog, catalog.root.parent / "notebooks")
        if self.static:
            return problems
        from glassdock_jupyter.exercises_trial import Shell, trial

        if session.host:
            os.environ["GLASSDOCK_HOST"] = session.host  # the magics of the solutions find the same engine
        with Shell() as shell:
            for seed in self.seeds:
                for exercise in chosen:
                    session.output.note(f"{exercise.chapter}/{exercise.name}, seed {seed}")
                    found = trial(exercise, seed, session.client, shell)
                    problems += [f"{exercise.name}, seed {seed}: {problem}" for problem in found]
        return problems


@dataclass(frozen=True, slots=True)
class Images:
    """Assemble the course's images on the engine's machine, and put them into the course registry."""

    def do(self, session: Session) -> None:
        """Returns when they are there. Raises what the engine says."""
        response = post(session.client, "glassdock/course/images", {})
        for line in response.iter_lines():
            event = json.loads(line)
            error = from_event(event)
            if error is not None:
                raise error
            session.output.event(event)


@dataclass(frozen=True, slots=True)
class Reset:
    """Begin one exercise again, or all."""

    name: str = ""
    everything: bool = False

    def do(self, session: Session) -> list[str]:
        """The names of the containers and images that are gone. Raises NotFound."""
        from glassdock_jupyter.exercises import Desk

        desk = Desk.open(lambda: session.client)
        if self.everything:
            return desk.reset_all()
        return desk.clear(self.name)


@click.group(help="Check the course, bring its images, begin again.", context_settings=_HELP)
def course() -> None:
    """The verbs on the course."""


@course.command(help="Hold the whole course against a running engine.", context_settings=_HELP)
@click.argument("names", nargs=-1, metavar="[EXERCISE...]")
@click.option("--static", is_flag=True, help="Read only: files, hints, both languages; no engine")
@click.option("--seed", "seeds", multiple=True, metavar="TEXT", help="Try with this seed; may be given again")
def check(names: tuple[str, ...], static: bool, seeds: tuple[str, ...]) -> Call:
    """Parse `course check`."""

    def show(problems: list[str]) -> int:
        for problem in problems:
            click.echo(problem)
        click.echo("The course is whole." if not problems else f"{len(problems)} found.")
        return 1 if problems else 0

    return Call(Check(names, static, seeds or SEEDS), show)


@course.command(help="Assemble the course's images and put them into the course registry.", context_settings=_HELP)
def images() -> Call:
    """Parse `course images`."""
    return Call(Images(), lambda _: 0)


@course.command(help="Begin an exercise again; --all begins the course again.", context_settings=_HELP)
@click.argument("name", required=False, default="", metavar="[EXERCISE]")
@click.option("--all", "everything", is_flag=True, help="Every exercise")
def reset(name: str, everything: bool) -> Call:
    """Parse `course reset`."""
    if bool(name) == everything:
        raise click.UsageError("name one exercise, or say --all")

    def show(gone: list[str]) -> int:
        for one in gone:
            click.echo(f"removed {one}")
        return 0

    return Call(Reset(name, everything), show)
