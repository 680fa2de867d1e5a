"""COPY and ADD on the real kernel: where things go, whose they are, and that nothing leaves the root."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from glassdock.errors import BuildError
from glassdock.images.model import Image
from glassdock.linux import ids
from tests.build.workshop import Workshop, context

pytestmark = pytest.mark.needs_root


async def copied(shop: Workshop, folder: Path, line: str, before: str = "", **files: str) -> dict[str, str]:
    """What `line` added to the image `base`."""
    base = shop.files(shop.store.get("base"))
    image = await shop.build(context(folder / "context", f"FROM base\n{before}\n{line}\n", **files))
    return {path: content for path, content in shop.files(image).items() if base.get(path) != content}


@pytest.mark.parametrize(
    ("line", "added"),
    [
        ("COPY a /new", {"/new": "A"}),
        ("COPY a /new/", {"/new": "dir", "/new/a": "A"}),
        ("COPY a /data", {"/data/a": "A"}),
        ("COPY a /link", {"/data/a": "A"}),
        ("COPY a /link/deep/x", {"/data/deep": "dir", "/data/deep/x": "A"}),
        ("COPY a .", {"/a": "A"}),
        ("COPY d /new", {"/new": "dir", "/new/b": "B", "/new/sub": "dir", "/new/sub/c": "C", "/new/l": "-> /old"}),
        ("COPY d/ /data/", {"/data/b": "B", "/data/sub": "dir", "/data/sub/c": "C", "/data/l": "-> /old"}),
        ("COPY d/sub /old2", {"/old2": "dir", "/old2/c": "C"}),
        ("COPY a d/b /new/", {"/new": "dir", "/new/a": "A", "/new/b": "B"}),
        ("COPY d/* /new/", {"/new": "dir", "/new/b": "B", "/new/c": "C", "/new/l": "inside"}),
        ("COPY [a-b]* /new/", {"/new": "dir", "/new/a": "A"}),
        ("COPY ../../a /new", {"/new": "A"}),
        ("COPY /a /new", {"/new": "A"}),
        ("COPY ./d/../a /new", {"/new": "A"}),
        ('COPY ["sp ace", "/new file"]', {"/new file": "S"}),
        ("COPY a /old", {"/old": "A"}),
        ("COPY flink /new", {"/new": "A"}),
        ("COPY dlink /new", {"/new": "dir", "/new/c": "C"}),
        ("COPY --parents d/sub/c a /new/", {
            "/new": "dir", "/new/d": "dir", "/new/d/sub": "dir", "/new/d/sub/c": "C", "/new/a": "A",
        }),
        ("COPY --parents d/./sub/* /new/", {"/new": "dir", "/new/sub": "dir", "/new/sub/c": "C"}),
        ("COPY --exclude=sub --exclude=l d /new", {"/new": "dir", "/new/b": "B"}),
        ("COPY --exclude=*/c d /new", {"/new": "dir", "/new/b": "B", "/new/sub": "dir", "/new/l": "-> /old"}),
        ("COPY --link a /link/x", {"/link": "dir", "/link/x": "A"}),
    ],
)  # fmt: skip
async def test_a_copy_goes_where_docker_puts_it(
    shop: Workshop, short_tmp: Path, line: str, added: dict[str, str]
) -> None:
    files = {"a": "A", "d__b": "B", "d__sub__c": "C", "d__l": "-> /old", "sp ace": "S"}
    files |= {"flink": "-> a", "dlink": "-> d/sub", "old": "inside"}
    found = await copied(shop, short_tmp, line, **files)
    found.pop("/data/x", None)
    assert found == added


async def test_a_copy_replaces_a_link_s_target_but_not_beyond(shop: Workshop, short_tmp: Path) -> None:
    found = await copied(shop, short_tmp, "COPY a /to", "RUN ln -s old /to || busybox ln -s old /to", a="A")
    assert found["/to"] == "-> old"
    assert found["/old"] == "A"


@pytest.mark.parametrize(
    "evil", ["/../../../../../../escape", "/up/escape", "/absolute/escape", "/loop/escape", "/dangling/escape"]
)
async def test_a_destination_cannot_leave_the_root(shop: Workshop, short_tmp: Path, evil: str) -> None:
    outside = short_tmp / "outside"
    outside.mkdir()
    links = f"ln -s ../../../../../../.. /up; ln -s {outside} /absolute; ln -s loop /loop; ln -s {outside}/no /dangling"
    line = f"RUN for x in 1; do busybox {links.replace('; ln', '; busybox ln')}; done\nCOPY a {evil}"
    if "loop" in evil:
        with pytest.raises(BuildError, match="Too many levels of symbolic links"):
            await copied(shop, short_tmp, line, a="A")
    else:
        assert "A" in (await copied(shop, short_tmp, line, a="A")).values()
    assert os.listdir(outside) == []
    assert not Path("/escape").exists()


async def test_a_source_cannot_leave_the_context(shop: Workshop, short_tmp: Path) -> None:
    (short_tmp / "secret").write_text("secret")
    for link in ("-> ../secret", f"-> {short_tmp}/secret", "-> /etc/hostname"):
        with pytest.raises(BuildError) as caught:
            await copied(shop, short_tmp, "COPY x /y", x=link)
        assert "file not found in build context" in caught.value.message
        (short_tmp / "context/x").unlink()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "COPY missing /x",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat missing: file does not",
        ),
        ("COPY ignored /x", "excluded by .dockerignore: stat ignored: file does not exist"),
        ("COPY *.zip /x/", "COPY failed: no source files were specified: nothing matches *.zip"),
        ("COPY --from=base /nope /x", "COPY failed: stat nope: file does not exist (Dockerfile line 3)"),
        ("COPY a b /x", "When using COPY with more than one source file, the destination must be a directory"),
        ("COPY ? /x", "When using COPY with more than one source file, the destination must be a directory"),
        ("COPY d /old", "cannot copy to non-directory: /old (Dockerfile line 3)"),
        ("COPY a /old/x", "cannot copy to non-directory: /old (Dockerfile line 3)"),
        ("COPY --chown=nobody2 a /x", "can't find uid for user nobody2"),
        ("COPY --chown=app:nogroup2 a /x", "can't find gid for group nogroup2"),
        ("COPY --chmod=999 a /x", "invalid chmod parameter: '999'"),
        ("COPY --chmod=u+q a /x", "invalid chmod parameter: 'u+q'"),
    ],
)
async def test_what_cannot_be_copied_says_so_with_file_and_line(
    shop: Workshop, short_tmp: Path, line: str, message: str
) -> None:
    files = {"a": "A", "b": "B", "d__c": "C", "ignored": "I", "_dot_dockerignore": "ignored\n"}
    with pytest.raises(BuildError) as caught:
        await copied(shop, short_tmp, line, **files)
    assert message in caught.value.message
    assert (caught.value.file, caught.value.line) == ("Dockerfile", 3)
    assert shop.snapshots.keys() == {}


@pytest.mark.parametrize(
    ("flag", "owner"),
    [("", (0, 0)), ("--chown=7", (7, 7)), ("--chown=7:8", (7, 8)), ("--chown=app", (1000, 1001)),
     ("--chown=app:staff", (1000, 50)), ("--chown=:staff", (0, 50)), ("--chown=5:staff", (5, 50))],
)  # fmt: skip
async def test_owners(shop: Workshop, short_tmp: Path, flag: str, owner: tuple[int, int]) -> None:
    folder = context(short_tmp / "context", f"FROM base\nCOPY {flag} d /new/deep/\n", d__a="A")
    if ids.has_uid(33):
        os.chown(folder / "d/a", 33, 33)
    image = await shop.build(folder)
    for path in ("/new", "/new/deep", "/new/deep/a"):
        status = shop.status(image, path)
        assert (status.st_uid, status.st_gid) == owner


@pytest.mark.parametrize(
    ("flag", "file", "directory"),
    [("", 0o640, 0o750), ("--chmod=755", 0o755, 0o755), ("--chmod=4711", 0o4711, 0o4711), ("--chmod=+x", 0o751, 0o751),
     ("--chmod=u=rwX,go=rX", 0o644, 0o755), ("--chmod=g=u,o-rwx", 0o660, 0o770), ("--chmod=a-w,u+s", 0o4440, 0o4550)],
)  # fmt: skip
async def test_modes(shop: Workshop, short_tmp: Path, flag: str, file: int, directory: int) -> None:
    folder = context(short_tmp / "context", f"FROM base\nCOPY {flag} d /new/\n", d__sub__a="A")
    (folder / "d/sub/a").chmod(0o640)
    (folder / "d/sub").chmod(0o750)
    image = await shop.build(folder)
    assert stat.S_IMODE(shop.status(image, "/new/sub/a").st_mode) == file | (0o111 if flag == "--chmod=+x" else 0)
    assert stat.S_IMODE(shop.status(image, "/new/sub").st_mode) == directory


async def test_times_attributes_and_special_files_are_kept(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "context", "FROM base\nCOPY d /new/\n", d__sub__a="A")
    os.mkfifo(folder / "d/pipe")
    os.setxattr(folder / "d/sub/a", "user.note", b"kept")
    os.utime(folder / "d/sub/a", ns=(1, 1_000_000_007))
    os.utime(folder / "d/sub", ns=(1, 2_000_000_007))
    image = await shop.build(folder)
    assert shop.status(image, "/new/sub/a").st_mtime_ns == 1_000_000_007
    assert shop.status(image, "/new/sub").st_mtime_ns == 2_000_000_007
    assert stat.S_ISFIFO(shop.status(image, "/new/pipe").st_mode)
    made = shop.snapshots.layer_path(image.layers[-1].chain_id) / "new/sub/a"
    assert os.getxattr(made, "user.note") == b"kept"


async def test_names_that_are_not_utf_8_are_copied(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "context", "FROM base\nCOPY d /new/\n", d__a="A")
    Path(os.fsdecode(os.fsencode(folder) + b"/d/\xff\xfe")).write_text("x")
    image = await shop.build(folder)
    assert os.fsencode(b"\xff\xfe") in os.listdir(
        os.fsencode(shop.snapshots.layer_path(image.layers[-1].chain_id) / "new")
    )


async def test_heredoc_documents_become_files(shop: Workshop, short_tmp: Path) -> None:
    line = "COPY <<one <<-'two' /new/\nhi ${NAME} \"q\"\none\n\tkept ${NAME}\n\ttwo"
    found = await copied(shop, short_tmp, line, before="ENV NAME=me")
    assert found == {"/new": "dir", "/new/one": 'hi me "q"\n', "/new/two": "kept ${NAME}\n"}


def archive(path: Path, mode: str) -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # a mode as plain text
        for name, content in (("x/y", b"Y"), ("/abs", b"Z"), ("../up", b"U")):
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid = len(content), 12
            tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("x/link")
        link.type, link.linkname, link.uid = tarfile.SYMTYPE, "y", 13
        tar.addfile(link)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
async def test_add_unpacks_a_local_archive_inside_the_root(shop: Workshop, short_tmp: Path, mode: str) -> None:
    folder = context(short_tmp / "context", "FROM base\nADD file.bin /link/\n")
    archive(folder / "file.bin", mode)
    image = await shop.build(folder)
    found = shop.files(image)
    assert (found["/data/x/y"], found["/data/abs"], found["/data/up"]) == ("Y", "Z", "U")
    assert shop.status(image, "/data/x/y").st_uid == 12
    assert shop.status(image, "/data/x/link").st_uid == 13


async def test_add_copies_what_is_no_archive_and_copy_copies_archives(shop: Workshop, short_tmp: Path) -> None:
    folder = context(
        short_tmp / "context", "FROM base\nADD a.tar.gz /new/\nCOPY real.tar /new/\n", **{"a.tar.gz": "no"}
    )
    archive(folder / "real.tar", "w")
    found = shop.files(await shop.build(folder))
    assert found["/new/a.tar.gz"] == "no"
    assert "/new/real.tar" in found


async def test_what_dockerignore_hides_is_not_there(shop: Workshop, short_tmp: Path) -> None:
    ignore = "**/*.pyc\nsecret\n!secret/public\nDockerfile\n.dockerignore\n"
    files = {
        "a_dot_py": "P",
        "a.pyc": "no",
        "d__b.pyc": "no",
        "d__c": "C",
        "secret__key": "no",
        "secret__public": "yes",
    }
    found = await copied(shop, short_tmp, "COPY . /new", **files, _dot_dockerignore=ignore)
    assert {path: content for path, content in found.items() if content != "dir"} == {
        "/new/a.py": "P", "/new/d/c": "C", "/new/secret/public": "yes",
    }  # fmt: skip


async def test_copy_from_a_stage_keeps_owners(shop: Workshop, short_tmp: Path) -> None:
    text = "FROM base AS one\nCOPY --chown=7:8 a /x/\nFROM base\nCOPY --from=one /x /y\nCOPY --from=0 --chown=9 /x /z\n"
    image: Image = await shop.build(context(short_tmp / "context", text, a="A"))
    assert shop.status(image, "/y/a").st_uid == 7
    assert shop.status(image, "/z/a").st_uid == 9
