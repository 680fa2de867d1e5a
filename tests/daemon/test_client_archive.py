"""A container's files by the official client: cp both ways, diff, export; running, stopped, and hostile."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]
Run = Callable[..., str]


@pytest.fixture(params=["running", "stopped"])
def holder(request: pytest.FixtureRequest, container: Run, ready: Daemon) -> str:
    """A container with some files, in either state."""
    script = "mkdir -p /data/deep; echo one > /data/one; ln -s /data/one /data/link; ln /data/one /data/deep/same"
    name = container("-d", "busybox", "sh", "-c", f"{script}; touch /ready; exec sleep 100")
    for _ in range(100):
        if ready.docker("cp", f"{name}:/ready", "-", check=False).returncode == 0:
            break
    if request.param == "stopped":
        ready.docker("kill", name)
        ready.docker("wait", name)
    return name


def test_a_file_comes_out_and_goes_in(ready: Daemon, holder: str, tmp_path: Path) -> None:
    ready.docker("cp", f"{holder}:/data/one", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "one\n"
    (tmp_path / "in").write_text("two\n")
    (tmp_path / "in").chmod(0o640)
    ready.docker("cp", str(tmp_path / "in"), f"{holder}:/data/two")
    ready.docker("cp", f"{holder}:/data/two", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "two\n"
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o640


def test_a_folder_comes_out_and_goes_in(ready: Daemon, holder: str, tmp_path: Path) -> None:
    ready.docker("cp", f"{holder}:/data", str(tmp_path))
    assert (tmp_path / "data/deep/same").read_text() == "one\n"
    assert (tmp_path / "data/link").is_symlink()
    ready.docker("cp", f"{holder}:/data/.", str(tmp_path / "contents"))
    assert (tmp_path / "contents/one").exists()
    ready.docker("cp", str(tmp_path / "contents"), f"{holder}:/etc")
    ready.docker("cp", f"{holder}:/etc/contents/deep/same", str(tmp_path / "again"))
    assert (tmp_path / "again").read_text() == "one\n"


def test_a_link_is_followed_on_request_and_stays_inside(ready: Daemon, container: Run, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    name = container("busybox", "sh", "-c", f"ln -s {outside} /abs; ln -s ../../../../{outside} /up; ln -s /etc /etc2")
    (tmp_path / "file").write_text("mine")
    for link in ("abs", "up"):
        ready.docker("cp", str(tmp_path / "file"), f"{name}:/{link}/stolen", check=False)
        assert ready.docker("cp", f"{name}:/{link}/.", str(tmp_path / "got"), check=False).returncode == 1
    assert not list(outside.iterdir())
    ready.docker("cp", "-L", f"{name}:/etc2", str(tmp_path / "etc"))
    assert (tmp_path / "etc").is_dir() and not (tmp_path / "etc").is_symlink()


def test_a_path_that_is_swapped_while_we_look_leads_nowhere_else(ready: Daemon, container: Run, tmp_path: Path) -> None:
    """CVE-2018-15664: a folder becomes a link to the machine's files between the look and the use."""
    (tmp_path / "secret").write_text("the machine's")
    swap = f"mkdir -p /a/{tmp_path} /b; ln -s / /link; while :; do mv /a /c; mv /link /a; mv /a /link; mv /c /a; done"
    name = container("-d", "busybox", "sh", "-c", swap)
    for _ in range(30):
        connection = ready.request("GET", f"/containers/{name}/archive?path=/a{tmp_path}/secret")
        assert "the machine's" not in str(connection[1])
        ready.docker("cp", str(tmp_path / "secret"), f"{name}:/a{tmp_path}/planted", check=False)
    assert not (tmp_path / "planted").exists()


def test_what_is_not_there_is_named(ready: Daemon, holder: str, tmp_path: Path) -> None:
    done = ready.docker("cp", f"{holder}:/nothing", str(tmp_path), check=False)
    assert done.returncode == 1 and "Could not find the file /nothing" in done.stderr
    assert ready.request("PUT", f"/containers/{holder}/archive?path=/data/one", [])[0] == 400
    assert ready.request("PUT", f"/containers/{holder}/archive?path=/nothing", None)[0] == 404
    assert ready.get(f"/containers/{holder}/archive")[0] == 400


def test_a_read_only_root_is_not_written(ready: Daemon, container: Run, tmp_path: Path) -> None:
    name = container("--read-only", "busybox", "true")
    (tmp_path / "file").write_text("x")
    done = ready.docker("cp", str(tmp_path / "file"), f"{name}:/file", check=False)
    assert done.returncode == 1 and "marked read-only" in done.stderr


def test_diff_tells_what_changed(ready: Daemon, container: Run) -> None:
    name = container("busybox", "sh", "-c", "mkdir /new; echo x > /new/file; echo y >> /etc/passwd; rm /bin/ls")
    rows = ready.docker("diff", name).stdout.splitlines()
    assert {"A /new", "A /new/file", "C /etc", "C /etc/passwd", "C /bin", "D /bin/ls"} <= set(rows)
    assert ready.docker("diff", container("busybox", "true")).stdout == ""


def test_export_is_the_root_without_what_is_mounted(ready: Daemon, holder: str, tmp_path: Path) -> None:
    ready.docker("export", "-o", str(tmp_path / "root.tar"), holder)
    with tarfile.open(tmp_path / "root.tar") as tar:
        names = tar.getnames()
        content = tar.extractfile("data/one")
        assert content is not None and content.read() == b"one\n"
        assert tar.getmember("data/link").linkname == "/data/one"
    assert "bin/busybox" in names or "bin/sh" in names
    assert not [name for name in names if name.startswith(("proc/", "sys/", "dev/pts/"))]


def test_a_compressed_archive_goes_in(ready: Daemon, container: Run) -> None:
    name = container("busybox", "true")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("deep/er/file")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    box = ready.sdk.containers.get(name)
    assert box.put_archive("/tmp", packed.getvalue())
    stream, found = box.get_archive("/tmp/deep/er/file")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        assert tar.getnames() == ["file"]
    assert (found["name"], found["size"], found["linkTarget"]) == ("file", 3, "")
