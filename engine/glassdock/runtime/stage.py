"""What the steps of a plan work on: the child's state between clone and exec.

Interface:
- `Step`: the base of every step: `describe()` tells it, `apply(stage)` does it, `sources()` names what it needs from
  the machine, opened by the shim before.
- `Stage`: the root under construction, the descriptors handed over, the identity found so far.
- `attempt(doing)`: wraps an OSError into StartFailed with Docker's kind of words. `keep_only(descriptors)`.

Rules: a step is a value; all that changes while steps run is in the stage.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from glassdock.errors import StartFailed
from glassdock.linux.process import close_range


@dataclass(slots=True)
class Stage:
    """The child's state; descriptors are -1 while they are not there."""

    channel: socket.socket | None = None
    root: int = -1
    scaffold: int = -1
    netns: int = -1
    trees: dict[str, list[int]] = field(default_factory=dict)
    proc_device: int = -1
    terminal: int = -1
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"
    program: str = ""
    warnings: list[str] = field(default_factory=list)

    def take(self, source: str) -> int:
        """The descriptor that the shim opened for `source`; the caller closes it."""
        return self.trees[source].pop(0)


class Step(msgspec.Struct, frozen=True, tag_field="step"):
    """One thing that the child does between clone and exec."""

    def describe(self) -> str:
        """The step as a person reads it, in one line."""
        raise NotImplementedError

    def apply(self, stage: Stage) -> None:
        """Do it; raises OSError or StartFailed."""
        raise NotImplementedError

    def places(self) -> tuple[str, ...]:
        """The places in the root that it mounts on or makes."""
        return ()

    def sources(self) -> tuple[str, ...]:
        """What the shim opens outside: `[r]bind:PATH`, `file:PATH`, `cgroup:HIERARCHY`, `char:1:3`, `count:N`."""
        return ()


@contextlib.contextmanager
def attempt(doing: str) -> Iterator[None]:
    """Say what was being done when the kernel refused."""
    try:
        yield
    except OSError as error:
        raise StartFailed(f"{doing}: {reason(error)}", errno=error.errno or 0) from error


def reason(error: OSError) -> str:
    """The kernel's answer as Go and Docker write it: lower case."""
    text = os.strerror(error.errno) if error.errno else str(error)
    return text[:1].lower() + text[1:]


def keep_only(kept: list[int]) -> None:
    """Close every descriptor but the standard ones and these."""
    first = 3
    for descriptor in sorted(kept):
        if descriptor > first:
            close_range(first, descriptor - 1)
        first = max(first, descriptor + 1)
    close_range(first)
