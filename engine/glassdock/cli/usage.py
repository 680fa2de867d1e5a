"""What cannot be understood, in Docker's words.

Interface:
- `explain(error)`: a `click.ClickException` as `Told`: one sentence, the usage line, what to do, the exit code.

Source: docker/cli 28: an unknown flag ends with 125, a missing argument or an unknown command with 1.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Told:
    """A misunderstanding: `message` is one sentence, `usage` may be empty."""

    message: str
    usage: str
    remedy: str
    code: int

    def text(self) -> str:
        """The paragraphs for a terminal."""
        return "\n\n".join(part for part in (self.message, self.usage, self.remedy) if part)


def explain(error: click.ClickException) -> Told:
    """The error in Docker's words."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "glassdock"
    usage = _usage(context)
    remedy = f"Run '{path} --help' for more information"
    if isinstance(error, click.NoSuchOption):
        near = error.possibilities
        hint = f"\n\nDid you mean {' or '.join(sorted(near))}?" if near else ""
        return Told(f"{_flag(error.option_name)}{hint}", usage, remedy, 125)
    if isinstance(error, click.exceptions.MissingParameter) and isinstance(error.param, click.Argument):
        missing = f"glassdock: '{path}' requires at least {_needed(context)}"
        return Told(missing, usage, f"See '{path} --help' for more information", 1)
    if isinstance(error, click.BadOptionUsage):
        return Told(f"flag needs an argument: {error.option_name}", usage, remedy, 125)
    if isinstance(error, click.BadParameter):
        option = error.param.opts[-1] if error.param else ""
        return Told(f'invalid argument for "{option}": {error.message.rstrip(".")}', usage, remedy, 125)
    if isinstance(error, click.UsageError) and isinstance(getattr(context, "command", None), click.Group):
        word = error.message.partition("'")[2].rpartition("'")[0]
        return Told(f"glassdock: unknown command: {path} {word}".rstrip() + _near(context, word), "", remedy, 1)
    if isinstance(error, click.UsageError):
        return Told(f"glassdock: {error.message.rstrip('.')}", usage, remedy, 1)
    return Told(error.format_message(), "", "", 1)


def _near(context: click.Context | None, word: str) -> str:
    assert context
    assert isinstance(context.command, click.Group)
    near = difflib.get_close_matches(word, context.command.list_commands(context), 2)
    return f"\n\nDid you mean {' or '.join(near)}?" if near else ""


def _flag(name: str) -> str:
    if name.startswith("--"):
        return f"unknown flag: {name}"
    return f"unknown shorthand flag: '{name.lstrip('-')[:1]}' in {name}"


def _needed(context: click.Context | None) -> str:
    count = 1
    if context:
        count = sum(isinstance(param, click.Argument) and param.required for param in context.command.params)
    return f"{count} argument{'' if count == 1 else 's'}"


def _usage(context: click.Context | None) -> str:
    if context is None:
        return ""
    return "Usage:  " + " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
