"""A root that is a copy: everything is in it, and what was changed in it is found again."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from glassdock.oci import digest
from glassdock.paths import Paths
from glassdock.unionfs import drivers, marks, trees
from glassdock.unionfs.copy import Copy
from glassdock.unionfs.overlay import Snapshotter
from tests.unionfs.support import in_mount_namespace

BASE = digest.of(b"base")
TOP = digest.of(b"top")


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshotter:
    """Two layers: the upper one deletes /etc/gone, replaces /etc/file, and hides what was in /opt."""
    paths = Paths.of(tmp_path / "state")
    made = Snapshotter(paths, Copy(paths.layers / "tmp"))
    with made.unpacking(BASE, None) as folder:
        for name in ("etc/file", "etc/gone", "etc/same", "opt/old", "a/b/c/deep"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"low {name}")
        os.link(folder / "etc/same", folder / "etc/linked")
        (folder / "link").symlink_to("etc/file")
        os.mkfifo(folder / "fifo")
        (folder / "etc/same").chmod(0o4711)
        os.setxattr(folder / "etc/same", "user.note", b"kept")
        with (folder / "holes").open("wb") as file:
            file.truncate(8 << 20)
            os.pwrite(file.fileno(), b"data", 4 << 20)
    with made.unpacking(TOP, BASE) as folder:
        (folder / "etc").mkdir()
        (folder / "etc/file").write_text("high")
        (folder / "opt").mkdir()
        (folder / "opt/new").write_text("new")
        for name, call in (("etc", lambda fd: marks.make_whiteout(b"gone", fd)), ("opt", marks.make_opaque)):
            fd = os.open(folder / name, os.O_RDONLY)
            call(fd)
            os.close(fd)
    return made


@pytest.fixture
def root(snapshots: Snapshotter) -> Path:
    mount = snapshots.prepare("one", TOP)
    assert mount.lowers == ()
    assert mount.describe() == f"bind {mount.upper}"
    return Path(mount.upper)


def changed(snapshots: Snapshotter) -> dict[str, str]:
    """Path to content of each file, "dir", or "gone" for a whiteout."""
    found = {}
    with snapshots.changed("one") as folder:
        for node in trees.walk(folder):
            path = folder / os.fsdecode(node.path)
            if marks.is_whiteout(node.status, node.name, node.parent):
                found[str(path.relative_to(folder))] = "gone"
            elif stat.S_ISDIR(node.status.st_mode):
                found[str(path.relative_to(folder))] = "dir"
            else:
                found[str(path.relative_to(folder))] = path.read_text() if path.is_file() else "special"
    return found


@pytest.mark.needs_root
def test_a_root_shows_what_an_overlay_would(root: Path) -> None:
    assert sorted(os.listdir(root)) == ["a", "etc", "fifo", "holes", "link", "opt"]
    assert sorted(os.listdir(root / "etc")) == ["file", "linked", "same"]
    assert os.listdir(root / "opt") == ["new"]
    assert (root / "etc/file").read_text() == "high"
    assert os.readlink(root / "link") == "etc/file"
    same = (root / "etc/same").stat()
    assert (stat.S_IMODE(same.st_mode), same.st_nlink) == (0o4711, 2)
    assert same.st_ino == (root / "etc/linked").stat().st_ino
    assert os.getxattr(root / "etc/same", "user.note") == b"kept"
    assert stat.S_ISFIFO((root / "fifo").stat().st_mode)


@pytest.mark.needs_root
def test_holes_stay_holes(root: Path) -> None:
    status = (root / "holes").stat()
    assert status.st_size == 8 << 20
    assert status.st_blocks * 512 < 1 << 20
    with (root / "holes").open("rb") as file:
        assert os.pread(file.fileno(), 6, (4 << 20) - 1) == b"\0data\0"


@pytest.mark.needs_root
def test_the_image_does_not_change_with_the_container(snapshots: Snapshotter, root: Path) -> None:
    with (root / "etc/same").open("w") as file:
        file.write("written")
    (root / "etc/file").unlink()
    assert (snapshots.layer_path(BASE) / "etc/same").read_text() == "low etc/same"
    again = Path(snapshots.prepare("two", TOP).upper)
    assert (again / "etc/same").read_text() == "low etc/same"
    assert (again / "etc/file").read_text() == "high"


@pytest.mark.needs_root
def test_a_copy_that_nobody_touched_has_no_changes(snapshots: Snapshotter, root: Path) -> None:
    assert changed(snapshots) == {}
    os.utime(root / "etc/same", ns=(0, (root / "etc/same").stat().st_mtime_ns))
    assert changed(snapshots) == {}
    assert snapshots.usage("one") == 0


def touch_back(path: Path) -> None:
    """Other content of the same length, and the time put back: only the content tells."""
    before = path.stat()
    path.write_text("HIGH")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path, make: Callable[[Path], object]) -> None:
    trees.remove(path)
    make(path)


CHANGES: dict[str, tuple[Callable[[Path], object], dict[str, str]]] = {
    "content": (lambda root: (root / "etc/file").write_text("other"), {"etc": "dir", "etc/file": "other"}),
    "content, and the time put back": (
        lambda root: touch_back(root / "etc/file"), {"etc": "dir", "etc/file": "HIGH"}),
    "a new file": (lambda root: (root / "etc/more").write_text("x"), {"etc": "dir", "etc/more": "x"}),
    "a file that goes": (lambda root: (root / "etc/file").unlink(), {"etc": "dir", "etc/file": "gone"}),
    "a folder that goes": (lambda root: trees.remove(root / "a"), {"a": "gone"}),
    "deep down": (
        lambda root: (root / "a/b/c/deep").write_text("x"),
        {"a": "dir", "a/b": "dir", "a/b/c": "dir", "a/b/c/deep": "x"}),
    "a mode": (lambda root: (root / "etc/file").chmod(0o600), {"etc": "dir", "etc/file": "high"}),
    "a mode of a folder": (lambda root: (root / "opt").chmod(0o700), {"opt": "dir"}),
    "an attribute": (
        lambda root: os.setxattr(root / "etc/file", "user.x", b"y"), {"etc": "dir", "etc/file": "high"}),
    "a file over a folder": (
        lambda root: replace(root / "a", lambda path: path.write_text("x")), {"a": "x"}),
    "a folder over a file": (
        lambda root: replace(root / "link", Path.mkdir), {"link": "dir"}),
    "another target": (
        lambda root: replace(root / "link", lambda path: path.symlink_to("etc/fi")), {"link": "special"}),
    "one more name": (
        lambda root: os.link(root / "etc/file", root / "opt/name"), {"opt": "dir", "opt/name": "high"}),
    "a socket": (lambda root: listen(root / "opt/socket"), {"opt": "dir", "opt/socket": "special"}),
}  # fmt: skip


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{(fd := os.open(path.parent, os.O_PATH))}/{path.name}")
        os.close(fd)


@pytest.mark.needs_root
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found(snapshots: Snapshotter, root: Path, name: str) -> None:
    change, expected = CHANGES[name]
    change(root)
    assert changed(snapshots) == expected


@pytest.mark.needs_root
def test_a_change_is_found_when_the_clock_was_set_back(snapshots: Snapshotter, root: Path) -> None:
    (root / "etc/file").write_text("longer than before")
    born = root.parent / "born"
    os.utime(born)
    time.sleep(0.02)
    born.unlink()
    born.touch()  # as if everything had been touched before the copy was complete
    assert changed(snapshots) == {"etc": "dir", "etc/file": "longer than before"}


@pytest.mark.needs_root
def test_a_copy_becomes_a_layer_of_what_was_changed(snapshots: Snapshotter, root: Path) -> None:
    (root / "etc/file").unlink()
    (root / "opt/more").write_text("more")
    made = digest.of(b"committed")
    snapshots.finish("one")
    snapshots.commit("one", made)
    folder = snapshots.layer_path(made)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == ["etc", "etc/file", "opt", "opt/more"]
    assert snapshots.keys() == {}
    (view,) = snapshots.view(made).lowers
    assert sorted(os.listdir(f"{view}/opt")) == ["more", "new"]
    assert not (Path(view) / "etc/file").exists()


@pytest.mark.needs_root
def test_what_is_read_shares_its_files_and_goes_with_its_layer(snapshots: Snapshotter) -> None:
    (view,) = snapshots.view(TOP).lowers
    assert (Path(view) / "etc/same").stat().st_ino == (snapshots.layer_path(BASE) / "etc/same").stat().st_ino
    snapshots.remove(TOP)
    assert not Path(view).exists()
    assert (snapshots.layer_path(BASE) / "etc/same").read_text() == "low etc/same"


@pytest.mark.needs_root
def test_the_driver_is_found_by_doing_and_stays(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path / "state")
    assert drivers.choose(paths).name == "overlay"
    assert os.listdir(paths.layers) == ["tmp"]
    assert os.listdir(paths.layers / "tmp") == []
    (paths.layers / "driver").write_text("copy")
    assert drivers.choose(paths).name == "copy"


@pytest.mark.needs_root
def test_on_an_overlay_roots_are_copied(tmp_path: Path) -> None:
    """As in a pod, whose files are on an overlay: it takes no upper folder, and makes no device 0:0."""
    script = """
import os, sys
from pathlib import Path
from glassdock.paths import Paths
from glassdock.unionfs import drivers, marks
from glassdock.unionfs.mounts import Mount
top = Path(sys.argv[1])
for name in ("lower", "lower2", "upper", "work", "pod"):
    (top / name).mkdir()
Mount((str(top / "lower"), str(top / "lower2")), str(top / "upper"), str(top / "work")).apply(str(top / "pod"))
paths = Paths.of(top / "pod/state")
print(drivers.choose(paths).name, (paths.layers / "driver").read_text())
fd = os.open(paths.layers, os.O_RDONLY)
marks.make_whiteout(b"gone", fd)
status = os.stat("gone", dir_fd=fd, follow_symlinks=False)
print(marks.is_whiteout(status, b"gone", fd), status.st_rdev, marks.is_opaque(fd))
"""
    assert in_mount_namespace(script, tmp_path).splitlines() == ["copy copy", "True 0 False"]
