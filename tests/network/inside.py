"""Work inside another network namespace, from a thread that ends there."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from glassdock.linux import ids
from glassdock.linux.clone import CloneFlag, setns
from glassdock.paths import Paths

T = TypeVar("T")

roots_network = pytest.mark.skipif(
    not ids.initial(), reason="the machine's network is root's: a thread that left it cannot come home"
)


def inside(netns: int | None, work: Callable[[], T]) -> T:
    """Run `work` in the namespace of the descriptor; what it opens stays of that namespace."""
    assert netns is not None
    with ThreadPoolExecutor(1, initializer=setns, initargs=(netns, CloneFlag.NEWNET)) as thread:
        return thread.submit(work).result()


def at_home(paths: Paths, work: Callable[[], T]) -> T:
    """Run `work` where the engine's bridges are: on the machine, or in the network that the engine pinned."""
    try:
        pin = os.open(paths.networks / "namespace", os.O_RDONLY)
    except FileNotFoundError:
        return work()
    try:
        return inside(pin, work)
    finally:
        os.close(pin)


def interfaces(paths: Paths) -> list[str]:
    """The names of the engine's bridges and cables."""
    names = [name for _, name in at_home(paths, socket.if_nameindex)]
    return [name for name in names if name.startswith(f"gd{paths.tag}")]
