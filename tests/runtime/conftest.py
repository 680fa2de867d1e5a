"""The lab that the runtime's tests share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassdock.runtime import cgroups
from tests.runtime.lab import Lab
from tests.support.leaks import Session


@pytest.fixture(scope="session")
def lab(session: Session) -> Iterator[Lab]:
    """A launcher and a busybox root for the session; at its end nothing may be left."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with tempfile.TemporaryDirectory(dir=session.folder) as name:
        made = Lab(Path(name))
        try:
            assert made.run("true").code == 0  # also makes the cgroup above all, before any test looks for leaks
            yield made
        finally:
            made.close()
        if cgroups.unavailable():
            return
        assert not list(Path("/sys/fs/cgroup").glob(f"**/{made.parent[1:]}"))
