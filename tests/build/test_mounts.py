"""RUN --mount, with real containers: what the step sees, what is kept, and that no layer has any of it."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable

import docker
import pytest

from glassdock.build import flags
from glassdock.build.mounts import read
from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]

Build = Callable[..., str]


def names(engine: Daemon) -> set[str]:
    """The files of the last layer of the image `made`."""
    made = engine.sdk.containers.create("made", "true")
    try:
        exported = b"".join(made.export())
    finally:
        made.remove()
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        return {member.name for member in archive}


def test_a_bind_shows_the_context_and_leaves_nothing(engine: Daemon, build: Build) -> None:
    text = "FROM busybox\nRUN --mount=target=/src cat /src/a > /copied; ! touch /src/new\n"
    build(text, "--no-cache", a="from the context")
    assert engine.docker("run", "--rm", "made", "cat", "/copied").stdout == "from the context"
    assert {"copied"} <= names(engine)
    assert not any(name.startswith("src") for name in names(engine))


def test_a_file_of_the_context_is_bound_over_one_of_the_image(engine: Daemon, build: Build) -> None:
    text = "FROM busybox\nWORKDIR /app\nRUN --mount=type=bind,source=a,target=deep/er/b cat deep/er/b > out\n"
    build(text, "--no-cache", a="A")
    assert engine.docker("run", "--rm", "made", "cat", "/app/out").stdout == "A"
    assert {name for name in names(engine) if name.startswith("app/")} == {"app/out"}


def test_what_a_step_writes_into_a_bind_is_thrown_away(build: Build) -> None:
    text = (
        "FROM busybox\nRUN --mount=target=/src,rw echo changed > /src/a && cat /src/a\n"
        "RUN --mount=target=/src cat /src/a\n"
    )
    shown = build(text, "--no-cache", a="first\n")
    assert shown.count("changed\n") == 1
    assert "first\n" in shown


def test_another_stage_and_another_image_are_bound(build: Build) -> None:
    text = (
        "FROM busybox AS tool\nRUN mkdir /out && echo 'echo made by tool' > /out/go && chmod +x /out/go\n"
        "FROM busybox\nRUN --mount=from=tool,source=/out,target=/t sh /t/go\n"
        "RUN --mount=from=busybox,source=/bin/busybox,target=/other/busybox /other/busybox echo from the image\n"
    )
    shown = build(text, "--no-cache")
    assert "made by tool\n" in shown
    assert "from the image\n" in shown


def test_the_step_depends_on_what_a_bind_shows(build: Build) -> None:
    text = "FROM busybox\nRUN --mount=source=a,target=/a cat /a\nRUN --mount=source=b,target=/b cat /b\n"
    build(text, a="1", b="1")
    assert build(text, a="1", b="1").count("Using cache") == 2
    assert build(text, a="1", b="2").count("Using cache") == 1


def test_a_cache_is_kept_from_build_to_build_and_pruned(engine: Daemon, build: Build) -> None:
    run = "RUN --mount=type=cache,target=/var/cache/x,id=kept echo x >> /var/cache/x/n; wc -l < /var/cache/x/n"
    text = f"FROM busybox\n{run}\n"
    assert "1\n" in build(text, "--no-cache")
    assert "2\n" in build(text, "--no-cache")
    assert not any(name.startswith("var/cache") for name in names(engine))
    engine.request("POST", "/build/prune")
    assert "1\n" in build(text, "--no-cache")
    engine.request("POST", "/build/prune")


def test_a_cache_has_the_owner_that_was_asked_for(engine: Daemon, build: Build) -> None:
    run = "RUN --mount=type=cache,target=/c,uid=1000,gid=50,mode=0700 touch /c/a && stat -c %u:%g:%a /c"
    text = f"FROM busybox\nUSER 1000\n{run}\n"
    assert "1000:50:700\n" in build(text, "--no-cache")
    engine.request("POST", "/build/prune")


def test_a_cache_can_begin_as_a_folder_of_a_stage(engine: Daemon, build: Build) -> None:
    text = (
        "FROM busybox AS seed\nRUN mkdir /s && echo seed > /s/f\n"
        "FROM busybox\nRUN --mount=type=cache,from=seed,source=/s,target=/c cat /c/f\n"
    )
    assert "seed\n" in build(text, "--no-cache")
    engine.request("POST", "/build/prune")


def test_a_private_cache_is_not_shared_while_it_is_used(engine: Daemon, build: Build) -> None:
    text = (
        "FROM busybox\nRUN --mount=type=cache,target=/a,id=p,sharing=private "
        "--mount=type=cache,target=/b,id=p,sharing=private touch /a/x; ls /b | wc -l\n"
    )
    assert "0\n" in build(text, "--no-cache")
    engine.request("POST", "/build/prune")


def test_tmpfs_is_empty_and_as_large_as_asked_for(engine: Daemon, build: Build) -> None:
    text = "FROM busybox\nRUN --mount=type=tmpfs,target=/scratch,size=1m df -k /scratch | tail -1; touch /scratch/x\n"
    assert " 1024 " in build(text, "--no-cache")
    assert "scratch/x" not in names(engine)


def test_a_secret_that_was_not_given_is_absent_and_a_required_one_is_told(engine: Daemon, build: Build) -> None:
    assert "absent\n" in build(
        "FROM busybox\nRUN --mount=type=secret,id=t test -e /run/secrets/t || echo absent\n", "--no-cache"
    )
    with pytest.raises(AssertionError, match=r"secret t: not found .* \(Dockerfile line 2\)"):
        build("FROM busybox\nRUN --mount=type=secret,id=t,required true\n", "--no-cache")


def test_a_source_that_is_not_there_is_told(build: Build) -> None:
    with pytest.raises(AssertionError, match='"/nope": not found'):
        build("FROM busybox\nRUN --mount=source=nope,target=/x,rw true\n", "--no-cache")


def test_a_link_in_the_context_does_not_lead_out(engine: Daemon, build: Build) -> None:
    """2024-23651: the source of a mount is a link to the machine's files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        text = b"FROM busybox\nRUN --mount=source=out,target=/x cat /x/hostname\n"
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    archive.seek(0)
    with pytest.raises(docker.errors.BuildError, match='"/out": not found'):
        engine.sdk.images.build(fileobj=archive, custom_context=True, nocache=True)


