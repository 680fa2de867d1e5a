"""Spans: what happened, when, inside what, and which line of the engine did it.

Every verb of the engine is a tree of spans. The clock is CLOCK_MONOTONIC in nanoseconds, which all
processes of the machine share, so spans of client, daemon, launcher, shim and child fit on one axis.

Interface:
- `with span("images.resolve", reference=...) as s:` times a step in the current recording; no recording, no cost.
- `with recording("daemon") as r:` opens a recording for this task or thread; `r.spans` is what was seen.
- `syscall(name, arguments, result, start, duration)`: called by `linux/` alone, adds to the innermost span.
- `adopt(spans)`: takes over the spans that another process sent.

Rules: a span's name is `folder.step`; attributes are short and printable; a span never changes what it times.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

_ids = itertools.count(1)


@dataclass(slots=True)
class Syscall:
    """One system call: decoded arguments, its result (or the errno's name), monotonic start and duration in ns."""

    name: str
    arguments: str
    result: str
    start: int
    duration: int


@dataclass(slots=True)
class Span:
    """One step. `start` and `duration` are nanoseconds of CLOCK_MONOTONIC; `parent` is 0 for a root."""

    id: int
    parent: int
    name: str
    process: str
    start: int
    duration: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)
    file: str = ""
    line: int = 0
    error: str = ""
    syscalls: list[Syscall] = field(default_factory=list)


@dataclass(slots=True)
class Recording:
    """The spans of one verb in one process, in the order in which they began."""

    process: str
    spans: list[Span] = field(default_factory=list)
    syscalls: bool = False


_recording: ContextVar[Recording | None] = ContextVar("glassdock_recording", default=None)
_current: ContextVar[Span | None] = ContextVar("glassdock_span", default=None)


@contextlib.contextmanager
def recording(process: str, *, syscalls: bool = False) -> Iterator[Recording]:
    """Record the spans of this task or thread under the name of its process."""
    made = Recording(process, syscalls=syscalls)
    outer, parent = _recording.set(made), _current.set(None)
    try:
        yield made
    finally:
        _recording.reset(outer)
        _current.reset(parent)


@contextlib.contextmanager
def span(name: str, /, **attributes: Any) -> Iterator[Span | None]:
    """Time a step of the current recording; yields the span, or None where nothing is recorded."""
    active = _recording.get()
    if active is None:
        yield None
        return
    parent = _current.get()
    frame = sys._getframe(2)
    made = Span(
        id=next(_ids),
        parent=parent.id if parent else 0,
        name=name,
        process=active.process,
        start=time.monotonic_ns(),
        attributes=attributes,
        file=frame.f_code.co_filename,
        line=frame.f_lineno,
    )
    active.spans.append(made)
    token = _current.set(made)
    try:
        yield made
    except BaseException as error:
        made.error = f"{type(error).__name__}: {error}"
        raise
    finally:
        made.duration = time.monotonic_ns() - made.start
        _current.reset(token)


def syscall(name: str, arguments: str, result: str, start: int, duration: int) -> None:
    """Add a system call to the innermost span; `linux/` calls this for each of its wrappers."""
    current = _current.get()
    if current is not None:
        current.syscalls.append(Syscall(name, arguments, result, start, duration))


def tracing() -> bool:
    """True while the current recording wants system calls."""
    active = _recording.get()
    return active is not None and active.syscalls


def adopt(spans: Iterable[Span], under: Span | None = None) -> None:
    """Take over the spans of another process: new ids, roots hung under `under` or the innermost span."""
    active = _recording.get()
    if active is None:
        return
    above = under or _current.get()
    names: dict[int, int] = {}
    for foreign in spans:
        names[foreign.id] = next(_ids)
        foreign.parent = names.get(foreign.parent, above.id if above else 0)
        foreign.id = names[foreign.id]
        active.spans.append(foreign)
