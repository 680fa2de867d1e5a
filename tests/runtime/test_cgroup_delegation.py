"""Groups of an ordinary user: where they are found, and that limits hold in them. The latter needs version 2 alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassdock.runtime import cgroup_delegation, cgroups
from glassdock.runtime.cgroup_delegation import ENGINE, Place
from glassdock.runtime.cgroups import Layout
from glassdock.runtime.cgroups_v2 import CgroupV2

ADA = 1000
WORK = f"""
import json, os, signal
from glassdock.linux import clone
from glassdock.oci.runtime import CPU, Memory, Pids, Resources
from glassdock.runtime import cgroups
from glassdock.runtime.cgroup_support import support

assert os.geteuid() == {ADA} and not cgroups.unavailable(), cgroups.unavailable()
cgroups.claim()
parent = cgroups.parent_for("glassdock-0123abcd")
held = cgroups.hold(parent)
group = cgroups.open_cgroup(parent + "/container")
group.create()
asked = Resources(memory=Memory(limit=32 << 20), pids=Pids(7), cpu=CPU(quota=50_000, period=100_000))
warnings = group.apply(asked)
inside = group.descriptor()
pid, _ = clone.clone3(clone.CloneFlag(0), cgroup=inside)
if pid == 0:
    signal.pause()
    os._exit(0)
stats = group.stats()
group.freeze(True)
group.remove()
os.waitpid(pid, 0)
os.close(held)
cgroups.leave(parent)
print(json.dumps([parent, warnings, stats.memory.total.limit, stats.pids.limit, stats.pids.usage, support().pids]))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A group as systemd delegates it, in plain folders, under a top that is not ours."""
    folder = tmp_path / "top/user.slice/app.scope"
    folder.mkdir(parents=True)
    for name, text in (("cgroup.procs", ""), ("cgroup.subtree_control", ""), ("cgroup.controllers", "memory pids")):
        (folder / name).write_text(text)
    return tmp_path / "top"


def test_root_works_in_the_whole_tree() -> None:
    assert cgroup_delegation.find(Layout((), "/tmp"), "/user.slice/app.scope") == Place()


def test_without_a_hierarchy_there_is_no_place() -> None:
    assert cgroup_delegation.find(Layout(), "").reason == "no cgroup hierarchy is mounted"


def test_a_user_works_in_the_delegated_group_also_from_one_level_down(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tree) and real(path, mode))
    layout, own = Layout((), str(tree)), "/user.slice/app.scope"
    assert cgroup_delegation.find(layout, own) == Place(own)
    assert cgroup_delegation.find(layout, f"{own}/{ENGINE}") == Place(own)
    assert cgroup_delegation.find(layout, "/user.slice").reason == "no cgroup is delegated to this user"
    assert cgroup_delegation.find(layout, "").reason == "no cgroup is delegated to this user"
    (tree / "user.slice/app.scope/cgroup.controllers").write_text("")
    assert "without any controller" in cgroup_delegation.find(layout, own).reason
    one = Layout((("pids", str(tree), ("pids",)),))
    assert "version 1" in cgroup_delegation.find(one, own).reason


@pytest.fixture
def delegated() -> Iterator[CgroupV2]:
    """A group that root made and gave to a user, as systemd does for a unit with Delegate=yes."""
    if os.geteuid() != 0 or cgroups.layout().version != "v2":
        pytest.skip("needs root, and version 2 alone: `make vm`")
    made = CgroupV2("/delegated/unit", cgroups.layout())
    made.create()
    for name in ("", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"):
        os.chown(made.folder + name, ADA, ADA)
    yield made
    made.remove()
    CgroupV2("/delegated", cgroups.layout()).remove()


def test_limits_hold_in_a_delegated_group(delegated: CgroupV2) -> None:
    def become() -> None:
        Path(delegated.folder, "cgroup.procs").write_text("0")
        os.setgroups([])
        os.setresgid(ADA, ADA, ADA)
        os.setresuid(ADA, ADA, ADA)

    command = [sys.executable, "-c", WORK]
    done = subprocess.run(command, preexec_fn=become, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    parent, warnings, memory, limit, members, pids = json.loads(done.stdout)
    assert parent == "/delegated/unit/glassdock-0123abcd"
    assert (warnings, memory, limit, members, pids) == ([], 32 << 20, 7, 1, True)
    assert not os.path.exists(f"{delegated.folder}/glassdock-0123abcd")
