"""A network manager on the real kernel; nothing of it is left when the test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from glassdock.network.manager import Manager
from glassdock.paths import Paths
from tests.network.inside import interfaces


@pytest.fixture
def paths(short_tmp: Path) -> Paths:
    """The folders of an engine."""
    made = Paths.of(short_tmp / "root")
    made.make()
    return made


@pytest.fixture
async def networks(paths: Paths) -> AsyncIterator[Manager]:
    """A started manager."""
    made = Manager(paths)
    await made.start()
    yield made
    for network in made.networks():
        for endpoint in network.containers:
            await made.detach(endpoint)
    await made.stop()
    assert made.problems == []
    assert interfaces(paths) == []
