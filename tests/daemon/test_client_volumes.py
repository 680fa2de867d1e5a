"""Volumes by the official client: made, used, filled from the image, listed, removed; after a killed daemon as well."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]
Run = Callable[..., str]

FILLED = """FROM busybox
RUN mkdir -p /var/lib/app/sub && echo one > /var/lib/app/sub/f && ln /var/lib/app/sub/f /var/lib/app/same \\
 && ln -s /etc/passwd /var/lib/app/link && chown -R 33:44 /var/lib/app && chmod 2750 /var/lib/app
VOLUME /var/lib/app
RUN echo lost > /var/lib/app/lost; cat /var/lib/app/same > /seen
COPY Dockerfile /var/lib/app/kept
"""
HOSTILE = """FROM busybox
RUN mkdir /inside && echo mine > /inside/own && ln -s ../../../../../../../etc /link && ln -s {outside} /out
VOLUME /link ../../../../climbed /out
"""


@pytest.fixture
def client(ready: Daemon) -> Iterator[Callable[..., str]]:
    """The official client; volumes that a test makes are removed after it."""

    def docker(*words: str) -> str:
        return ready.docker(*words).stdout.strip()

    before = set(docker("volume", "ls", "-q").split())
    yield docker
    left = set(docker("volume", "ls", "-q").split()) - before
    if left:
        docker("volume", "rm", *left)


@pytest.fixture
def image(ready: Daemon, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Build a Dockerfile; the images go afterwards."""
    built: list[str] = []

    def build(text: str) -> str:
        (tmp_path / "Dockerfile").write_text(text)
        built.append(ready.docker("build", "-q", str(tmp_path)).stdout.strip())
        return built[-1]

    yield build
    for one in built:
        ready.docker("rmi", "-f", one)


def test_a_named_volume_keeps_what_one_container_writes_for_the_next(client: Run) -> None:
    assert client("volume", "create", "--label", "a=b", "data") == "data"
    client("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/f")
    assert client("run", "--rm", "-v", "data:/there:ro", "busybox", "cat", "/there/f") == "kept"
    (seen,) = json.loads(client("volume", "inspect", "data"))
    assert (seen["Driver"], seen["Scope"], seen["Labels"], seen["Options"]) == ("local", "local", {"a": "b"}, None)
    assert (Path(seen["Mountpoint"]) / "f").read_text() == "kept\n"


def test_read_only_is_read_only(ready: Daemon, client: Run) -> None:
    done = ready.docker("run", "--rm", "-v", "data:/data:ro", "busybox", "touch", "/data/x", check=False)
    assert done.returncode == 1 and "Read-only file system" in done.stderr


def test_a_volume_in_use_is_not_removed(ready: Daemon, client: Run, container: Run) -> None:
    name = container("-v", "data:/data", "busybox", "true")
    identity = client("inspect", "-f", "{{.Id}}", name)
    done = ready.docker("volume", "rm", "data", check=False)
    assert done.returncode == 1 and f"remove data: volume is in use - [{identity}]" in done.stderr
    client("rm", name)
    assert client("volume", "rm", "data") == "data"
    assert "get data: no such volume" in ready.docker("volume", "rm", "data", check=False).stderr


def test_a_new_volume_gets_what_the_image_has_there(client: Run, image: Callable[[str], str]) -> None:
    made = image(FILLED)
    script = "cd /var/lib/app; stat -c '%n %u:%g %a %h' . sub same; readlink link; ls; cat /seen"
    said = client("run", "--rm", "-v", "named:/var/lib/app", made, "sh", "-c", script).splitlines()
    # What a RUN writes below a VOLUME is not in the image, what COPY brings is.
    assert said == [". 33:44 2750 3", "sub 33:44 755 2", "same 33:44 644 2", "/etc/passwd", "kept", "link", "same",
                    "sub", "one"]  # fmt: skip
    client("run", "--rm", "-v", "named:/data", "busybox", "rm", "/data/same")
    assert "same" not in client("run", "--rm", "-v", "named:/var/lib/app", made, "ls", "/var/lib/app").split()
    assert client("run", "--rm", "-v", "none:/var/lib/app:nocopy", made, "ls", "/var/lib/app") == ""
    mount = "type=volume,source=none,target=/var/lib/app,volume-nocopy"
    assert client("run", "--rm", "--mount", mount, made, "ls", "/var/lib/app") == ""


