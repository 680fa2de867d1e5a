"""`glassdock-runtime` and the mounts of a bundle: where they come from, what they cover, and in which order."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.bundles import Runtime

pytestmark = pytest.mark.needs_root


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def mount(runtime: Runtime, source: str, destination: str, *options: str, **more: Any) -> None:
    entry = {"source": source, "destination": destination, "options": list(options)} | more
    runtime.change(lambda spec: spec["mounts"].append(entry))


def said(runtime: Runtime, script: str) -> list[str]:
    runtime.program(script)
    return runtime("run", "one").stdout.splitlines()


def test_a_source_is_found_in_the_bundle_and_a_destination_begins_at_the_root(runtime: Runtime) -> None:
    (runtime.folder / "data").mkdir()
    (runtime.folder / "data/mark").write_text("here")
    mount(runtime, "data", "inside", "bind")
    assert said(runtime, "cat /inside/mark") == ["here"]


def test_a_source_in_the_root_has_what_was_mounted_there_before(runtime: Runtime) -> None:
    (runtime.folder / "data/below").mkdir(parents=True)
    (runtime.folder / "data/below/mark").write_text("here")
    root = runtime.folder / "rootfs"
    (root / "final").mkdir()
    mount(runtime, "data", "/first", "rbind")
    mount(runtime, f"{root}/first/below", f"{root}/final", "rbind")  # the destination too as the machine sees it
    assert said(runtime, "cat /final/mark") == ["here"]


def test_a_source_in_the_root_is_seen_with_other_owners(runtime: Runtime) -> None:
    root, ids = runtime.folder / "rootfs", [{"containerID": 0, "hostID": 5000, "size": 10}]
    (root / "own").mkdir()
    mount(runtime, f"{root}/own", "/shown", "bind", uidMappings=ids, gidMappings=ids)
    assert said(runtime, "stat -c %u:%g /own /shown") == ["0:0", "5000:5000"]


def test_a_source_in_the_root_is_not_looked_for_outside(runtime: Runtime) -> None:
    root = runtime.folder / "rootfs"
    (runtime.folder / "secret").write_text("the machine's")
    os.symlink(runtime.folder / "secret", root / "link")
    mount(runtime, f"{root}/link", "/shown", "bind")
    runtime.program("cat /shown")
    assert runtime("run", "one", check=False).returncode == 1
    assert "no such file or directory" in runtime.last_error()


def test_a_tmpfs_has_the_mode_of_what_it_covers_unless_one_is_said(runtime: Runtime) -> None:
    for name in ("plain", "said"):
        (runtime.folder / "rootfs" / name).mkdir()
        (runtime.folder / "rootfs" / name).chmod(0o710)
    mount(runtime, "tmpfs", "/plain", type="tmpfs")
    mount(runtime, "tmpfs", "/said", "mode=1500", type="tmpfs")
    mount(runtime, "tmpfs", "/made/for/it", type="tmpfs")
    assert said(runtime, "stat -c %a /plain /said /made/for/it") == ["710", "1500", "1777"]


def test_a_tmpfs_begins_with_what_it_covers_where_that_is_asked_for(runtime: Runtime) -> None:
    folder = runtime.folder / "rootfs/etc"
    (folder / "deep").mkdir()
    (folder / "deep/file").write_text("text")
    os.chown(folder / "deep/file", 7, 8)
    (folder / "deep/file").chmod(0o4644)
    (folder / "deep").chmod(0o777)
    os.symlink("/etc/deep", folder / "link")
    os.mkfifo(folder / "pipe")
    mount(runtime, "tmpfs", "/etc", "tmpcopyup", "ro", type="tmpfs")
    script = "cat /etc/link/file; echo; stat -c '%a %u %g' /etc/deep/file /etc/deep; test -p /etc/pipe && touch /etc/x"
    runtime.program(script)
    done = runtime("run", "one", check=False)
    assert done.stdout.splitlines() == ["text", "4644 7 8", "777 0 0"]
    assert "Read-only file system" in done.stderr
    assert not (folder / "x").exists()


def test_a_read_only_tmpfs_takes_the_mounts_inside_it_first(runtime: Runtime) -> None:
    def read_only(spec: dict[str, Any]) -> None:
        next(entry for entry in spec["mounts"] if entry["destination"] == "/dev")["options"].append("ro")

    runtime.change(read_only)
    assert said(runtime, "echo x > /dev/null && touch /dev/shm/x && touch /dev/x || echo refused") == ["refused"]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A folder with another file system mounted in it."""
    folder = tmp_path / "tree"
    (folder / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder / "below"], check=True)
    yield folder
    subprocess.run(["umount", folder / "below"], check=True)


def test_ro_is_for_the_mount_itself_and_rro_for_those_below(runtime: Runtime, tree: Path) -> None:
    mount(runtime, str(tree), "/top", "rbind", "ro")
    mount(runtime, str(tree), "/all", "rbind", "rro")
    mount(runtime, str(tree), "/seldom", "rbind", "rnoatime")
    mount(runtime, str(tree), "/usual", "rbind", "ratime")
    script = (
        "for place in /top /top/below /all /all/below; do touch $place/x 2>/dev/null && echo $place; done;"
        "grep -c ' /seldom.* rw,.*noatime' /proc/mounts; grep -c ' /usual.* rw,.*relatime' /proc/mounts"
    )
    assert said(runtime, script) == ["/top/below", "2", "2"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_to_nothing_is_made_true_inside_the_root(runtime: Runtime, kind: str) -> None:
    root = runtime.folder / "rootfs"
    source = runtime.folder / "data"
    if kind == "file":
        source.write_text("here")
    else:
        source.mkdir()
        (source / "mark").write_text("here")
    os.symlink("/not/there", root / "jump")
    os.symlink("/jump/yet", root / "etc/place")
    mount(runtime, "data", "/etc/place", "bind")
    assert said(runtime, "cat /not/there/yet" + ("/mark" if kind == "folder" else "")) == ["here"]
    assert not (root / "etc/not").exists()


def test_a_ptmx_that_is_asked_for_is_the_one_of_its_own_devpts(runtime: Runtime) -> None:
    device = {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 0o666}
    runtime.change(lambda spec: spec["linux"].update(devices=[device]))
    assert said(runtime, "readlink /dev/ptmx") == ["pts/ptmx"]


def test_an_exec_finds_the_bundle_from_anywhere(runtime: Runtime) -> None:
    (runtime.folder / "data").mkdir()
    mount(runtime, "data", "/inside", "bind")
    runtime.begin()
    command = runtime.command("exec", "one", "echo", "here")
    done = subprocess.run(command, cwd="/", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, b"here\n"), done
    runtime("delete", "--force", "one")
