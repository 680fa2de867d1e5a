"""Fixtures of the build's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.build.workshop import Workshop

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
