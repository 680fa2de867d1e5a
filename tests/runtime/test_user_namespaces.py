"""A container whose root is nobody's root outside: its maps, its files, its power, and those who join it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from glassdock.errors import InvalidParameter, StartFailed
from glassdock.oci.runtime import IDMapping, Namespace, Rlimit
from glassdock.runtime import capabilities, defaults
from glassdock.runtime.messages import ExecTask
from tests.runtime.lab import Lab, read_log

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_the_machines_root("the image's files are shown with other ids, which only root may do"),
]

MAP = (IDMapping(0, 100000, 65536),)
USER: dict[str, Any] = {
    "namespaces": (*defaults.namespaces(network=True), Namespace("user")),
    "uid_mappings": MAP,
    "gid_mappings": MAP,
}


def words(lab: Lab, script: str, **changes: Any) -> list[str]:
    linux = USER | changes.pop("linux", {})
    result = lab.run("sh", "-c", script, linux=linux, **changes)
    assert (result.code, result.err) == (0, ""), result
    return result.out.split()


def test_the_maps_are_the_ones_that_were_asked_for(lab: Lab) -> None:
    assert words(lab, "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g") == [
        *("0", "100000", "65536"),
        *("0", "100000", "65536"),
        *("0", "0"),
    ]


def test_outside_its_root_is_nobody(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sleep", "100", linux=USER))
        try:
            assert os.stat(f"/proc/{process.pid}").st_uid == 100000
            for kind in ("user", "mnt", "pid", "uts", "ipc", "net", "cgroup"):
                own, theirs = (os.stat(f"/proc/{who}/ns/{kind}").st_ino for who in ("self", process.pid))
                assert own != theirs, kind
        finally:
            lab.do(process.signal(9))
            lab.do(process.wait())


def test_files_of_the_image_are_its_roots_and_the_disk_keeps_their_owners(lab: Lab) -> None:
    with lab.folder() as folder:
        script = "stat -c '%u:%g' /bin/busybox /etc/passwd; echo mine > /new; chown 5:6 /new; stat -c %u:%g /new"
        process = lab.start(lab.request(folder, "sh", "-c", script, linux=USER))
        assert lab.do(process.wait()).code == 0
        assert read_log(folder / "log")[0].split() == ["0:0", "0:0", "5:6"]
        new = (folder / "upper/new").stat()
        assert (new.st_uid, new.st_gid) == (5, 6)


def test_what_is_mounted_is_as_usual(lab: Lab) -> None:
    out = words(
        lab,
        'for d in /proc /sys /dev /dev/pts /dev/shm /dev/mqueue; do grep -q " $d " /proc/mounts && echo $d; done;'
        "echo x > /dev/null; head -c 4 /dev/zero | wc -c; echo z > /dev/shm/f; cat /dev/shm/f;"
        "wc -c < /proc/timer_list; ls /sys/firmware; ls /sys/fs/cgroup | head -1 | wc -l",
    )
    assert out == ["/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "4", "z", "0", "1"]


def test_its_root_has_the_capabilities_it_was_given_and_no_others(lab: Lab) -> None:
    status = words(lab, "grep -E 'Cap(Bnd|Eff)' /proc/self/status")
    assert status == ["CapEff:", "00000000a80425fb", "CapBnd:", "00000000a80425fb"]
    caps = capabilities.sets(capabilities.ALL)
    status = words(lab, "grep -E 'Cap(Bnd|Eff)' /proc/self/status", process={"capabilities": caps})
    assert int(status[1], 16) == int(status[3], 16) == capabilities.mask(capabilities.known())


def test_its_root_cannot_touch_the_machine(lab: Lab) -> None:
    caps = capabilities.sets(capabilities.ALL)
    script = "mknod /d b 8 0; date -s 2000-01-01; echo 1 > /proc/sys/kernel/panic; dmesg -c; true"
    result = lab.run("sh", "-c", script, process={"capabilities": caps}, linux=USER | {"seccomp": None})
    assert result.code == 0
    assert len(result.err.splitlines()) == 4, result.err


def test_a_terminal_belongs_to_its_root(lab: Lab) -> None:
    script = "stat -c %u $(readlink /proc/self/fd/0); echo hello > /dev/console; echo there > /dev/stdout"
    result = lab.run("sh", "-c", script, process={"terminal": True}, linux=USER)
    assert result.out.split() == ["0", "hello", "there"]


def test_its_streams_can_be_opened_by_their_names(lab: Lab) -> None:
    assert words(lab, "echo one > /dev/stdout") == ["one"]


def test_limits_and_the_oom_score_are_set_where_the_right_is(lab: Lab) -> None:
    process = {"oom_score_adj": 500, "rlimits": (Rlimit("RLIMIT_NOFILE", hard=100, soft=50),)}
    assert words(lab, "cat /proc/self/oom_score_adj; ulimit -n", process=process) == ["500", "50"]


def test_another_user_and_groups(lab: Lab) -> None:
    assert words(lab, "id -u; id -G; cat /etc/passwd | wc -l", user="ada") == ["1000", "1000", "2000", "2001", "2"]


def test_a_network_that_came_with_the_launch_is_joined(lab: Lab) -> None:
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        with lab.folder() as folder:
            script = "readlink /proc/self/ns/net; cat /proc/self/uid_map; ls /sys/class/net | head -1 | wc -l"
            request = lab.request(folder, "sh", "-c", script, linux=USER)
            assert lab.do(lab.start(request, netns=own).wait()).code == 0
            out, err = read_log(folder / "log")
            assert out.split() == [os.readlink("/proc/self/ns/net"), "0", "100000", "65536", "1"], err
    finally:
        os.close(own)


def test_an_exec_joins_it_too(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sleep", "100", linux=USER))
        try:
            script = "cat /proc/self/uid_map > /tmp/map; id -u >> /tmp/map; grep CapEff /proc/self/status >> /tmp/map"
            task = ExecTask("e" * 64, ("/bin/sh", "-c", script), ("PATH=/bin",))
            assert exec_in(lab, folder, task) == 0
            assert (folder / "upper/tmp/map").read_text().split() == [
                *("0", "100000", "65536", "0", "CapEff:", "00000000a80425fb")
            ]
            assert (folder / "upper/tmp/map").stat().st_uid == 0
        finally:
            lab.do(process.signal(9))
            lab.do(process.wait())


def exec_in(lab: Lab, folder: Path, task: ExecTask) -> int:
    from glassdock.runtime import execs

    async def whole() -> int:
        running = await execs.begin(folder / "run", task)
        return (await running.wait()).code

    return lab.do(whole())


def test_another_container_can_join_its_namespaces(lab: Lab) -> None:
    with lab.folder() as folder:
        first = lab.start(lab.request(folder, "sleep", "100", linux=USER))
        try:
            paths = {"user": "user", "network": "net", "ipc": "ipc", "pid": "pid"}
            joined = tuple(Namespace(kind, f"/proc/{first.pid}/ns/{name}") for kind, name in paths.items())
            linux = {"namespaces": (Namespace("mount"), Namespace("uts"), Namespace("cgroup"), *joined)}
            result = lab.run("sh", "-c", "cat /proc/self/uid_map; id -u; kill -0 1 && echo seen; touch /f", linux=linux)
            assert (result.out.split(), result.err) == (["0", "100000", "65536", "0", "seen"], "")
        finally:
            lab.do(first.signal(9))
            lab.do(first.wait())


@pytest.mark.parametrize(
    ("linux", "message"),
    [
        ({"uid_mappings": ()}, "no namespace path to join nor mappings"),
        ({"namespaces": defaults.namespaces()}, "mappings specified, but user namespace isn't enabled"),
        ({"uid_mappings": (IDMapping(5, 100000, 10),)}, "no user mapping found"),
        ({"gid_mappings": (IDMapping(5, 100000, 10),)}, "no group mapping found"),
    ],
)
def test_combinations_without_sense_are_refused(lab: Lab, linux: dict[str, Any], message: str) -> None:
    with lab.folder() as folder, pytest.raises(InvalidParameter, match=message):
        lab.start(lab.request(folder, "true", linux=USER | linux))


def test_maps_that_the_kernel_refuses_leave_nothing(lab: Lab) -> None:
    twice = (IDMapping(0, 100000, 10), IDMapping(5, 200000, 10))
    with lab.folder() as folder, pytest.raises(StartFailed, match="uid map: invalid argument"):
        lab.start(lab.request(folder, "true", linux=USER | {"uid_mappings": twice}))
    assert lab.cgroups() == []
