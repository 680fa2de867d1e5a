"""The leak check of conftest.py catches what it promises to catch: each thing is left behind once, on purpose.

Rules: a check that has never failed proves nothing, so this is its control.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.leaks import CGROUPS, Session, Snapshot, leaks


def test_a_clean_test_leaves_nothing(session: Session) -> None:
    assert leaks(Snapshot.take(session), session, patience=0) == []


def test_a_file_in_the_temporary_folder_is_seen(session: Session) -> None:
    before = Snapshot.take(session)
    left = session.tmp / "left"
    left.touch()
    assert leaks(before, session, patience=0) == ["temporary file left"]
    left.unlink()


def test_a_process_is_seen_even_in_a_session_of_its_own(session: Session) -> None:
    before = Snapshot.take(session)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        (line,) = leaks(before, session, patience=0)
        assert line.startswith(f"process {child.pid}: ")
    finally:
        child.kill()
        child.wait()


def test_a_namespace_held_open_is_seen(session: Session) -> None:
    before = Snapshot.take(session)
    handle = os.open("/proc/self/ns/uts", os.O_RDONLY)
    (line,) = leaks(before, session, patience=0)
    os.close(handle)
    assert "namespace held open" in line


@pytest.mark.needs_root
@pytest.mark.needs("mount", "ip")
def test_a_mount_a_cgroup_and_an_interface_are_seen(session: Session, short_tmp: Path) -> None:
    from glassdock.paths import Paths

    before = Snapshot.take(session)
    (root := short_tmp / "root").mkdir()
    tag = Paths.of(root).tag
    version_1 = CGROUPS / "pids"
    (cgroup := (version_1 if version_1.exists() else CGROUPS) / f"glassdock-{tag}").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", root], check=True)
    subprocess.run(["ip", "link", "add", f"gd{tag}", "type", "bridge"], check=True)
    try:
        found = leaks(before, session, patience=0)
    finally:
        subprocess.run(["ip", "link", "del", f"gd{tag}"], check=True)
        subprocess.run(["umount", root], check=True)
        cgroup.rmdir()
    assert found == [f"cgroup {cgroup}", f"interface gd{tag}", f"mount {root}"]


def test_what_others_do_is_not_ours(session: Session) -> None:
    before = Snapshot.take(session)
    clean = {"PATH": os.environ["PATH"]}
    child = subprocess.Popen(["sleep", "60"], env=clean, start_new_session=True)
    try:
        assert leaks(before, session, patience=0) == []
    finally:
        child.kill()
        child.wait()
