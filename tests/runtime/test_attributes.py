"""What a process is given besides: scheduler, priorities, personality, labels; its mounts and devices."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glassdock.errors import InvalidParameter, NotSupported, StartFailed
from glassdock.oci.runtime import (
    CPUAffinity,
    Device,
    DeviceRule,
    IDMapping,
    IOPriority,
    MemoryPolicy,
    Personality,
    Resources,
    Scheduler,
)
from glassdock.oci.runtime import Mount as Entry
from glassdock.runtime import defaults, launch
from glassdock.runtime.messages import ExecTask
from tests.runtime.lab import Lab, read_log
from tests.runtime.test_user_namespaces import USER, exec_in

pytestmark = pytest.mark.needs_root

MAP = (IDMapping(0, 100000, 65536),)


@pytest.fixture
def running(lab: Lab) -> Iterator[Callable[..., tuple[launch.Process, Path]]]:
    """Start a sleeping container with changes: (its process, its folder)."""
    with contextlib.ExitStack() as ends:

        def end(process: launch.Process) -> None:
            lab.do(process.signal(9))
            lab.do(process.wait())

        def start(**changes: Any) -> tuple[launch.Process, Path]:
            folder = ends.enter_context(lab.folder())
            process = lab.start(lab.request(folder, "sleep", "100", **changes))
            ends.callback(end, process)
            return process, folder

        yield start


def test_the_scheduler_is_set(running: Any) -> None:
    process, _ = running(process={"scheduler": Scheduler("SCHED_BATCH", nice=5)})
    assert os.sched_getscheduler(process.pid) == os.SCHED_BATCH
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == 5


def test_flags_of_the_scheduler_are_set(running: Any) -> None:
    process, _ = running(process={"scheduler": Scheduler("SCHED_IDLE", flags=("SCHED_FLAG_RESET_ON_FORK",))})
    assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE | os.SCHED_RESET_ON_FORK


def test_the_priority_of_its_input_and_output_is_set(running: Any) -> None:
    process, _ = running(process={"io_priority": IOPriority(6, "IOPRIO_CLASS_BE")})
    number = {"x86_64": 252, "aarch64": 31}[os.uname().machine]  # ioprio_get(2)
    assert ctypes.CDLL(None).syscall(number, 1, process.pid) == 2 << 13 | 6


def test_a_machine_of_32_bits_is_played(lab: Lab) -> None:
    assert lab.run("uname", "-m", linux={"personality": Personality("LINUX32")}).out.strip() == "i686"
    assert lab.run("uname", "-m", linux={"personality": Personality("LINUX")}).out.strip() == os.uname().machine


def test_flags_of_a_personality_are_left_out_with_a_warning(running: Any) -> None:
    process, _ = running(linux={"personality": Personality("LINUX", ("ADDR_NO_RANDOMIZE",))})
    assert "ignoring unsupported personality flags: ADDR_NO_RANDOMIZE" in process.warnings


def test_an_exec_has_the_personality_too(lab: Lab, running: Any) -> None:
    _, folder = running(linux={"personality": Personality("LINUX32")})
    task = ExecTask("e" * 64, ("/bin/sh", "-c", "uname -m > /tmp/m"), ("PATH=/bin",))
    assert exec_in(lab, folder, task) == 0
    assert (folder / "upper/tmp/m").read_text() == "i686\n"


def test_memory_comes_from_the_nodes_that_are_named(running: Any) -> None:
    process, _ = running(linux={"memory_policy": MemoryPolicy("MPOL_BIND", "0")})
    assert " bind" in Path(f"/proc/{process.pid}/numa_maps").read_text()


@pytest.mark.parametrize(
    ("process", "linux", "message"),
    [
        ({"scheduler": Scheduler("")}, {}, "scheduler policy is required"),
        ({"scheduler": Scheduler("SCHED_WISH")}, {}, "invalid scheduler policy"),
        ({"scheduler": Scheduler("SCHED_OTHER", nice=20)}, {}, "invalid scheduler.nice: 20"),
        ({"scheduler": Scheduler("SCHED_OTHER", priority=1)}, {}, "can only be specified for SchedFIFO"),
        ({"scheduler": Scheduler("SCHED_RR", runtime=1)}, {}, "can only be specified for SchedDeadline"),
        ({"scheduler": Scheduler("SCHED_OTHER", flags=("X",))}, {}, "invalid scheduler flag"),
        ({"io_priority": IOPriority(8, "IOPRIO_CLASS_BE")}, {}, "invalid ioPriority.Priority: 8"),
        ({"io_priority": IOPriority(1, "IOPRIO_CLASS_BEST")}, {}, "invalid ioPriority.Class"),
        ({"exec_cpu_affinity": CPUAffinity("0-", "")}, {}, "invalid list of numbers"),
        ({}, {"personality": Personality("OS2")}, "invalid personality domain OS2"),
        ({}, {"memory_policy": MemoryPolicy("MPOL_BIND")}, "at least one node"),
        ({}, {"memory_policy": MemoryPolicy("MPOL_LOCAL", "0")}, "requires 0 nodes"),
        ({}, {"sysctl": {"kernel.hostname": "x"}}, "conflicts with the OCI"),
        ({}, {"sysctl": {"user.max_net_namespaces": "1"}}, "without a user namespace"),
        ({}, {"devices": (Device("/dev/x", "q"),)}, "invalid device type"),
        ({}, {"devices": (Device("dev/x", "c"),)}, "must be absolute"),
    ],
)
def test_what_makes_no_sense_is_refused(lab: Lab, process: dict[str, Any], linux: dict[str, Any], message: str) -> None:
    with lab.folder() as folder, pytest.raises(InvalidParameter, match=message):
        lab.start(lab.request(folder, "true", process=process, linux=linux))


@pytest.mark.parametrize("what", ["intel_rdt", "net_devices"])
def test_what_is_not_there_is_refused(lab: Lab, what: str) -> None:
    with lab.folder() as folder, pytest.raises(NotSupported):
        lab.start(lab.request(folder, "true", linux={what: {"eth0": {}}}))


@pytest.mark.parametrize(
    ("process", "linux", "module", "message"),
    [
        ({"apparmor_profile": "x"}, {}, "apparmor", "apparmor: config provided but apparmor not supported"),
        ({"selinux_label": "x"}, {}, "selinux", "selinux label is specified in config, but selinux is disabled"),
        ({}, {"mount_label": "x"}, "selinux", "selinux label is specified in config, but selinux is disabled"),
    ],
)
def test_a_label_without_its_module_is_refused(
    lab: Lab, process: dict[str, Any], linux: dict[str, Any], module: str, message: str
) -> None:
    if os.path.exists(f"/sys/fs/{module}") or os.path.exists(f"/sys/kernel/security/{module}"):
        pytest.skip(f"this machine has {module}")
    with lab.folder() as folder, pytest.raises(InvalidParameter, match=message):
        lab.start(lab.request(folder, "true", process=process, linux=linux))


@pytest.mark.needs_the_machines_root("these settings belong to the machine's root")
def test_settings_can_be_written_with_slashes(lab: Lab) -> None:
    linux = {
        "namespaces": defaults.namespaces(),
        "sysctl": {"net/ipv4/conf/lo/rp_filter": "2", "kernel.domainname": "here"},
    }
    files = ("/proc/sys/net/ipv4/conf/lo/rp_filter", "/proc/sys/kernel/domainname")
    assert lab.run("cat", *files, linux=linux).out.split() == ["2", "here"]


@pytest.mark.needs_the_machines_root("devices and ids of its own are given by the machine's root")
def test_a_device_is_where_it_is_asked_for_and_looks_as_it_is_asked_to(lab: Lab) -> None:
    linux = {
        "devices": (
            Device("/dev/mine", "c", 1, 5, file_mode=0o640, uid=7, gid=8),
            Device("/srv/deep/null", "c", 1, 3),
            Device("/dev/pipe", "p", file_mode=0o622, uid=3, gid=4),
        ),
        "resources": Resources(devices=(DeviceRule(True),)),
    }
    script = (
        "stat -c '%F %a %u %g %t:%T' /dev/mine /dev/pipe; head -c 3 /dev/mine | wc -c; echo x > /srv/deep/null;"
        "chmod 777 /dev/mine; stat -c %a /dev/mine"
    )
    result = lab.run("sh", "-c", script, linux=linux)
    assert result.out.splitlines() == ["character special file 640 7 8 1:5", "fifo 622 3 4 0:0", "3", "640"]
    assert "Read-only" in result.err
    assert os.stat("/dev/zero").st_mode & 0o777 != 0o640


@pytest.mark.needs_the_machines_root("devices and ids of its own are given by the machine's root")
def test_a_device_in_a_user_namespace_belongs_to_the_user_inside(lab: Lab) -> None:
    linux = USER | {"devices": (Device("/dev/mine", "c", 1, 5, file_mode=0o640, uid=7, gid=8),)}
    result = lab.run("sh", "-c", "stat -c '%u %g' /dev/mine; head -c 3 /dev/mine | wc -c", linux=linux)
    assert result.out.split() == ["7", "8", "3"], result.err


def test_a_file_that_is_there_is_not_taken_for_a_device(lab: Lab) -> None:
    linux = {"devices": (Device("/etc/passwd", "c", 1, 3),)}
    with lab.folder() as folder, pytest.raises(StartFailed, match="a file is there that is not this device"):
        lab.start(lab.request(folder, "true", linux=linux))


@pytest.mark.parametrize("word", ["private", "slave", "shared", "unbindable", "rshared"])
def test_the_root_has_the_propagation_that_is_asked_for(lab: Lab, word: str) -> None:
    result = lab.run("cat", "/proc/self/mountinfo", linux={"rootfs_propagation": word})
    root = next(line for line in result.out.splitlines() if line.split()[4] == "/")
    tags = [field.partition(":")[0] for field in root.split()[6 : root.split().index("-")]]
    expected = {"shared": ["shared"], "unbindable": ["unbindable"]}
    assert tags == expected.get(word.removeprefix("r"), [])


@pytest.mark.needs_the_machines_root("devices and ids of its own are given by the machine's root")
def test_a_mount_is_seen_with_the_ids_that_are_asked_for(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    mounts = (
        Entry("/plain", "bind", str(tmp_path), ("rbind",)),
        Entry("/own", "bind", str(tmp_path), ("rbind", "idmap"), MAP, MAP),
    )
    result = lab.run("sh", "-c", "stat -c '%u %g' /plain/file /own/file; touch /own/new", mounts=mounts)
    assert result.out.split() == ["0", "0", "100000", "100000"]


@pytest.mark.needs_the_machines_root("devices and ids of its own are given by the machine's root")
def test_a_mount_can_have_the_ids_of_the_containers_user_namespace(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    tmp_path.chmod(0o755)  # nobody has no right to look in else
    mounts = (
        Entry("/plain", "bind", str(tmp_path), ("rbind",)),
        Entry("/own", "bind", str(tmp_path), ("rbind", "ridmap")),
    )
    script = "stat -c '%u %g' /plain/file /own/file; touch /own/new"
    result = lab.run("sh", "-c", script, mounts=mounts, linux=USER)
    assert (result.out.split(), result.err) == (["65534", "65534", "0", "0"], "")
    assert (tmp_path / "new").stat().st_uid == 0


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (Entry("/x", "bind", "/tmp", ("rbind", "idmap")), "idmap needs mappings"),
        (Entry("/x", "bind", "/tmp", ("rbind",), MAP), "both uid and gid"),
        (Entry("/x", "tmpfs", "tmpfs", (), MAP, MAP), "only supported for bind-mounts"),
    ],
)
def test_a_map_without_sense_is_refused(lab: Lab, mount: Entry, message: str) -> None:
    with lab.folder() as folder, pytest.raises(InvalidParameter, match=message):
        lab.start(lab.request(folder, "true", mounts=(mount,)))


def test_annotations_and_unknown_members_are_accepted(lab: Lab) -> None:
    with lab.folder() as folder:
        request = lab.request(folder, "true", spec={"annotations": {"org.example.colour": "blue"}})
        assert lab.do(lab.start(request).wait()).code == 0
        assert read_log(folder / "log") == ("", "")


def test_a_terminal_begins_with_its_size(lab: Lab) -> None:
    from glassdock.oci.runtime import Box

    process = {"terminal": True, "console_size": Box(31, 97)}
    assert lab.run("stty", "size", process=process).out.split() == ["31", "97"]


def test_other_file_systems_are_the_kernels_to_know(lab: Lab) -> None:
    mounts = (Entry("/ram", "ramfs", "ramfs", ("nosuid",)),)
    assert "/ram ramfs" in lab.run("cat", "/proc/mounts", mounts=mounts).out
    with lab.folder() as folder, pytest.raises(StartFailed, match="no such device"):
        lab.start(lab.request(folder, "true", mounts=(Entry("/x", "wishfs", "none"),)))
