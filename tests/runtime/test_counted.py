"""A limit on processes without a cgroup: the namespace that counts.

Rules: where there are groups, they count, and most of this is skipped; tests/test_not_root.py runs it where there are
none. The limits are small, and so is what tries to get beyond them.
"""

from __future__ import annotations

from typing import Any

import pytest

from glassdock.linux import ids
from glassdock.oci.runtime import Linux, Pids, Process, Resources, Rlimit
from glassdock.runtime import capabilities, cgroups, counted
from tests.runtime.lab import Lab
from tests.runtime.test_exec import execute, running

pytestmark = pytest.mark.needs_root

LIMIT = 12
TRY = "i=0; while [ $i -lt 30 ]; do sleep 5 & i=$((i+1)); done"


@pytest.fixture
def no_groups() -> None:
    if ids.initial() or not cgroups.unavailable():
        pytest.skip("there are groups here, which count; tests/test_not_root.py runs this where there are none")


def limited(limit: int = LIMIT) -> dict[str, Any]:
    return {"resources": Resources(pids=Pids(limit))}


@pytest.mark.usefixtures("no_groups")
def test_what_an_exec_starts_counts_with_the_container(lab: Lab) -> None:
    with running(lab, linux=limited()) as process:
        code, _, told = execute(lab, process, "sh", "-c", f"({TRY})")
        assert code != 0
        assert "can't fork" in told
        code, _, told = execute(lab, process, "sh", "-c", TRY)
        assert "can't fork" in told, "those of the first are still there"


@pytest.mark.usefixtures("no_groups")
@pytest.mark.parametrize("user", ["ada", "1234:5678"])
def test_all_users_of_a_container_have_the_limit_together(lab: Lab, user: str) -> None:
    with running(lab, linux=limited()) as process:
        assert "can't fork" in execute(lab, process, "sh", "-c", f"({TRY})")[2]
        code, _, told = execute(lab, process, "sh", "-c", TRY, user=user)
        assert code != 0
        assert "can't fork" in told


@pytest.mark.usefixtures("no_groups")
def test_the_limit_is_each_containers_own(lab: Lab) -> None:
    with running(lab, linux=limited()) as full:
        assert "can't fork" in execute(lab, full, "sh", "-c", f"({TRY})")[2]
        few = "i=0; while [ $i -lt 5 ]; do sleep 1 & i=$((i+1)); done; wait"
        assert lab.run("sh", "-c", few, linux=limited()).code == 0
        assert lab.run("true").code == 0


@pytest.mark.usefixtures("no_groups")
def test_the_limit_cannot_be_raised_from_inside(lab: Lab) -> None:
    result = lab.run("sh", "-c", f"ulimit -u 4000 && echo raised; {TRY}", linux=limited())
    assert result.out == ""
    assert "can't fork" in result.err


@pytest.mark.usefixtures("no_groups")
def test_a_smaller_rlimit_of_ones_own_stays(lab: Lab) -> None:
    own = (Rlimit("RLIMIT_NPROC", hard=7, soft=7),)
    result = lab.run("grep", "processes", "/proc/self/limits", linux=limited(100), process={"rlimits": own})
    assert result.out.split()[2:4] == ["7", "7"], result.err


@pytest.mark.usefixtures("no_groups")
def test_the_process_is_the_same_otherwise(lab: Lab) -> None:
    script = "id -u; id -g; grep -E '^(Cap|NoNew|Seccomp)' /proc/self/status; touch /tmp/a; stat -c %u:%g /tmp/a; pwd"
    with_limit = lab.run("sh", "-c", script, linux=limited(50))
    assert with_limit.out == lab.run("sh", "-c", script).out
    assert with_limit.code == 0


@pytest.mark.usefixtures("no_groups")
def test_an_exec_is_in_the_same_namespace_as_the_first_process(lab: Lab) -> None:
    with running(lab, linux=limited()) as process:
        inside = execute(lab, process, "sh", "-c", "cd /proc; readlink self/ns/user; readlink 1/ns/user")[1].split()
        assert len(inside) == 2
        assert len(set(inside)) == 1


def test_who_has_power_over_what_is_the_engines_is_not_counted() -> None:
    body = Process(args=("x",), cwd="/", capabilities=capabilities.sets((*capabilities.DEFAULT, "CAP_NET_ADMIN")))
    assert counted.steps(Linux(resources=Resources(pids=Pids(5))), body, own_user=False) == []
    assert not counted.kept(body.capabilities.bounding if body.capabilities else ())
    assert counted.kept(capabilities.DEFAULT)