def test_anonymous_volumes_go_with_the_container_that_is_removed_with_them(
    client: Run, container: Run, image: Callable[[str], str]
) -> None:
    made, before = image(FILLED), client("volume", "ls", "-q")
    client("run", "--rm", "-v", "/more", made, "touch", "/more/x", "/var/lib/app/x")
    assert client("volume", "ls", "-q") == before
    name = container(made, "true")
    (mount,) = json.loads(client("inspect", "-f", "{{json .Mounts}}", name))
    assert len(mount["Name"]) == 64 and mount["Source"].endswith(f"/{mount['Name']}/_data")
    wanted = {"Type": "volume", "Destination": "/var/lib/app", "Driver": "local", "Mode": "", "RW": True}
    assert mount | wanted == mount and mount["Propagation"] == ""
    labels = json.loads(client("volume", "inspect", "-f", "{{json .Labels}}", mount["Name"]))
    assert labels == {"com.docker.volume.anonymous": ""}
    client("rm", "-v", name)
    assert client("volume", "ls", "-q") == before
    kept = container(made, "true")
    client("rm", kept)
    assert len(client("volume", "ls", "-q").split()) == len(before.split()) + 1
    client("volume", "prune", "-f")
    assert client("volume", "ls", "-q") == before


def test_a_hostile_image_reaches_nothing_outside(client: Run, image: Callable[[str], str], tmp_path: Path) -> None:
    (outside := tmp_path / "outside").mkdir()
    (outside / "secret").write_text("secret")
    made = image(HOSTILE.format(outside=outside))
    said = client("run", "--rm", made, "sh", "-c", f"ls /link/ /climbed /out/; touch /out/x /climbed/y; ls {outside}")
    # /link is the image's own /etc; /out leads to a place in the root that is not there.
    assert "secret" not in said and "passwd" in said
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


def test_a_mount_of_part_of_a_volume(ready: Daemon, client: Run) -> None:
    client(
        "run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "mkdir -p /d/a/b; echo deep > /d/a/b/f; ln -s / /d/up"
    )

    def part(path: str, *command: str) -> list[str]:
        mount = f"type=volume,src=data,dst=/m,volume-subpath={path}"
        return ["run", "--rm", "--mount", mount, "busybox", *command]

    assert client(*part("a/b", "cat", "/m/f")) == "deep"
    assert "a" in client(*part("up", "ls", "/m")).split()  # the volume's own root, not the machine's
    assert "no such file or directory" in ready.docker(*part("none", "true"), check=False).stderr
    assert "subpath must be a relative path" in ready.docker(*part("../data", "true"), check=False).stderr


def test_a_tmpfs_lives_while_a_container_uses_it(client: Run, container: Run) -> None:
    client("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7", "fast")
    first = container("-d", "-v", "fast:/f", "busybox", "sleep", "100")
    assert client("exec", first, "sh", "-c", "touch /f/x; stat -c %u /f; df -k /f | tail -1").split()[:3] == [
        "7", "tmpfs", "1024",
    ]  # fmt: skip
    assert client("run", "--rm", "-v", "fast:/f", "busybox", "ls", "/f") == "x"
    client("rm", "-f", first)
    assert client("run", "--rm", "-v", "fast:/f", "busybox", "ls", "/f") == ""


def test_volumes_from_another_container(client: Run, container: Run) -> None:
    holder = container("-v", "data:/data", "-v", "/anonymous", "busybox", "touch", "/data/x", "/anonymous/y")
    taken = ("run", "--rm", "--volumes-from")
    assert client(*taken, holder, "busybox", "ls", "/data", "/anonymous").split() == [
        "/anonymous:", "y", "/data:", "x",
    ]  # fmt: skip
    said = client(*taken, f"{holder}:ro", "busybox", "sh", "-c", "touch /data/z 2>/dev/null || echo refused")
    assert said == "refused"
    assert client(*taken, holder, "busybox", "ls", "/anonymous") == "y"  # --rm left what another one has
    client("rm", "-v", holder)


