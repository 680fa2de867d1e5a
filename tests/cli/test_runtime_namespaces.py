"""`glassdock-runtime` and namespaces: new ones, none, and those that are joined by path, as runtime-tools asks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.bundles import Runtime
from tests.runtime.lab import eventually

pytestmark = pytest.mark.needs_root

FILES = {"cgroup": "cgroup", "ipc": "ipc", "mount": "mnt", "network": "net", "pid": "pid", "uts": "uts"}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def namespaces(runtime: Runtime, *entries: dict[str, str], **more: Any) -> None:
    runtime.change(lambda spec: spec["linux"].update(namespaces=list(entries), **more))


def inode(pid: int | str, kind: str) -> int:
    return os.stat(f"/proc/{pid}/ns/{FILES.get(kind, kind)}").st_ino


@pytest.fixture
def other(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A process in a namespace of that kind, as runtime-tools makes them with unshare(1)."""
    kind: str = request.param
    flags = {"network": "--net"}.get(kind, f"--{kind}")
    process = subprocess.Popen(["unshare", flags, "--fork", "--kill-child", "sleep", "100"])
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        eventually(lambda: children.read_text() != "")
        yield kind, process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("other", FILES, indirect=True)
def test_a_namespace_is_joined_by_its_path(runtime: Runtime, other: tuple[str, int]) -> None:
    kind, pid = other
    name = "pid_for_children" if kind == "pid" else FILES[kind]
    rest = [{"type": one} for one in FILES if one != kind]
    namespaces(runtime, *rest, {"type": kind, "path": f"/proc/{pid}/ns/{name}"})
    if kind == "uts":
        runtime.change(lambda spec: spec.pop("hostname"))
    runtime.program("sleep 100")
    runtime("run", "-d", "one")
    try:
        assert inode(runtime.state("one")["pid"], kind) == os.stat(f"/proc/{pid}/ns/{name}").st_ino
    finally:
        runtime("delete", "--force", "one")


def test_every_kind_can_be_new(runtime: Runtime) -> None:
    one = [{"containerID": 0, "hostID": 1000, "size": 2000}]
    entries = [{"type": kind} for kind in (*FILES, "user", "time")]
    namespaces(runtime, *entries, uidMappings=one, gidMappings=one, timeOffsets={"monotonic": {"secs": 77}})
    runtime.program("cat /proc/self/uid_map /proc/self/timens_offsets; sleep 100")
    for name in ("proc", "sys", "dev"):  # as in runtime-tools: the root is the machine's root's, not the container's
        (runtime.folder / "rootfs" / name).mkdir()
    runtime("create", "one")
    try:
        pid = runtime.state("one")["pid"]
        for kind in (*FILES, "user", "time"):
            assert inode(pid, kind) != inode("self", kind), kind
        assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "1000", "2000"]
        assert os.stat(f"/proc/{pid}/ns/user").st_ino == inode(pid, "user")
    finally:
        runtime("delete", "--force", "one")


@pytest.mark.parametrize("kind", ["cgroup", "ipc", "network", "pid", "uts"])
def test_what_is_not_named_is_the_runtimes_own(runtime: Runtime, kind: str) -> None:
    namespaces(runtime, *({"type": one} for one in FILES if one != kind))
    if kind == "uts":
        runtime.change(lambda spec: spec.pop("hostname"))
    runtime.program("sleep 100")
    runtime("run", "-d", "one")
    try:
        assert inode(runtime.state("one")["pid"], kind) == inode("self", kind)
    finally:
        runtime("delete", "--force", "one")


def test_without_a_mount_namespace_its_mounts_are_the_machines(runtime: Runtime) -> None:
    runtime.change(lambda spec: spec["linux"].update(maskedPaths=[], readonlyPaths=[]))
    namespaces(runtime, *({"type": one} for one in FILES if one not in ("mount", "user", "time")))
    root = runtime.folder / "rootfs"
    pid = runtime.begin()
    try:
        assert inode(pid, "mnt") == inode("self", "mnt")
        assert f" {root} " in Path("/proc/self/mountinfo").read_text()
        for told in (os.listdir(f"/proc/{pid}/root"), runtime("exec", "one", "ls", "/").stdout.split()):
            assert sorted(told) == sorted(os.listdir(root))
    finally:
        runtime("delete", "--force", "one")
        subprocess.run(["umount", "-R", "--lazy", str(root)], check=True, timeout=10)
    runtime.change(lambda spec: spec["process"].update(args=["nosuch"]))
    assert runtime("create", "one", check=False).returncode == 1
    assert f" {root}" not in Path("/proc/self/mountinfo").read_text()
    runtime.change(lambda spec: spec["linux"].update(maskedPaths=["/proc/kcore"]))
    assert "without a private MNT namespace" in runtime("create", "one", check=False).stderr


def test_the_maps_of_a_joined_user_namespace_have_to_be_the_ones_that_are_told(runtime: Runtime) -> None:
    one = [{"containerID": 0, "hostID": 5000, "size": 1}]
    process = subprocess.Popen(["unshare", "--user", "--map-root-user", "sleep", "100"])
    try:
        eventually(lambda: inode(process.pid, "user") != inode("self", "user"))
        path = {"type": "user", "path": f"/proc/{process.pid}/ns/user"}
        rest = ({"type": kind} for kind in FILES)
        namespaces(runtime, *rest, path, uidMappings=one, gidMappings=one)
        done = runtime("create", "one", check=False)
        assert "non-matching mappings specified" in done.stderr
        assert runtime("list", "-q").stdout == ""
    finally:
        process.kill()
        process.wait()
