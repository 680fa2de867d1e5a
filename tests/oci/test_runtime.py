"""The runtime specification's document: names, defaults, faults."""

from __future__ import annotations

import json

import pytest

from glassdock.errors import InvalidParameter
from glassdock.oci.runtime import (
    CPU,
    BlockIO,
    Device,
    DeviceRule,
    Hook,
    Hooks,
    HugepageLimit,
    IDMapping,
    IOPriority,
    Linux,
    Memory,
    Mount,
    Namespace,
    Pids,
    Process,
    Resources,
    Rlimit,
    Root,
    Seccomp,
    SeccompArg,
    SeccompRule,
    Spec,
    ThrottleDevice,
    User,
    decode,
    encode,
)

WHOLE = Spec(
    oci_version="1.1.0",
    process=Process(
        cwd="/",
        args=("sh",),
        user=User(uid=1, gid=2, umask=0o77, additional_gids=(3,)),
        terminal=True,
        rlimits=(Rlimit("RLIMIT_CORE", 1, 1),),
        no_new_privileges=True,
        apparmor_profile="a",
        selinux_label="s",
        oom_score_adj=5,
        io_priority=IOPriority(class_="IOPRIO_CLASS_IDLE"),
    ),
    root=Root("r", readonly=True),
    hostname="h",
    domainname="d",
    mounts=(Mount("/p", "proc", "proc", ("ro",), (IDMapping(0, 1, 2),)),),
    hooks=Hooks(create_runtime=(Hook("/h", timeout=1),)),
    linux=Linux(
        namespaces=(Namespace("pid", "/proc/1/ns/pid"),),
        uid_mappings=(IDMapping(0, 1000, 1),),
        devices=(Device("/dev/x", "c", 1, 2, file_mode=0o600),),
        cgroups_path="/c",
        resources=Resources(
            devices=(DeviceRule(True, "c", 1, None, "r"),),
            memory=Memory(limit=1, kernel_tcp=2, disable_oom_killer=True),
            cpu=CPU(realtime_period=1),
            pids=Pids(1),
            block_io=BlockIO(throttle_read_iops_device=(ThrottleDevice(1, 2, 3),), leaf_weight=10),
            hugepage_limits=(HugepageLimit("2MB", 1),),
        ),
        rootfs_propagation="private",
        seccomp=Seccomp("SCMP_ACT_ERRNO", 1, syscalls=(SeccompRule(("a",), "B", 1, (SeccompArg(0, 1, "C", 2),)),)),
        masked_paths=("/m",),
    ),
)


def test_the_names_are_the_specifications() -> None:
    body = json.loads(encode(WHOLE))
    assert body["process"]["user"] == {"uid": 1, "gid": 2, "umask": 63, "additionalGids": [3]}
    assert body["process"]["oomScoreAdj"] == 5
    assert body["process"]["ioPriority"] == {"class": "IOPRIO_CLASS_IDLE"}
    assert body["process"]["noNewPrivileges"] is True
    assert body["hooks"] == {"createRuntime": [{"path": "/h", "timeout": 1}]}
    assert body["mounts"][0]["uidMappings"] == [{"containerID": 0, "hostID": 1, "size": 2}]
    linux = body["linux"]
    assert linux["cgroupsPath"] == "/c"
    assert linux["resources"]["memory"] == {"limit": 1, "kernelTCP": 2, "disableOOMKiller": True}
    assert linux["resources"]["cpu"] == {"realtimePeriod": 1}
    assert linux["resources"]["blockIO"]["throttleReadIOPSDevice"] == [{"major": 1, "minor": 2, "rate": 3}]
    assert linux["resources"]["hugepageLimits"] == [{"pageSize": "2MB", "limit": 1}]
    assert linux["seccomp"]["defaultErrnoRet"] == 1
    assert linux["seccomp"]["syscalls"][0]["args"] == [{"index": 0, "value": 1, "op": "C", "valueTwo": 2}]


def test_what_was_written_reads_back() -> None:
    assert decode(encode(WHOLE)) == WHOLE


def test_the_version_is_always_written() -> None:
    assert json.loads(encode(Spec())) == {"ociVersion": "1.2.0"}


def test_unknown_members_are_ignored_and_absent_ones_have_defaults() -> None:
    found = decode('{"ociVersion": "1.0.2", "windows": {}, "process": {"args": ["x"], "commandLine": "y"}}')
    assert found.process is not None
    assert found.process.cwd == "/"
    assert found.linux is None


@pytest.mark.parametrize("text", ["", "[]", '{"process": {"args": "sh"}}', '{"linux": {"namespaces": [{}]}}', "{\xff"])
def test_a_fault_is_named_with_its_place(text: str) -> None:
    with pytest.raises(InvalidParameter, match="not a valid config"):
        decode(text)
