"""Fixtures of the build's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.build.workshop import Workshop, context
from tests.support.daemon import Daemon

PASSWD = "root:x:0:0::/root:/bin/sh\nbroken line\napp:x:1000:1001::/:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:50:\n"


@pytest.fixture
async def shop(short_tmp: Path) -> AsyncIterator[Workshop]:
    """A workshop with an image `base`: busybox, users, /data and a link to it, a file /old."""
    made = Workshop.open(short_tmp)
    files = {"/etc/passwd": PASSWD, "/etc/group": GROUP, "/data": "dir", "/link": "-> /data", "/old": "old"}
    made.image("base", files)
    yield made
    await made.registry.close()


@pytest.fixture
def build(engine: Daemon, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`build(dockerfile, *arguments, **files)` builds the image `made` and returns what was printed."""
    engine.docker("pull", "-q", "busybox")

    def run(dockerfile: str, *arguments: str, **files: str) -> str:
        folder = context(tmp_path / "context", dockerfile, **files)
        return engine.docker("build", "-t", "made", *arguments, str(folder)).stdout

    before = images(engine)
    yield run
    for image in images(engine) - before:  # also those that lost their name to the next build
        engine.docker("rmi", "-f", image)


def images(engine: Daemon) -> set[str]:
    return {row["Id"] for row in engine.get("/images/json?all=1")[1]}
