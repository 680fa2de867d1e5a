"""The user namespace that an ordinary user's engine lives in: what holds for all that is in it, for good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ordinary import words

FORK = """
import os, resource, sys, time
from glassdock.linux import rungs, userns
assert 0 < userns.most_processes() <= resource.getrlimit(resource.RLIMIT_NPROC)[0]
userns.most_processes = lambda: int(sys.argv[2])
before = resource.getrlimit(resource.RLIMIT_NPROC)
rungs.enter(sys.argv[1])
assert resource.getrlimit(resource.RLIMIT_NPROC) == before
begun, stopped = [], ""
for number in range(80):
    try:
        child = os.fork()
    except BlockingIOError as error:
        stopped = error.strerror
        break
    if child == 0:
        if number % 2 and sys.argv[1] == "userns-range":
            os.setresuid(1000, 1000, 1000)
        time.sleep(20)
        os._exit(0)
    begun.append(child)
for child in begun:
    os.kill(child, 9)
    os.waitpid(child, 0)
print(len(begun), stopped)
"""


@pytest.mark.needs_root
@pytest.mark.needs("newuidmap")
@pytest.mark.needs_the_machines_root("this is the one who becomes an ordinary user")
@pytest.mark.parametrize("kind", ["range", "single"])
def test_all_users_in_it_together_have_the_limit_that_it_was_made_with(tmp_path: Path, kind: str) -> None:
    def begun(limit: int) -> list[str]:
        command = words(tmp_path, kind, sys.executable, "-c", FORK, f"userns-{kind}", str(limit))
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.split(maxsplit=1)

    number, why = begun(30)
    assert int(number) < 30
    assert why.strip() == "Resource temporarily unavailable"
    assert int(begun(20000)[0]) == 80, "the control"
