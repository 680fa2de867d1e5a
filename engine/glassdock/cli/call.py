"""What parsing a command line gives: a verb to do, and how to print what it returns.

Interface:
- `Verb`: anything with `do(session)`.
- `Call(verb, show, failure, plain)`: `show(result)` prints and returns the exit code.
- `exit_code(error, call)`: Docker's code for an error: 127, 126, 125, else 1.

Rules: the magics take `Call.verb` and draw the result themselves; `plain` says that the person asked for text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from glassdock import errors

if TYPE_CHECKING:
    from glassdock.client.session import Session


class Verb(Protocol):
    """Something to do with an engine."""

    def do(self, session: Session) -> Any:
        """Do it; what it returns is a value of `glassdock.client`."""


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed command line. `failure` is the exit code where the engine refuses: 125 for run.

    `host` is the root's `--host`; `quiet` says that nobody wants to see the progress.
    """

    verb: Verb
    show: Callable[[Any], int]
    failure: int = 1
    plain: bool = False
    quiet: bool = False
    host: str | None = None


def exit_code(error: errors.GlassdockError, call: Call) -> int:
    """The exit code for an error that `call` met."""
    if call.failure == 125 and isinstance(error, errors.CommandNotFound):
        return 127
    if call.failure == 125 and isinstance(error, errors.CommandNotExecutable):
        return 126
    return call.failure
