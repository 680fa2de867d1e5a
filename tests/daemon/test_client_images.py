"""Images by the official client: version, info, pull, images, tag, push, history, build, rmi.

Rules: as in test_client_run.py; builds go to the classic endpoint (DOCKER_BUILDKIT=0).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def test_version_and_info(ready: Daemon) -> None:
    version = json.loads(ready.docker("version", "--format", "{{json .}}").stdout)
    assert version["Server"]["Os"] == "linux"
    info = json.loads(ready.docker("info", "--format", "{{json .}}").stdout)
    assert info["Driver"].startswith("overlay")
    assert info["OSType"] == "linux"
    assert "ERROR" not in ready.docker("info").stderr


def test_pull_is_a_real_pull(engine: Daemon) -> None:
    engine.docker("rmi", "-f", "busybox", check=False)
    shown = engine.docker("pull", "busybox").stdout
    assert "Using default tag: latest" in shown
    assert "Pull complete" in shown or "Already exists" in shown  # another image may hold its layer
    assert "Digest: sha256:" in shown
    assert "Status: Downloaded newer image for busybox:latest" in shown
    assert shown.rstrip().endswith("docker.io/library/busybox:latest")
    assert "Status: Image is up to date for busybox:latest" in engine.docker("pull", "busybox").stdout


def test_images_lists_what_was_pulled(ready: Daemon) -> None:
    rows = ready.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    assert "busybox:latest" in rows


def test_an_image_is_run_by_its_digest(ready: Daemon) -> None:
    digest = ready.docker("image", "inspect", "-f", "{{index .RepoDigests 0}}", "busybox").stdout.strip()
    assert digest.startswith("busybox@sha256:")
    assert ready.docker("run", "--rm", digest, "echo", "pinned").stdout == "pinned\n"


def test_tag_and_untag(ready: Daemon) -> None:
    ready.docker("tag", "busybox", "mine:v1")
    same = ready.docker("image", "inspect", "-f", "{{.Id}}", "busybox", "mine:v1").stdout.split()
    assert same[0] == same[1]
    assert ready.docker("rmi", "mine:v1").stdout == "Untagged: mine:v1\n"


def test_push_to_a_registry_and_pull_from_it(ready: Daemon) -> None:
    registry = ready.get("/glassdock/status")[1]["registry"]
    name = f"{registry}/pushed/busybox:v1"
    ready.docker("tag", "busybox", name)
    try:
        shown = ready.docker("push", name).stdout
        assert f"The push refers to repository [{registry}/pushed/busybox]" in shown
        assert "v1: digest: sha256:" in shown
        ready.docker("rmi", name)
        assert "Status: Downloaded newer image" in ready.docker("pull", name).stdout
        assert ready.docker("run", "--rm", name, "echo", "back").stdout == "back\n"
    finally:
        ready.docker("rmi", name, check=False)


@pytest.fixture
def context(tmp_path: Path) -> Callable[[str], str]:
    """`context(dockerfile)` writes a build context and returns its folder."""

    def write(dockerfile: str, **files: str) -> str:
        (tmp_path / "Dockerfile").write_text(dockerfile)
        (tmp_path / "note.txt").write_text("a note\n")
        return str(tmp_path)

    return write


def test_a_dockerfile_becomes_an_image_that_runs(ready: Daemon, context: Callable[[str], str]) -> None:
    folder = context(
        "FROM busybox\n"
        "ARG WHO=nobody\n"
        "ENV GREETING=hello\n"
        "WORKDIR /srv\n"
        "COPY note.txt .\n"
        "RUN echo $GREETING $WHO > made.txt\n"
        'LABEL course="glassdock"\n'
        "USER 1000\n"
        'ENTRYPOINT ["cat"]\n'
        'CMD ["made.txt", "note.txt"]\n'
    )
    try:
        shown = ready.docker("build", "-t", "built:1", "--build-arg", "WHO=world", folder).stdout
        assert "Step 1/10 : FROM busybox" in shown
        assert "Successfully tagged built:1" in shown
        assert ready.docker("run", "--rm", "built:1").stdout == "hello world\na note\n"
        assert ready.docker("run", "--rm", "built:1", "note.txt").stdout == "a note\n"
        again = ready.docker("build", "-t", "built:1", "--build-arg", "WHO=world", folder).stdout
        assert again.count("Using cache") >= 6
        history = ready.docker("history", "--format", "{{.CreatedBy}}", "--no-trunc", "built:1").stdout
        assert "echo $GREETING $WHO > made.txt" in history
    finally:
        ready.docker("rmi", "-f", "built:1", check=False)


def test_several_stages_leave_only_the_last(ready: Daemon, context: Callable[[str], str]) -> None:
    folder = context(
        "FROM busybox AS builder\n"
        "RUN echo product > /product && echo rubbish > /rubbish\n"
        "FROM busybox\n"
        "COPY --from=builder /product /product\n"
    )
    try:
        ready.docker("build", "-t", "stages", folder)
        assert ready.docker("run", "--rm", "stages", "cat", "/product").stdout == "product\n"
        assert ready.docker("run", "--rm", "stages", "ls", "/rubbish", check=False).returncode == 1
    finally:
        ready.docker("rmi", "-f", "stages", check=False)


def test_a_step_that_fails_ends_the_build_with_its_code(ready: Daemon, context: Callable[[str], str]) -> None:
    done = ready.docker("build", "-t", "never", context("FROM busybox\nRUN echo trying; exit 4\n"), check=False)
    assert done.returncode == 4
    assert "trying" in done.stdout
    assert "returned a non-zero code: 4" in done.stderr
    assert ready.docker("image", "inspect", "never", check=False).returncode == 1
