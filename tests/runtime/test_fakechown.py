"""Root of a container with a single id may chown and change its user, and nothing happens."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from glassdock.oci.runtime import Linux, Process
from glassdock.runtime import plan_process
from glassdock.runtime.fakechown import FakeOwners
from tests.support.modes import words
from tests.support.tree import ROOT

FILTERED = """
import os, sys
from glassdock.runtime import fakechown
from glassdock.runtime.stage import Stage
os.chdir(sys.argv[1])
(step,) = fakechown.steps(own_user=False)
step.apply(Stage(uid=int(sys.argv[2])))
def attempt(call, *arguments, **more):
    try:
        return call(*arguments, **more)
    except OSError as error:
        return error.strerror
"""


def single(folder: Path, uid: int, script: str) -> list[str]:
    command = words("single", sys.executable, "-c", FILTERED + textwrap.dedent(script), str(folder), str(uid))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.needs_root
def test_root_is_told_that_files_and_processes_are_another_users(tmp_path: Path) -> None:
    script = """
    open("file", "w").close(); os.symlink("file", "link")
    fd = os.open("file", os.O_RDONLY)
    print([attempt(os.chown, "file", 33, 33), attempt(os.chown, "file", -1, 33), attempt(os.fchown, fd, 100, 65534),
           attempt(os.lchown, "link", 1, 2), attempt(os.chown, "link", 3, 4, follow_symlinks=False)])
    print([attempt(os.setgroups, [1, 2]), attempt(os.setgid, 33), attempt(os.setuid, 33), attempt(os.seteuid, 33),
           attempt(os.setreuid, 33, 33), attempt(os.setresgid, 33, 33, 33), attempt(os.seteuid, 0)])
    print(os.stat("file").st_uid, os.stat("file").st_gid, os.getuid(), os.getgid())
    """
    assert single(tmp_path, 0, script) == [str([None] * 5), str([None] * 7), "0 0 0 0"]


@pytest.mark.needs_root
def test_what_root_can_do_is_done(tmp_path: Path) -> None:
    script = """
    print(attempt(os.chown, "missing", 0, 0), attempt(os.setuid, 0), attempt(os.mknod, "sda", 0o60600, 0x800))
    """
    assert single(tmp_path, 0, script) == ["No such file or directory None Operation not permitted"]


@pytest.mark.needs_root
def test_another_user_is_refused_as_everywhere(tmp_path: Path) -> None:
    assert single(tmp_path, 33, "print(attempt(os.setuid, 33))") == ["Invalid argument"]


@pytest.mark.needs_the_machines_root("namespaces of several kinds are made with root's own ids")
@pytest.mark.needs_root
@pytest.mark.parametrize(("kind", "count"), [("root", 0), ("range", 0), ("single", 1)])
def test_only_a_single_id_is_helped(kind: str, count: int) -> None:
    script = "from glassdock.runtime import fakechown; print(len(fakechown.steps(own_user=False)))"
    command = words(kind, sys.executable, "-c", script)
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == f"{count}\n"


def test_root_of_the_machine_has_no_such_step() -> None:
    steps = plan_process.identity(Linux(), Process(args=("true",)), "", (), own_user=False)
    assert not any(isinstance(step, FakeOwners) for step in steps)
