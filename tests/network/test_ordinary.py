"""This folder's tests once more, in the user namespace of an ordinary user: the same code, the same expectations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glassdock.linux import ids
from tests.support import ordinary
from tests.support.tree import ROOT

pytestmark = [
    pytest.mark.skipif(not ids.initial(), reason="this is the run in a user namespace"),
    pytest.mark.needs("unshare"),
]
HERE = Path(__file__).parent
MAPS = {"single": ["--map-root-user"], "range": ["--map-root-user", "--map-auto"]}
# What a range of ids changes is seen in these; the rest would only be slower.
FILES = {"single": [HERE], "range": [HERE / "test_home.py", HERE / "test_wayout.py"]}


@pytest.mark.parametrize("kind", ["single", pytest.param("range", marks=pytest.mark.needs("newuidmap"))])
def test_networks_work_for_an_ordinary_user(kind: str, short_tmp: Path) -> None:
    short_tmp.chmod(0o777)
    words = ["unshare", "--user", *MAPS[kind], "--mount"]
    inner = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, FILES[kind])]
    as_user = ordinary.words(short_tmp, kind) if os.geteuid() == 0 else []
    assert run(*as_user, "true").returncode == 0
    allowed = run(*as_user, *words, "true")
    if allowed.returncode:
        pytest.skip(f"no user namespace for an ordinary user: {allowed.stderr.strip()}")
    done = run(*as_user, *words, *inner)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "passed" in done.stdout


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=400, cwd=ROOT, env=environment)
