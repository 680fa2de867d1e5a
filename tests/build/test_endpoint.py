"""Builds end to end: the official client and the SDK against the session's engine, real containers for RUN."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.build.workshop import context
from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def layers(engine: Daemon) -> list[dict[str, Any]]:
    found = engine.get("/glassdock/images/made/layers")[1]
    return [row for row in found["layers"] if row["comment"] == "glassdock.dockerfile"]


def test_a_layer_holds_what_its_instruction_did_and_nothing_else(engine: Daemon, build: Callable[..., str]) -> None:
    text = "FROM busybox\nRUN echo hi > /made\nRUN rm /made; echo x >> /etc/passwd\nRUN true\nWORKDIR /w\nCOPY a b/\n"
    build(text, a="A")
    rows = layers(engine)
    added = [[path.strip("/") for path, _ in row["added"]] for row in rows]
    assert added == [["made"], [], [], ["w"], ["w/b", "w/b/a"]]
    assert [path.strip("/") for path, _ in rows[1]["deleted"]] == ["made"]
    assert "etc/passwd" in [path.strip("/") for path, _ in rows[1]["changed"]]


def test_steps_run_as_they_are_told(engine: Daemon, build: Callable[..., str]) -> None:
    shown = build(
        "FROM busybox\nARG V=1\nENV E=2\nWORKDIR /srv\nUSER 1000:7\n"
        'RUN echo "$(id -u):$(id -g) $(pwd) $V $E"\nRUN ["echo", "$V", "words"]\nRUN <<EOF\necho script $E\nEOF\n'
        "RUN --network=none cat /proc/net/dev | grep -c :\n",
        "--build-arg",
        "V=3",
    )
    assert "\n1000:7 /srv 3 2\n" in shown
    assert "\n$V words\n" in shown
    assert "\nscript 2\n" in shown
    assert "\n1\n" in shown


def test_the_record_and_the_trace_of_a_build_are_served(engine: Daemon, build: Callable[..., str]) -> None:
    build("FROM busybox\nRUN echo hi > /made\nCOPY a /\n", a="A")
    build("FROM busybox\nRUN echo hi > /made\nCOPY a /\n", a="B")
    record = engine.get("/glassdock/builds/made")[1]
    assert [(step["start"], step["cached"], step.get("reason", "")) for step in record["steps"]] == [
        (2, True, ""),
        (3, False, "content changed: a"),
    ]
    spans = engine.get("/glassdock/builds/made/trace")[1]["spans"]
    assert {"build.parse", "build.plan", "build.step", "build.seal"} <= {span["name"] for span in spans}


def test_what_was_built_can_be_pushed_and_pulled_again(engine: Daemon, build: Callable[..., str]) -> None:
    made = "mkdir /d; ln -s d /l; touch /d/x; chmod 4711 /d/x; chown 5:6 /d/x"
    build(f"FROM busybox\nRUN {made}\nRUN rm -r /d\nCOPY a /\n", a="A")
    name = f"{engine.get('/glassdock/status')[1]['registry']}/made/again:1"
    image = engine.docker("inspect", "--format", "{{.Id}}", "made").stdout
    engine.docker("tag", "made", name)
    try:
        engine.docker("push", name)
        engine.docker("rmi", "-f", name, "made")
        engine.docker("pull", name)
        assert engine.docker("inspect", "--format", "{{.Id}}", name).stdout == image
        assert engine.docker("run", "--rm", name, "sh", "-c", "cat /a; ls -d /d || readlink /l").stdout == "Ad\n"
    finally:
        engine.docker("rmi", "-f", name, check=False)


def test_dockerfiles_from_elsewhere(engine: Daemon, build: Callable[..., str], tmp_path: Path) -> None:
    assert (
        "Step 2/2 : RUN echo from stdin"
        in engine.docker("build", "-t", "made", "-", input="FROM busybox\nRUN echo from stdin\n").stdout
    )
    files = {"a": "A", "secret": "S", "_dot_dockerignore": "secret\n"}
    shown = build("FROM busybox\nCOPY . /all\nRUN ls /all\n", "--compress", **files)
    assert "\na\n" in shown
    assert "\nsecret\n" not in shown
    (tmp_path / "context/deep").mkdir()
    (tmp_path / "context/deep/Other").write_text("FROM busybox\nRUN echo other\n")
    other = str(tmp_path / "context/deep/Other")
    assert "echo other" in engine.docker("build", "-t", "made", "-f", other, str(tmp_path / "context")).stdout
    done = engine.docker("build", "-q", "-t", "made", str(tmp_path / "context"))
    assert done.stdout.strip() == engine.docker("inspect", "--format", "{{.Id}}", "made").stdout.strip()


def test_the_sdk_builds(engine: Daemon, build: Callable[..., str], tmp_path: Path) -> None:
    image, lines = engine.sdk.images.build(
        path=str(context(tmp_path / "sdk", "FROM busybox\nARG V\nLABEL v=$V\n")), tag="made", buildargs={"V": "1"},
        labels={"more": "2"},
    )  # fmt: skip
    assert (image.labels["v"], image.labels["more"]) == ("1", "2")
    assert any("Successfully built" in line.get("stream", "") for line in lines)
    content = io.BytesIO(b"FROM busybox\nRUN exit 3\n")
    with pytest.raises(Exception, match="non-zero code: 3"):
        engine.sdk.images.build(fileobj=content, rm=True)


def test_add_unpacks_an_archive_from_the_context(engine: Daemon, build: Callable[..., str], tmp_path: Path) -> None:
    folder = context(tmp_path / "context", "")
    with tarfile.open(folder / "files.tgz", "w:gz") as tar:
        tar.add("/etc/hostname", "inside/name")
    build("FROM busybox\nADD files.tgz /x/\n")
    assert engine.docker("run", "--rm", "made", "ls", "/x/inside").stdout == "name\n"


def test_limits_and_names_are_those_of_every_step(build: Callable[..., str]) -> None:
    text = "FROM busybox\nRUN grep far /etc/hosts; ulimit -n; df -k /dev/shm | tail -1\n"
    limits = ("--add-host", "far:192.0.2.7", "--ulimit", "nofile=321:321", "--shm-size", "2m", "--memory", "64m")
    shown = build(text, "--no-cache", *limits, "--cache-from", "busybox")
    assert "192.0.2.7\tfar\n" in shown
    assert "321\n" in shown
    assert " 2048 " in shown


def running(engine: Daemon, word: str) -> list[int]:
    """The processes of this engine's steps with that word in their command line."""
    found = subprocess.run(["pgrep", "-x", "-f", word], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def wait_for(what: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_interrupted_build_stops_its_step(engine: Daemon, build: Callable[..., str], tmp_path: Path) -> None:
    folder = context(tmp_path / "context", "FROM busybox\nRUN sleep 8642\n")
    client = subprocess.Popen(
        ["docker", "build", str(folder)], env=engine.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: running(engine, "sleep 8642"))
    client.send_signal(signal.SIGINT)
    client.wait()
    wait_for(lambda: not running(engine, "sleep 8642"))
    wait_for(lambda: not os.listdir(engine.root / "tmp"))


def test_a_killed_daemon_s_step_ends_with_the_next_start(session: Any, tmp_path: Path) -> None:
    daemon = Daemon(session.folder / "killed")
    daemon.start()
    try:
        daemon.course_images()
        folder = context(tmp_path / "context", "FROM busybox\nRUN sleep 9753\n")
        client = subprocess.Popen(
            ["docker", "build", str(folder)], env=daemon.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(lambda: running(daemon, "sleep 9753"))
        daemon.kill()
        client.wait()
        assert running(daemon, "sleep 9753")
        daemon.start()
        wait_for(lambda: not running(daemon, "sleep 9753"))
        assert os.listdir(daemon.root / "tmp") == []
        assert os.listdir(daemon.root / "layers/active") == []
    finally:
        assert daemon.stop() == []
