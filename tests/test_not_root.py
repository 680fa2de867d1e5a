"""The tests that touch the kernel once more, in the user namespace that an ordinary user's engine lives in.

Rules: a pytest of its own, started by root as the ordinary user of `tests/support/ordinary.py`, who enters a user and
a mount namespace as the daemon does. There the same tests run; what cannot be done there is skipped with its reason
(`needs_the_machines_root`), and too many of those are a failure.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ordinary import USER, words
from tests.support.tree import ROOT

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("newuidmap"), pytest.mark.timeout(500)]

SINGLE = tuple(
    f"tests/runtime/test_{name}.py" for name in "life exec counted escapes escapes_kernel escapes_mounts".split()
)
ENTER = (
    "import os, sys\n"
    f"sys.path.insert(0, {str(ROOT)!r})\n"
    "from glassdock.linux import rungs, userns\n"
    "rungs.enter(sys.argv[1]); userns.own_mounts()\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)


@pytest.mark.needs_the_machines_root("this is the one who becomes an ordinary user")
@pytest.mark.parametrize(
    ("kind", "selected", "fewest"),
    [("range", ("tests/runtime",), 300), ("single", SINGLE, 150)],
)
def test_the_kernel_is_the_same_for_an_ordinary_user(
    short_tmp: Path, kind: str, selected: tuple[str, ...], fewest: int
) -> None:
    os.chown(short_tmp, USER, USER)
    inner = ["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *selected]
    command = words(short_tmp, kind, sys.executable, "-c", ENTER, f"userns-{kind}", *inner)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=480, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= fewest, done.stdout[-2000:]
