"""What the end-to-end tests share: the session's engine with busybox pulled, and names that do not collide.

Rules: everything goes through the official client or plain HTTP, never through the engine's own modules.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.support.daemon import Daemon

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def ready(engine: Daemon) -> Daemon:
    """The session's engine after `docker pull busybox`."""
    engine.docker("pull", "busybox")
    return engine


@pytest.fixture
def container(ready: Daemon) -> Iterator[Callable[..., str]]:
    """`container("-d", "busybox", ...)` runs one and returns its name, whatever it ends with; all are removed later."""
    names: list[str] = []

    def run(*arguments: str) -> str:
        names.append(f"test{next(_numbers)}")
        done = ready.docker("run", "--name", names[-1], *arguments, check=False)
        assert done.returncode != 125, f"{done.stderr}\n-- daemon --\n{ready.log()}"
        return names[-1]

    yield run
    if names:
        ready.docker("rm", "-f", *names, check=False)
