"""Namespaces that are joined by their path, of every kind, and time namespaces with their offsets."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glassdock.errors import InvalidParameter, StartFailed
from glassdock.oci.runtime import IDMapping, Namespace
from glassdock.runtime import defaults
from glassdock.runtime.messages import ExecTask
from tests.runtime.lab import Lab, eventually
from tests.runtime.test_user_namespaces import exec_in

pytestmark = pytest.mark.needs_root
SHOWN = pytest.mark.needs_the_machines_root("the image's files are shown with other ids, which only root may do")

FILES = {
    "cgroup": "cgroup",
    "ipc": "ipc",
    "mount": "mnt",
    "network": "net",
    "pid": "pid_for_children",
    "time": "time",
    "user": "user",
    "uts": "uts",
}
ALWAYS = ("mount", "pid", "uts", "ipc", "cgroup")


@pytest.fixture(scope="module")
def sleeper() -> Iterator[int]:
    """A process that has a namespace of its own of every kind, as unshare(1) makes them; its number."""
    command = ["unshare", *"--user --map-root-user --mount --pid --fork --kill-child".split()]
    command += [*"--uts --ipc --net --cgroup --time --boottime 5000".split(), "sleep", "100"]
    process = subprocess.Popen(command)
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        eventually(lambda: children.read_text() != "")
        (child,) = map(int, children.read_text().split())
        eventually(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
        yield child
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=SHOWN if kind == "user" else ()) for kind in FILES])
def test_a_namespace_of_every_kind_is_joined_by_its_path(lab: Lab, sleeper: int, kind: str) -> None:
    path = f"/proc/{sleeper}/ns/{FILES[kind]}"
    linux: dict[str, Any] = {"namespaces": (*(Namespace(one) for one in ALWAYS if one != kind), Namespace(kind, path))}
    if kind == "user":  # sysfs shows a network, and the root of a user namespace has none that he does not own
        linux["namespaces"] += (Namespace("network"),)
    with lab.folder() as folder:
        spec: dict[str, Any] = {"hostname": ""} if kind == "uts" else {}
        if kind == "user":  # one id is mapped there, and the group of terminals is another
            spec["mounts"] = tuple(mount for mount in defaults.mounts() if mount.destination != "/dev/pts")
        process = lab.start(lab.request(folder, "sleep", "100", linux=linux, spec=spec))
        try:
            name = kind if kind not in FILES else FILES[kind].partition("_")[0]
            assert os.readlink(f"/proc/{process.pid}/ns/{name}") == os.readlink(path)
            task = ExecTask("e" * 64, ("/bin/readlink", f"/proc/self/ns/{name}"), ("PATH=/bin",))
            assert exec_in(lab, folder, task) == 0
        finally:
            lab.do(process.signal(9))
            lab.do(process.wait())


def test_a_path_to_a_namespace_of_another_kind_is_refused(lab: Lab) -> None:
    linux = {"namespaces": (Namespace("mount"), Namespace("pid", "/proc/self/ns/net"))}
    with lab.folder() as folder, pytest.raises(StartFailed, match="joining the pid namespace /proc/self/ns/net: inval"):
        lab.start(lab.request(folder, "true", linux=linux, spec={"hostname": ""}))
    assert lab.cgroups() == []


def test_a_path_to_nothing_is_refused(lab: Lab) -> None:
    linux = {"namespaces": (Namespace("mount"), Namespace("pid", "/proc/nothing"))}
    with lab.folder() as folder, pytest.raises(StartFailed, match="no such file"):
        lab.start(lab.request(folder, "true", linux=linux, spec={"hostname": ""}))


def test_in_a_joined_pid_namespace_the_others_are_seen_and_cannot_look_in(lab: Lab) -> None:
    with lab.folder() as folder:
        first = lab.start(lab.request(folder, "sleep", "100"))
        try:
            joined = Namespace("pid", f"/proc/{first.pid}/ns/pid")
            linux = {"namespaces": (*(Namespace(kind) for kind in ALWAYS if kind != "pid"), joined)}
            result = lab.run("sh", "-c", "cat /proc/1/comm; test $$ -gt 1 && echo second", linux=linux)
            assert result.out.split() == ["sleep", "second"]
        finally:
            lab.do(first.signal(9))
            lab.do(first.wait())


def test_clocks_have_their_offsets(lab: Lab) -> None:
    linux = {
        "namespaces": (*defaults.namespaces(network=False), Namespace("time")),
        "time_offsets": {"boottime": {"secs": 86400}, "monotonic": {"secs": 1000, "nanosecs": 5}},
    }
    result = lab.run("sh", "-c", "cat /proc/uptime /proc/self/timens_offsets", linux=linux)
    words = result.out.split()
    assert 86399 < float(words[0]) - time.clock_gettime(time.CLOCK_BOOTTIME) < 86430
    assert words[2:] == ["monotonic", "1000", "5", "boottime", "86400", "0"]


def test_an_exec_has_the_containers_clocks(lab: Lab) -> None:
    linux = {
        "namespaces": (*defaults.namespaces(network=False), Namespace("time")),
        "time_offsets": {"boottime": {"secs": 86400}},
    }
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sleep", "100", linux=linux))
        try:
            task = ExecTask("e" * 64, ("/bin/sh", "-c", "cat /proc/uptime > /tmp/up"), ("PATH=/bin",))
            assert exec_in(lab, folder, task) == 0
            assert float((folder / "upper/tmp/up").read_text().split()[0]) > 86400
        finally:
            lab.do(process.signal(9))
            lab.do(process.wait())


@pytest.mark.parametrize(
    ("linux", "message"),
    [
        ({"time_offsets": {"boottime": {"secs": 1}}}, "time namespace isn't enabled"),
        (
            {
                "namespaces": (Namespace("mount"), Namespace("time", "/proc/1/ns/time")),
                "time_offsets": {"boottime": {"secs": 1}},
            },
            "both namespace path and time offsets",
        ),
        ({"namespaces": (Namespace("mount"), Namespace("time")), "time_offsets": {"wall": {"secs": 1}}}, "clock"),
        ({"namespaces": (Namespace("mount"), Namespace("mount"))}, "given twice"),
        ({"namespaces": (Namespace("mount"), Namespace("space"))}, "unknown namespace"),
        ({"namespaces": (Namespace("mount"), Namespace("pid", "ns/pid"))}, "must be absolute"),
        ({"uid_mappings": (IDMapping(0, 0, 1),)}, "user namespace isn't enabled"),
    ],
)
def test_combinations_without_sense_are_refused(lab: Lab, linux: dict[str, Any], message: str) -> None:
    with lab.folder() as folder, pytest.raises(InvalidParameter, match=message):
        lab.start(lab.request(folder, "true", linux=linux, spec={"hostname": ""}))
