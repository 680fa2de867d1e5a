"""Images that are made of what is here, or are brought, by the official client: save, load, commit."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def test_an_image_that_was_saved_is_loaded_and_runs(ready: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo carried > /carried\nCMD cat /carried\n")
    ready.docker("build", "-q", "-t", "carried:1", str(tmp_path))
    archive = str(tmp_path / "images.tar")
    try:
        identity = ready.docker("image", "inspect", "-f", "{{.Id}}", "carried:1").stdout
        ready.docker("save", "-o", archive, "carried:1", "busybox")
        ready.docker("rmi", "carried:1")
        ready.docker("builder", "prune", "-f")
        shown = ready.docker("load", "-i", archive).stdout
        assert "Loaded image: carried:1\n" in shown and "Loaded image: busybox:latest\n" in shown
        assert ready.docker("image", "inspect", "-f", "{{.Id}}", "carried:1").stdout == identity
        assert ready.docker("run", "--rm", "carried:1").stdout == "carried\n"
        registry = ready.get("/glassdock/status")[1]["registry"]
        ready.docker("tag", "carried:1", f"{registry}/carried:1")
        assert "digest: sha256:" in ready.docker("push", f"{registry}/carried:1").stdout
    finally:
        ready.docker("rmi", "-f", "carried:1", check=False)


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_the_archive_is_what_others_read(ready: Daemon, tmp_path: Path, form: str) -> None:
    ready.docker("save", "-o", str(tmp_path / "a.tar"), "busybox")
    words = ["skopeo", "inspect", "--config", f"{form}:{tmp_path / 'a.tar'}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["os"] == "linux"


def test_an_archive_that_is_none_is_told_in_the_stream(ready: Daemon) -> None:
    with pytest.raises(docker.errors.ImageLoadError, match="no archive of images"):
        ready.sdk.images.load(b"abc")


def test_a_layer_that_is_another_one_is_refused(ready: Daemon, tmp_path: Path) -> None:
    """Names, digests and links of an archive are claims: each is checked."""
    (tmp_path / "outside").write_text("secret")
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}
    manifest = [{"Config": "c.json", "RepoTags": ["forged:1"], "Layers": ["layer.tar"]}]
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in (("c.json", config), ("manifest.json", manifest)):
            member = tarfile.TarInfo(name)
            member.size = len(json.dumps(content))
            tar.addfile(member, io.BytesIO(json.dumps(content).encode()))
        link = tarfile.TarInfo("layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        tar.addfile(link)
    with pytest.raises(docker.errors.ImageLoadError, match=r"the archive has no layer\.tar"):
        ready.sdk.images.load(data.getvalue())
    assert ready.get("/images/forged:1/json")[0] == 404


def test_a_container_becomes_an_image(ready: Daemon, container: Callable[..., str]) -> None:
    name = container("-e", "KEPT=yes", "busybox", "sh", "-c", "echo mine > /mine; rm /bin/ls")
    changes = ("-c", 'CMD ["cat", "/mine"]', "-c", "EXPOSE 8000", "-c", "ENV MORE=x")
    identity = ready.docker("commit", "-m", "by hand", "-a", "me", *changes, name, "committed:1").stdout.strip()
    try:
        shown = json.loads(ready.docker("image", "inspect", "committed:1").stdout)[0]
        assert shown["Id"] == identity
        assert (shown["Comment"], shown["Author"]) == ("by hand", "me")
        assert shown["Config"]["ExposedPorts"] == {"8000/tcp": {}}
        assert {"KEPT=yes", "MORE=x"} <= set(shown["Config"]["Env"])
        assert shown["Parent"] == ready.docker("image", "inspect", "-f", "{{.Id}}", "busybox").stdout.strip()
        assert ready.docker("run", "--rm", "committed:1").stdout == "mine\n"
        assert ready.docker("run", "--rm", "committed:1", "test", "-e", "/bin/ls", check=False).returncode == 1
        ready.docker("start", name)  # it goes on as it was
    finally:
        ready.docker("rmi", "-f", "committed:1", check=False)


def test_a_change_that_would_run_something_is_refused(ready: Daemon, container: Callable[..., str]) -> None:
    done = ready.docker("commit", "-c", "RUN true", container("busybox", "true"), check=False)
    assert done.returncode == 1 and "RUN is not a valid change command" in done.stderr


def test_an_exported_root_is_imported(ready: Daemon, container: Callable[..., str], tmp_path: Path) -> None:
    archive = str(tmp_path / "root.tar")
    ready.docker("export", "-o", archive, container("busybox", "sh", "-c", "echo whole > /whole"))
    try:
        ready.docker("import", "-c", 'CMD ["cat", "/whole"]', "-m", "flat", archive, "imported:1")
        assert ready.docker("run", "--rm", "imported:1").stdout == "whole\n"
        shown = json.loads(ready.docker("image", "inspect", "imported:1").stdout)[0]
        assert (shown["Comment"], len(shown["RootFS"]["Layers"])) == ("flat", 1)
        (tmp_path / "none").write_text("no tar")
        done = ready.docker("import", str(tmp_path / "none"), check=False)
        assert done.returncode == 1 and "no tar archive" in done.stderr
    finally:
        ready.docker("rmi", "-f", "imported:1", check=False)
