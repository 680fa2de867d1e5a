"""An engine that lives in a chroot: its containers and their execs have the container's root, not the machine's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tree import ROOT

CODE = """
import os, sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from glassdock.linux import clone, mount
from glassdock.linux.mount import MountFlag
clone.unshare(clone.CloneFlag.NEWNS)
mount.mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
mount.mount("/", sys.argv[2], None, MountFlag.BIND | MountFlag.REC)
os.chroot(sys.argv[2])
os.chdir(sys.argv[1])
from tests.runtime.lab import Lab
from tests.runtime.test_exec import execute, running
with tempfile.TemporaryDirectory() as name:
    lab = Lab(Path(name))
    try:
        with running(lab) as process:
            print(lab.run("ls", "/").out.split())
            print(execute(lab, process, "/bin/ls", "/")[1].split())
            print(execute(lab, process, "/bin/ls", "/proc/self/root/../..")[1].split())
    finally:
        lab.close()
"""


@pytest.mark.needs_root
@pytest.mark.needs_the_machines_root("the whole machine is mounted once more")
def test_an_exec_does_not_leave_the_containers_root(tmp_path: Path) -> None:
    """setns(2) leads to the root of the mount namespace, which was never the engine's."""
    command = [sys.executable, "-c", CODE, str(ROOT), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr[-2000:]
    assert set(lines) == {"['bin', 'dev', 'etc', 'home', 'proc', 'root', 'sys', 'tmp']"}
