"""What works for root works for an ordinary user, too: the tests of layers and copies, run again in other modes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.modes import DRIVER, words
from tests.support.tree import ROOT

FILES = ("tests/unionfs/test_overlay.py", "tests/images/test_layer.py", "tests/images/test_changes.py")
MORE = ("tests/build/test_copying.py",)


@pytest.mark.needs_root
@pytest.mark.needs("busybox")
@pytest.mark.parametrize(
    ("kind", "driver", "files"),
    [
        ("range", "overlay", FILES),
        ("single", "overlay", (*FILES, *MORE)),
        ("single", "copy", (*FILES, *MORE)),
        ("root", "copy", FILES),
    ],
)
def test_layers_and_copies_in_other_modes(kind: str, driver: str, files: tuple[str, ...]) -> None:
    command = words(kind, sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files)
    environment = os.environ | {DRIVER: driver}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