def test_copying_into_and_out_of_a_volume(ready: Daemon, client: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("copied")
    client("create", "--name", "still", "-v", "data:/data/deep", "-v", f"{tmp_path}:/host:ro", "busybox", "true")
    try:
        client("cp", str(tmp_path / "file"), "still:/data/deep/")
        assert client("run", "--rm", "-v", "data:/d", "busybox", "cat", "/d/file") == "copied"
        client("cp", "still:/data/deep/file", str(tmp_path / "back"))
        assert (tmp_path / "back").read_text() == "copied"
        refused = ready.docker("cp", str(tmp_path / "file"), "still:/host/other", check=False)
        assert "mounted volume is marked read-only" in refused.stderr
        client("commit", "still", "committed")
        assert client("run", "--rm", "committed", "ls", "/data/deep") == ""
    finally:
        client("rm", "still")
        ready.docker("rmi", "committed", check=False)


def test_lists_and_prune(client: Run, container: Run) -> None:
    client("volume", "create", "--label", "team=a", "one")
    client("volume", "create", "two")
    used = container("-v", "two:/x", "busybox", "true")
    assert client("volume", "ls", "-q", "-f", "label=team=a") == "one"
    assert client("volume", "ls", "-q", "-f", "dangling=false") == "two"
    assert client("volume", "ls", "-q", "-f", "name=tw", "-f", "driver=local") == "two"
    assert client("ps", "-aq", "-f", "volume=two") == client("ps", "-aq", "-f", f"name={used}")
    rows = json.loads(client("system", "df", "-v", "--format", "{{json .}}"))["Volumes"]
    assert {row["Name"]: row["Links"] for row in rows} | {"one": "0", "two": "1"} == {
        row["Name"]: row["Links"] for row in rows
    }
    client("volume", "prune", "-f")
    assert "one" in client("volume", "ls", "-q").split()
    client("volume", "prune", "-f", "--all", "--filter", "label!=team=a")
    assert {"one", "two"} <= set(client("volume", "ls", "-q").split())
    client("volume", "prune", "-f", "--all")
    left = client("volume", "ls", "-q").split()
    assert "one" not in left and "two" in left
    client("rm", used)


def test_events_tell_of_volumes(ready: Daemon, client: Run) -> None:
    since = ready.sdk.info()["SystemTime"]
    client("run", "--rm", "-v", "told:/t", "busybox", "true")
    client("volume", "rm", "told")
    form = '{{.Action}} {{.Actor.ID}} {{index .Actor.Attributes "destination"}}'
    words = (
        "events",
        "--since",
        since,
        "--until",
        str(int(time.time()) + 1),
        "--filter",
        "type=volume",
        "--format",
        form,
    )
    said = [line.split() for line in client(*words).splitlines()]
    assert [row[0] for row in said] == ["create", "mount", "unmount", "destroy"]
    assert all(row[1] == "told" for row in said) and said[1][2] == "/t"


def test_bind_mounts_by_both_flags(ready: Daemon, client: Run, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    words = ("run", "--rm", "--mount", f"type=bind,src={missing},dst=/x", "busybox", "true")
    assert f"bind source path does not exist: {missing}" in ready.docker(*words, check=False).stderr
    client("run", "--rm", "-v", f"{missing}:/x", "busybox", "touch", "/x/made")
    assert (missing / "made").exists()
    (tmp_path / "file").write_text("a file")
    assert client("run", "--rm", "-v", f"{tmp_path}/file:/etc/one:ro", "busybox", "cat", "/etc/one") == "a file"


def test_volumes_at_nested_places(client: Run) -> None:
    script = "echo in > /a/b/c/f; ls /a /a/b"
    nested = ("-v", "inner:/a/b/c", "-v", "outer:/a", "-v", "middle:/a/b")
    client("run", "--rm", *nested, "busybox", "sh", "-c", script)
    assert client("run", "--rm", "-v", "inner:/x", "busybox", "cat", "/x/f") == "in"
    assert client("run", "--rm", "-v", "outer:/x", "busybox", "ls", "-R", "/x").split() == ["/x:", "b", "/x/b:"]