def test_a_heredoc_with_its_own_interpreter_is_run_by_it(build: Build) -> None:
    text = "FROM busybox\nRUN <<EOF\n#!/bin/awk -f\nBEGIN { print 6 * 7 }\nEOF\n"
    assert "42\n" in build(text, "--no-cache")


def at(path: str) -> str:
    return os.path.join("/work", path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("type=bind,target=/", 'invalid mount target "/"'),
        ("type=bind,target=/x,mode=0700", 'mode not allowed for "bind" type mounts'),
        ("type=bind,target=/x,required", "unexpected key 'required' for mount type 'bind'"),
        ("type=cache,target=/x,size=1", "unexpected key 'size' for mount type 'cache'"),
        ("type=cache,target=/x,sharing=shard", 'unsupported sharing value "shard"'),
        ("type=tmpfs,target=/x,size=big", "invalid value for size: big"),
        ("type=secret,target=/x,from=y,id=z", "secret mount should not have a from"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,source=a,id=b", "both source and id can't be set"),
        ("type=bind,target=/x,sharing=locked", "invalid cache sharing set for bind mount"),
        ("type=cache,target=/x,uid=me", "invalid value me for uid"),
        ("type=bind,target=/x,ro=perhaps", "invalid value for readonly: perhaps"),
    ],
)
def test_what_makes_no_sense_is_told_in_buildkits_words(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read(flags.mount(text), str, at, None)


def test_defaults_are_buildkits() -> None:
    bind, cache = read(flags.mount("target=x"), str, at, None), read(flags.mount("type=cache,target=/c"), str, at, None)
    secret = read(flags.mount("type=secret,id=a/token"), str, at, None)
    assert (bind.target, bind.writable, bind.source) == ("/work/x", False, "/")
    assert (cache.writable, cache.id, cache.sharing) == (True, "/c", "shared")
    assert secret.target == "/run/secrets/token"
    assert read(flags.mount("type=tmpfs,target=/t,size=1.5g"), str, at, None).size == 1536 * 2**20
