"""What a magic adds to a verb before it is done: input from the cell.

Interface:
- `prepared(verb, stdin)`: the verb to do.

Rules: a cell has no keyboard. `-i` needs its text from `--stdin` or from the cell; a container that would wait for a
keyboard is refused before it is made.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from glassdock.client.execs import Exec
from glassdock.client.run import Attach, Run, Start
from glassdock.errors import InvalidParameter


def prepared(verb: Any, stdin: str | None) -> Any:
    """`verb` with the cell's text as its input. Raises `InvalidParameter` where a keyboard would be needed."""
    if isinstance(verb, Attach):
        return replace(verb, stdin=False, proxy=False)
    if isinstance(verb, Start) and verb.interactive:
        raise InvalidParameter("a cell has no keyboard for the container", "Leave -i out.")
    if isinstance(verb, Exec):
        return _exec(verb, stdin)
    if not isinstance(verb, Run):
        if stdin is not None:
            raise InvalidParameter("only `run` and `exec` take the cell as their input", "%%container run -i IMAGE sh")
        return verb
    if stdin is not None and verb.stdin is None:
        verb = replace(verb, stdin=stdin.encode(), options=replace(verb.options, interactive=True))
    if verb.options.interactive and verb.stdin is None and not verb.options.detach:
        raise InvalidParameter(
            "a cell has no keyboard for the container",
            "Give its input as --stdin 'text', or as the cell: %%container run -i IMAGE sh. Or leave -i out.",
        )
    return verb


def _exec(verb: Exec, stdin: str | None) -> Exec:
    if stdin is not None and verb.stdin is None:
        verb = replace(verb, stdin=stdin.encode(), interactive=True)
    if verb.interactive and verb.stdin is None and not verb.detach:
        raise InvalidParameter(
            "a cell has no keyboard for the program", "Give its input as --stdin 'text', or as the cell."
        )
    return verb
