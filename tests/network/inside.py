"""Work inside another network namespace, from a thread that ends there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from glassdock.linux.clone import CloneFlag, setns

T = TypeVar("T")


def inside(netns: int | None, work: Callable[[], T]) -> T:
    """Run `work` in the namespace of the descriptor; what it opens stays of that namespace."""
    assert netns is not None
    with ThreadPoolExecutor(1, initializer=setns, initargs=(netns, CloneFlag.NEWNET)) as thread:
        return thread.submit(work).result()
