"""ADD from URLs and repositories: a real web server, a real git server, real layers."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from glassdock.build import context as contexts
from glassdock.build.remote import Remote, check, is_git, is_remote
from glassdock.errors import BuildError, InvalidParameter, Unavailable
from tests.build.workshop import Workshop, context

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("git")]

WHEN = "Wed, 21 Oct 2015 07:28:00 GMT"


class Site(http.server.BaseHTTPRequestHandler):
    """Serves `files`."""

    files: ClassVar[dict[str, tuple[bytes, dict[str, str]]]] = {}

    def do_GET(self) -> None:
        content, headers = self.files.get(self.path, (b"", {}))
        self.send_response(200 if self.path in self.files else 404)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    """The address of a web server."""
    Site.files.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def built(shop: Workshop, folder: Path, *lines: str) -> dict[str, str]:
    """The files that the lines make on nothing."""
    made = await shop.build(context(folder, "\n".join(["FROM scratch", *lines, ""])))
    return shop.files(made)


async def test_a_file_is_named_by_its_address_and_keeps_its_time(shop: Workshop, short_tmp: Path, site: str) -> None:
    Site.files["/a/tool%20x?v=1"] = (b"tool", {"Last-Modified": WHEN})
    image = await shop.build(context(short_tmp / "c", f"FROM scratch\nADD {site}/a/tool%20x?v=1 /opt/\n"))
    assert shop.files(image) == {"/opt": "dir", "/opt/tool x": "tool"}
    file = shop.snapshots.layer_path(image.chain_id or "") / "opt/tool x"
    assert (file.stat().st_mode & 0o7777, int(file.stat().st_mtime)) == (0o600, 1445412480)


async def test_the_server_may_name_the_file_but_not_the_folder(shop: Workshop, short_tmp: Path, site: str) -> None:
    Site.files["/x"] = (b"1", {"Content-Disposition": 'attachment; filename="../../etc/passwd"'})
    assert await built(shop, short_tmp / "c", f"ADD {site}/x /d/") == {"/d": "dir", "/d/passwd": "1"}


async def test_a_destination_without_a_slash_is_the_file(shop: Workshop, short_tmp: Path, site: str) -> None:
    Site.files["/x"] = (b"1", {})
    files = await built(shop, short_tmp / "c", f"ADD --chmod=755 {site}/x /opt/run")
    assert files == {"/opt": "dir", "/opt/run": "1"}


async def test_an_archive_stays_a_file_unless_it_is_to_be_unpacked(shop: Workshop, short_tmp: Path, site: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("inside")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"in"))
    Site.files["/x.tgz"] = (archive.getvalue(), {})
    image = await shop.build(context(short_tmp / "c", f"FROM scratch\nADD {site}/x.tgz /d/\n"))
    assert os.listdir(shop.snapshots.layer_path(image.chain_id or "") / "d") == ["x.tgz"]
    unpacked = await built(shop, short_tmp / "d", f"ADD --unpack=true {site}/x.tgz /d/")
    assert unpacked == {"/d": "dir", "/d/inside": "in"}


async def test_a_checksum_is_checked_before_anything_is_used(shop: Workshop, short_tmp: Path, site: str) -> None:
    Site.files["/x"] = (b"right", {})
    right = f"sha256:{hashlib.sha256(b'right').hexdigest()}"
    assert await built(shop, short_tmp / "c", f"ADD --checksum={right} {site}/x /") == {"/x": "right"}
    Site.files["/x"] = (b"wrong", {})
    with pytest.raises(BuildError, match=f"digest mismatch sha256:.*: {right}"):
        await built(shop, short_tmp / "d", f"ADD --checksum={right} {site}/x /")
    assert os.listdir(shop.paths.tmp) == []


async def test_the_cache_knows_the_content_and_not_the_address(shop: Workshop, short_tmp: Path, site: str) -> None:
    Site.files["/x"] = (b"1", {})
    for content, cached in ((b"1", False), (b"1", True), (b"2", False)):
        Site.files["/x"] = (content, {})
        await built(shop, short_tmp / "c", f"ADD {site}/x /")
        assert ("Using cache" in shop.text) is cached


async def test_local_and_far_sources_come_together(shop: Workshop, short_tmp: Path, site: str) -> None:
    Site.files["/far"] = (b"F", {})
    folder = context(short_tmp / "c", f"FROM scratch\nADD near {site}/far /d/\n", near="N")
    assert shop.files(await shop.build(folder)) == {"/d": "dir", "/d/far": "F", "/d/near": "N"}


async def test_what_is_not_there_is_told(shop: Workshop, short_tmp: Path, site: str) -> None:
    with pytest.raises(BuildError, match=r"invalid response status 404 \(Dockerfile line 2\)"):
        await built(shop, short_tmp / "c", f"ADD {site}/nope /")
    with pytest.raises(Unavailable, match="cannot be fetched"):
        await built(shop, short_tmp / "c", "ADD http://127.0.0.1:1/x /")


# git


@pytest.fixture
def repository(short_tmp: Path) -> Iterator[tuple[str, str]]:
    """The address of a repository with a branch `side` and a folder `sub`, and the hash of its first commit."""
    folder = short_tmp / "git" / "repo.git"
    folder.mkdir(parents=True)
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}

    def git(*arguments: str) -> str:
        environment = {**os.environ, **who, "HOME": str(short_tmp)}
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q", "-b", "main")
    (folder / "a").write_text("first")
    (folder / "sub").mkdir()
    (folder / "sub" / "b").write_text("below")
    git("add", "-A")
    git("commit", "-qm", "one")
    first = git("rev-parse", "HEAD")
    git("checkout", "-qb", "side")
    (folder / "a").write_text("on the side")
    git("commit", "-qam", "two")
    git("checkout", "-q", "main")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["git", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}"]
    server = subprocess.Popen([*command, f"--base-path={short_tmp / 'git'}"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"git://127.0.0.1:{port}/repo.git", first
    subprocess.run(["pkill", "-P", str(server.pid)], check=False)
    server.terminate()
    server.wait()


async def test_a_repository_is_copied_without_its_history(
    shop: Workshop, short_tmp: Path, repository: tuple[str, str]
) -> None:
    address, first = repository
    files = await built(shop, short_tmp / "c", f"ADD {address} /src/")
    assert files == {"/src": "dir", "/src/a": "first", "/src/sub": "dir", "/src/sub/b": "below"}
    assert (await built(shop, short_tmp / "c", f"ADD {address}#side /src/"))["/src/a"] == "on the side"
    assert await built(shop, short_tmp / "c", f"ADD {address}#main:sub /src/") == {"/src": "dir", "/src/b": "below"}
    assert (await built(shop, short_tmp / "c", f"ADD {address}#{first} /src/"))["/src/a"] == "first"
    image = await shop.build(context(short_tmp / "c", f"FROM scratch\nADD --keep-git-dir=true {address} /src/\n"))
    assert (shop.snapshots.layer_path(image.chain_id or "") / "src/.git/HEAD").exists()


async def test_a_commit_is_checked_and_what_is_not_there_is_told(
    shop: Workshop, short_tmp: Path, repository: tuple[str, str]
) -> None:
    address, first = repository
    assert "/src/a" in await built(shop, short_tmp / "c", f"ADD --checksum={first} {address} /src/")
    with pytest.raises(BuildError, match=f"expected checksum to match {'0' * 40}, got {first}"):
        await built(shop, short_tmp / "c", f"ADD --checksum={'0' * 40} {address} /src/")
    with pytest.raises(BuildError, match="repository does not contain ref nope"):
        await built(shop, short_tmp / "c", f"ADD {address}#nope /src/")
    with pytest.raises(BuildError, match="the repository has no folder nope"):
        await built(shop, short_tmp / "c", f"ADD {address}#main:nope /src/")
    with pytest.raises(BuildError, match="invalid git address"):
        await built(shop, short_tmp / "c", f"ADD {address}#--upload-pack=x /src/")
    assert os.listdir(shop.paths.tmp) == []


# A context from elsewhere


async def test_a_lone_dockerfile_an_archive_and_a_repository_are_contexts(
    short_tmp: Path, site: str, repository: tuple[str, str]
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("inside"))
    Site.files["/alone"] = (b"FROM scratch\n", {})
    Site.files["/context.tar"] = (archive.getvalue(), {})
    for url, names in (
        (f"{site}/alone", {"Dockerfile"}),
        (f"{site}/context.tar", {"inside"}),
        (repository[0], {"a", "sub"}),
        (f"{repository[0]}#main:sub", {"b"}),
    ):
        folder = short_tmp / "context"
        folder.mkdir()
        await contexts.fetch(url, folder)
        assert set(os.listdir(folder)) == names
        shutil.rmtree(folder)
    with pytest.raises(InvalidParameter, match="is no URL"):
        await contexts.fetch("/etc", short_tmp)


@pytest.mark.parametrize(
    ("source", "far", "git"),
    [
        ("https://x.org/a", True, False),
        ("HTTP://x.org/a", True, False),
        ("https://x.org/a.git#v1:sub", True, True),
        ("git://x.org/a", True, True),
        ("ssh://git@x.org/a", True, True),
        ("git@github.com:a/b.git", True, True),
        ("a.git", False, False),
        ("ftp://x.org/a", False, False),
        ("file:///etc/passwd", False, False),
        ("./http://x", False, False),
    ],
)
def test_what_is_far(source: str, far: bool, git: bool) -> None:
    assert (is_remote(source), is_git(source)) == (far, git)


@pytest.mark.parametrize(
    ("remote", "told"),
    [
        (Remote("https://x/a", "md5:1"), "invalid checksum digest format"),
        (Remote("git://x/a", "nothex"), "expected the hash of a commit"),
        (Remote("https://x/a", keep_git=True), "only supported for git sources"),
    ],
)
def test_flags_that_do_not_go_with_the_source(remote: Remote, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check(remote)


async def test_copy_takes_no_address(shop: Workshop, short_tmp: Path) -> None:
    with pytest.raises(BuildError, match="source can't be a URL for COPY"):
        await built(shop, short_tmp / "c", "COPY https://x.org/a /")
    with pytest.raises(BuildError, match="checksum can't be specified for non-HTTP"):
        await built(shop, short_tmp / "c", f"ADD --checksum=sha256:{'0' * 64} Dockerfile /")
