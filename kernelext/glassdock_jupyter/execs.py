"""What `%container exec` and `c.exec(...)` give: the program's output and exit code.

Interface:
- `Executed`: `.exit_code`, `.stdout`, `.stderr`.
- `execute(session, name, command, ...)`: run it and keep its output; `command` is a line or a list of words.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glassdock.client import execs
from glassdock.client.session import Session
from glassdock_jupyter.show import Shown


@dataclass(slots=True, repr=False)
class Executed(Shown):
    """One program that was run in a container; `exit_code` is None where it was left running."""

    command: str
    exit_code: int | None
    stdout: str = ""
    stderr: str = ""

    @classmethod
    def of(cls, done: execs.Executed, stdout: str, stderr: str) -> Executed:
        """What a verb returned, with the output that the cell kept."""
        return cls(shlex.join(done.argv), done.exit_code, stdout, stderr)

    def _text(self) -> str:
        state = "left running" if self.exit_code is None else f"exited ({self.exit_code})"
        return f"<Exec {self.command}: {state}>"


@dataclass(slots=True)
class _Kept:
    """An output that keeps both streams apart."""

    parts: dict[str, bytearray] = field(default_factory=lambda: {"out": bytearray(), "err": bytearray()})

    def out(self, data: bytes) -> None:
        self.parts["out"] += data

    def err(self, data: bytes) -> None:
        self.parts["err"] += data

    def event(self, event: Mapping[str, Any]) -> None:
        """Nothing of the program's."""

    def note(self, text: str) -> None:
        """Nothing of the program's."""


def execute(session: Session, name: str, command: str | Sequence[str], *, stdin: str | None = None) -> Executed:
    """Run a program in the container and wait for it."""
    words = tuple(shlex.split(command) if isinstance(command, str) else command)
    given = None if stdin is None else stdin.encode()
    kept, before = _Kept(), session.output
    session.output = kept
    try:
        done = execs.Exec(name, words, interactive=given is not None, stdin=given).do(session)
    finally:
        session.output = before
    out, err = (bytes(kept.parts[stream]).decode(errors="replace") for stream in ("out", "err"))
    return Executed.of(done, out, err)
