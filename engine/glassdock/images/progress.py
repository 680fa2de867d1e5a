"""What a pull, push or build says while it works: Docker's JSON lines as dictionaries.

Interface:
- `Progress`: whoever wants the lines, called with one dictionary each.
- `Meter(progress, id, action, total)`: at most ten lines a second about one transfer.
- `short(digest)`: the twelve hex digits that stand for a digest in a line.

Rules: lines are told on the event loop's thread only; a transfer is told at most every 100 ms, its end always.

Source: moby, `pkg/jsonmessage`
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Progress = Callable[[dict[str, Any]], None]

_EVERY = 0.1
_BAR = 50


def short(digest: str) -> str:
    """The first twelve hex digits of a digest."""
    return digest.partition(":")[2][:12]


@dataclass(slots=True)
class Meter:
    """How far one transfer is; `total` 0 where it is not known."""

    progress: Progress
    id: str
    action: str
    total: int
    current: int = 0
    _told: float = 0.0

    def add(self, count: int) -> None:
        """`count` more bytes are done."""
        self.at(self.current + count)

    def at(self, current: int) -> None:
        """`current` bytes are done."""
        self.current = current
        now = time.monotonic()
        if now - self._told < _EVERY and current != self.total:
            return
        self._told = now
        self.progress(
            {
                "status": self.action,
                "progressDetail": {"current": current, "total": self.total},
                "progress": bar(current, self.total),
                "id": self.id,
            }
        )


def bar(current: int, total: int) -> str:
    """Docker's text form of a transfer: `[=====>     ]  1.2MB/3MB`."""
    if total <= 0:
        return size(current)
    filled = min(_BAR, current * _BAR // total)
    arrow = "=" * filled + (">" if filled < _BAR else "")
    return f"[{arrow:<{_BAR}}]  {size(current)}/{size(total)}"


def size(count: float) -> str:
    """Bytes with four significant digits and a decimal unit, as Docker writes them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.4g}{unit}"
        count /= 1000
    raise AssertionError("unreachable")
