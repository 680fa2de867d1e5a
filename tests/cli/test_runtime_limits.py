"""`glassdock-runtime` and what a bundle may use: processors, processes, devices, and how documents are read."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from glassdock.runtime import cgroups
from tests.cli.bundles import Runtime

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(bool(cgroups.unavailable()), reason="no groups can be made"),
]

AFFINITY = ["grep", "Cpus_allowed_list:", "/proc/self/status"]
two = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="takes two processors")


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def limit(runtime: Runtime, **resources: Any) -> None:
    runtime.change(lambda spec: spec["linux"].setdefault("resources", {}).update(resources))


def value(runtime: Runtime, controller: str, name: str) -> str:
    layout = cgroups.layout()
    tops = [top for _, top, words in layout.v1 if controller in words] or [layout.unified]
    return Path(f"{tops[0]}{runtime.cgroup}/{name}").read_text().strip()


@pytest.mark.parametrize(("asked", "found"), [(0, "1"), (-1, "max"), (20, "20")])
def test_no_processes_are_one_and_less_is_no_limit(runtime: Runtime, asked: int, found: str) -> None:
    limit(runtime, pids={"limit": asked})
    runtime.begin()
    assert value(runtime, "pids", "pids.max") == found
    runtime("update", "--pids-limit", "30", "one")
    runtime("update", "--pids-limit", str(asked), "one")
    assert value(runtime, "pids", "pids.max") == found
    runtime("delete", "--force", "one")


@pytest.mark.skipif(not cgroups.layout().v1, reason="only version 1 has a period and a quota apart")
def test_a_shorter_period_fits_below_a_limit_above_once_its_quota_is_there(runtime: Runtime) -> None:
    top = next(top for _, top, words in cgroups.layout().v1 if "cpu" in words)
    above = f"/gdt-pod{runtime.cgroup[1:]}"
    runtime.change(lambda spec: spec["linux"].update(cgroupsPath=f"{above}/one"))
    limit(runtime, cpu={"quota": 40000, "period": 100000})
    try:
        runtime.begin()
        Path(f"{top}{above}/cpu.cfs_quota_us").write_text("50000")
        assert "invalid argument" in runtime("update", "--cpu-quota", "60000", "one", check=False).stderr
        runtime("update", "--cpu-period", "10000", "--cpu-quota", "3000", "one")
        assert Path(f"{top}{above}/one/cpu.cfs_period_us").read_text() == "10000\n"
    finally:
        runtime("delete", "--force", "one", check=False)
        for _, hierarchy, _ in cgroups.layout().v1:
            os.rmdir(hierarchy + above)


def test_letters_that_are_no_access_to_a_device_mean_nothing(runtime: Runtime) -> None:
    limit(runtime, devices=[{"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rwa"}])
    runtime.program("exit 0")
    assert runtime("run", "one").returncode == 0


def test_null_is_not_said_and_names_count_in_any_case(runtime: Runtime) -> None:
    def loose(spec: dict[str, Any]) -> None:
        spec["linux"].update(timeOffsets=None, sysctl=None, Personality={"DOMAIN": "LINUX"}, memoryPolicy=None)
        spec["linux"]["resources"]["hugepageLimits"] = [{"pagesize": "2MB", "limit": 2097152}]
        spec["annotations"] = {"Path": "kept"}

    runtime.change(loose)
    runtime.program("exit 3")
    runtime("create", "one")
    assert runtime.state("one")["annotations"] == {"Path": "kept"}
    runtime("delete", "--force", "one")


def test_what_the_process_may_be_given_is_known_without_a_daemon(runtime: Runtime) -> None:
    runtime.change(lambda spec: spec["process"].update(ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6}))
    runtime.change(lambda spec: spec["process"].update(scheduler={"policy": "SCHED_BATCH", "nice": 4}))
    runtime.change(lambda spec: spec["linux"].update(memoryPolicy={"mode": "MPOL_PREFERRED", "nodes": "0"}))
    runtime.begin()
    done = runtime(
        "exec", "one", "sh", "-c", "ionice -p $$; awk '{print $41}' /proc/self/stat; head -n 1 /proc/self/numa_maps"
    )
    assert "best-effort: prio 6" in done.stdout
    assert done.stdout.splitlines()[1] == "3"  # SCHED_BATCH
    assert " prefer" in done.stdout
    runtime("delete", "--force", "one")
    assert "MPOL_PREFERRED" in json.loads(runtime("features").stdout)["linux"]["memoryPolicy"]["modes"]


@two
def test_a_container_has_all_processors_whatever_its_maker_was_bound_to(runtime: Runtime) -> None:
    command = ["taskset", "-c", "0", *runtime.command("run", "one")]
    runtime.change(lambda spec: spec["process"].update(args=AFFINITY))
    bound = subprocess.check_output(command, cwd=runtime.folder, text=True, timeout=30)
    assert bound.split()[1] == f"0-{(os.cpu_count() or 1) - 1}"
    limit(runtime, cpu={"cpus": "1", "mems": "0"})
    bound = subprocess.check_output(command, cwd=runtime.folder, text=True, timeout=30)
    assert bound.split()[1] == "1"


@two
def test_an_exec_begins_and_stays_where_the_bundle_says(runtime: Runtime) -> None:
    runtime.change(lambda spec: spec["process"].update(execCPUAffinity={"initial": "0", "final": "1"}))
    runtime.begin()
    assert runtime("exec", "one", *AFFINITY).stdout.split()[1] == "1"
    assert Path(f"/proc/{runtime.state('one')['pid']}/status").read_text().count("Cpus_allowed_list:\t0\n") == 0
    runtime("delete", "--force", "one")


def test_a_user_namespace_has_its_maps_where_nothing_else_is_done_outside(runtime: Runtime) -> None:
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]

    def own(spec: dict[str, Any]) -> None:
        spec["process"].pop("rlimits", None)
        spec["process"].pop("oomScoreAdj", None)
        spec["linux"]["namespaces"].append({"type": "user"})
        spec["linux"].update(uidMappings=ids, gidMappings=ids)

    runtime.change(own)
    for path, folders, names in os.walk(runtime.folder / "rootfs"):
        for name in (path, *(f"{path}/{one}" for one in (*folders, *names))):
            os.chown(name, 100000, 100000, follow_symlinks=False)
    runtime.program("cat /proc/self/uid_map; id -u")
    assert runtime("run", "one").stdout.split() == ["0", "100000", "65536", "0"]
