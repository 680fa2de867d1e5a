"""Images that an ordinary user builds, copies to and sends have the owners that root's would have.

Rules: as in test_ordinary_user.py. What `RUN chown` does with a single id is said by its test: nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.leaks import Session
from tests.support.ordinary import USER, UserDaemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker", "newuidmap")]

DOCKERFILE = """FROM busybox
RUN rm /etc/group && echo hi > /app && chown 33:34 /app
COPY --chown=1000:50 file /data/file
ADD archive.tar /unpacked/
FROM busybox
COPY --from=0 /data /copied
COPY --from=0 /unpacked /copied/
USER 1000
RUN test "$(id -u)" = 1000
"""


@pytest.fixture(scope="module", params=["range-overlay", "single-overlay", "single-copy"])
def place(request: pytest.FixtureRequest, session: Session, engine: Daemon) -> Iterator[UserDaemon]:
    """A user's daemon with busybox; its roots are overlays or copies."""
    kind, driver = request.param.split("-")
    daemon = UserDaemon(session.folder / request.param, kind)
    if driver == "copy":
        (daemon.root / "layers").mkdir(parents=True)
        (daemon.root / "layers/driver").write_text("copy")
        for path in (daemon.root, daemon.root / "layers", daemon.root / "layers/driver"):
            os.chown(path, USER, USER)
    session.engine_roots.append(str(daemon.root))
    daemon.start()
    try:
        name = f"{engine.get('/glassdock/status')[1]['registry']}/library/busybox"
        daemon.docker("pull", name)
        daemon.docker("tag", name, "busybox")
        assert daemon.docker("info", "-f", "{{.Driver}}").stdout.strip() == driver
        yield daemon
    finally:
        left = daemon.stop()
    session.engine_roots.remove(str(daemon.root))
    assert left == []


def context(folder: Path) -> Path:
    """What the Dockerfile copies: a file, and an archive with owners of its own."""
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "file").write_text("content")
    with tarfile.open(folder / "archive.tar", "w") as tar:
        for name, kind in (("a", tarfile.REGTYPE), ("link", tarfile.SYMTYPE), ("pipe", tarfile.FIFOTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.uid, entry.gid, entry.mode = kind, "a", 77, 78, 0o4711
            tar.addfile(entry)
    return folder


def saved(place: UserDaemon, name: str, folder: Path) -> dict[str, tuple[int, int, int]]:
    """Owner, group and mode of everything in the image's layers above busybox."""
    place.docker("save", name, "-o", str(folder / "saved.tar"))
    found: dict[str, tuple[int, int, int]] = {}
    with tarfile.open(folder / "saved.tar") as image:
        file = image.extractfile("manifest.json")
        assert file is not None
        for path in json.load(file)[0]["Layers"][1:]:
            layer = image.extractfile(path)
            assert layer is not None
            with tarfile.open(fileobj=layer) as tar:
                found |= {entry.name: (entry.uid, entry.gid, entry.mode) for entry in tar}
    return found


def build(place: UserDaemon, *words: str) -> None:
    """With the classic builder, which is what the engine offers."""
    command = ["docker", "build", "--network", "none", *words]
    environment = {**os.environ, **place.env, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_build_has_the_owners_that_its_dockerfile_says(place: UserDaemon, tmp_path: Path) -> None:
    folder = context(tmp_path)
    build(place, "-t", "first", "--target", "0", str(folder))
    build(place, "-t", "second", str(folder))
    first, second = saved(place, "first", tmp_path), saved(place, "second", tmp_path)
    assert first["data/file"][:2] == (1000, 50)
    assert first["unpacked/a"] == (77, 78, 0o4711)
    assert first["unpacked/link"][:2] == (77, 78)
    assert first["unpacked/pipe"] == (77, 78, 0o4711)
    assert "etc/.wh.group" in first
    assert second["copied/file"][:2] == (1000, 50)
    assert [second[f"copied/{name}"][:2] for name in ("a", "link", "pipe")] == [(77, 78)] * 3
    # With a single id the call succeeds and does nothing: nobody else is there to own it.
    assert first["app"][:2] == ((33, 34) if place.kind == "range" else (0, 0))


def test_what_is_copied_in_keeps_its_owner_through_commit_and_export(place: UserDaemon, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    (tmp_path / "mine").chmod(0o640)
    os.chown(tmp_path / "mine", 1234, 56)
    place.docker("create", "--name", "holds", "--network", "none", "busybox", "true")
    try:
        place.docker("cp", "-a", str(tmp_path / "mine"), "holds:/tmp/mine")
        place.docker("commit", "holds", "committed")
        assert saved(place, "committed", tmp_path)["tmp/mine"] == (1234, 56, 0o640)
        place.docker("export", "holds", "-o", str(tmp_path / "exported.tar"))
        with tarfile.open(tmp_path / "exported.tar") as tar:
            assert (tar.getmember("tmp/mine").uid, tar.getmember("tmp/mine").gid) == (1234, 56)
        assert "A /tmp/mine" in place.docker("diff", "holds").stdout.splitlines()
    finally:
        place.docker("rm", "-f", "holds")


def test_what_was_pulled_is_pushed_as_the_same_image(place: UserDaemon, engine: Daemon) -> None:
    registry = engine.get("/glassdock/status")[1]["registry"]
    target = f"{registry}/again/{place.folder.name}"
    place.docker("tag", "busybox", target)
    digest = place.docker("push", target).stdout.rpartition("digest: ")[2].split()[0]
    known = place.docker("image", "inspect", "-f", "{{json .RepoDigests}}", f"{registry}/library/busybox").stdout
    assert f"{registry}/library/busybox@{digest}" in known
