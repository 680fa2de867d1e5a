"""An error as a short card: what happened, what to try.

Interface:
- `card(error)`: give an error the look of a card in a notebook: its sentence and its remedy, no traceback.
- `with carded(): ...`: what is raised inside is shown so; click's misunderstandings become `InvalidParameter`.

Rules: only errors of `glassdock.errors` and interrupts become cards; anything else is a bug and keeps its
traceback. Never `UsageError` (nbval in lax mode does not see it), never SystemExit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from glassdock.errors import GlassdockError, InvalidParameter

# Bold and not red: a front end gives the whole output a red ground, on which red cannot be read in a dark theme.
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def card(error: BaseException) -> None:
    """Give `error` the hook that IPython asks for its traceback's lines."""
    error._render_traceback_ = lambda: lines(error)  # type: ignore[attr-defined]


def lines(error: BaseException) -> list[str]:
    """The card's lines: what happened, then what to try."""
    if isinstance(error, KeyboardInterrupt):
        return [f"{_BOLD}Interrupted{_PLAIN}"]
    message, remedy = str(error), getattr(error, "remedy", None)
    head, _, rest = message.partition("\n")
    made = [f"{_BOLD}{head[:1].upper()}{head[1:]}{_PLAIN}", *rest.splitlines()]
    return [*made, *(f"  → {line}" for line in (remedy or "").splitlines())]


@contextlib.contextmanager
def carded() -> Iterator[None]:
    """Show what is raised inside as a card."""
    try:
        yield
    except (GlassdockError, KeyboardInterrupt) as error:
        card(error)
        raise
    except Exception as error:
        told = _misunderstood(error)
        if told is None:
            raise
        card(told)
        raise told from None


def _misunderstood(error: Exception) -> GlassdockError | None:
    """The error for a line that click could not parse, or None if `error` is something else."""
    import click

    if not isinstance(error, click.ClickException):
        return None
    from glassdock.cli.usage import explain

    told = explain(error)
    message = " ".join(told.message.removeprefix("glassdock: ").split())
    remedy = "\n".join(part for part in (told.usage, told.remedy) if part)
    return InvalidParameter(message, remedy.replace("glassdock ", "%"))
