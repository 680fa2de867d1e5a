"""A layer means the same as a folder and as a tar, and equal folders give equal bytes."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from glassdock.errors import Corrupt, NotSupported
from glassdock.images import below, layer, pack
from glassdock.images.compression import decompress
from glassdock.images.store import Store
from glassdock.linux import ids
from glassdock.oci import digest
from glassdock.unionfs import marks, ownership
from tests.images.support import Maker, archive, hard_link, member
from tests.support import modes

NANOSECONDS = 1_700_000_000_123_456_789
# A version 2 capability: cap_net_raw, permitted and effective, as setcap(8) writes it.
NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
MANY: dict[str, Callable[[bytes], bytes]] = {
    "compressed": gzip.compress,
    "two members": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    "padded": lambda data: gzip.compress(data) + bytes(1000),
    "zstd": zstandard.compress,
    "two frames": lambda data: zstandard.compress(data[:1000]) + zstandard.compress(data[1000:]),
    "plain": bytes,
}


def unpack(data: bytes, folder: Path) -> layer.Unpacked:
    folder.mkdir(parents=True, exist_ok=True)
    return layer.unpack([data], folder)


def packed(folder: Path) -> bytes:
    out = io.BytesIO()
    pack.pack(folder, out)
    return out.getvalue()


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        return file.getnames()


@pytest.mark.needs_root
@pytest.mark.parametrize("how", MANY)
@pytest.mark.parametrize("step", [7, 100_000])
def test_whatever_the_compression_the_diff_id_is_that_of_the_tar(tmp_path: Path, how: str, step: int) -> None:
    data = archive(member("a", os.urandom(5000)), member("b", bytes(5000)))
    sent = MANY[how](data)
    chunks = (sent[start : start + step] for start in range(0, len(sent), step))
    found = layer.unpack(chunks, tmp_path)
    assert (found.diff_id, found.tar_size, found.size) == (digest.of(data), len(data), 10_000)
    assert (tmp_path / "b").read_bytes() == bytes(5000)


def test_a_chunk_never_grows_beyond_its_limit() -> None:
    for data in (gzip.compress(bytes(50 << 20)), zstandard.compress(bytes(50 << 20))):
        sizes = [len(chunk) for chunk in decompress([data])]
        assert sum(sizes) == 50 << 20
        assert max(sizes) <= 1 << 20


@pytest.mark.needs_root
def test_everything_about_a_file_comes_and_goes(tmp_path: Path) -> None:
    xattr = NET_RAW.decode("utf-8", "surrogateescape")
    data = archive(
        member("dir/", mode=0o1777, uid=100_000, gid=3_000_000),
        member("dir/ping", "x" * 600, mode=0o4755, pax={"mtime": "1700000000.123456789"}),
        member("dir/caps", "x", pax={"SCHILY.xattr.security.capability": xattr, "SCHILY.xattr.user.note": "hello"}),
        member("n" * 90 + "/" + "m" * 200, "x", uid=2**31),
        member("ü/€", "x"),
        member("link", link="/etc/passwd"),
        member("long", link="t" * 300),
        member("fifo", kind=tarfile.FIFOTYPE, mode=0o600),
        member("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("sda", kind=tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o660),
        hard_link("again", "dir/ping"),
    )
    unpack(data, tmp_path / "one")
    ping = os.lstat(tmp_path / "one/dir/ping")
    assert (stat.S_IMODE(ping.st_mode), ping.st_mtime_ns, ping.st_nlink) == (0o4755, NANOSECONDS, 2)
    above = modes.status(tmp_path / "one/dir")
    assert (above.st_mode & 0o7777, above.st_uid, above.st_gid) == (0o1777, 100_000, 3_000_000)
    assert above.st_mtime == 1_700_000_000
    assert ownership.attributes(os.fsencode(tmp_path / "one/dir/caps"))["security.capability"] == NET_RAW
    assert os.getxattr(tmp_path / "one/dir/caps", "user.note") == b"hello"
    assert modes.status(tmp_path / "one" / ("n" * 90) / ("m" * 200)).st_uid == 2**31
    assert os.readlink(tmp_path / "one/link") == "/etc/passwd"
    assert os.lstat(tmp_path / "one/link").st_mtime == 1_700_000_000
    assert modes.status(tmp_path / "one/null").st_rdev == os.makedev(1, 3)
    assert stat.filemode(modes.status(tmp_path / "one/sda").st_mode) == "brw-rw----"

    once = packed(tmp_path / "one")
    unpack(once, tmp_path / "two")
    assert packed(tmp_path / "two") == once
    with tarfile.open(fileobj=io.BytesIO(once)) as file:
        assert file.getmember("dir/ping").linkname == "again"  # the first name in the order of bytes has the content
        assert file.getmember("dir").uid == 100_000
        assert file.getmember("long").linkname == "t" * 300


@pytest.mark.needs_root
def test_whiteouts_in_both_directions(tmp_path: Path) -> None:
    data = archive(
        member("etc/"),
        member("etc/.wh.passwd"),
        member("opt/"),
        member("opt/.wh..wh..opq"),
        member("opt/new", "x"),
        member(".wh.top"),
    )
    unpack(data, tmp_path / "one")
    gone = os.lstat(tmp_path / "one/etc/passwd")
    assert (stat.S_ISCHR(gone.st_mode), gone.st_rdev) == (True, 0)
    assert os.getxattr(tmp_path / "one/opt", f"{marks.namespace()}.overlay.opaque") == b"y"
    again = packed(tmp_path / "one")
    assert names(again) == ["etc", "etc/.wh.passwd", "opt", "opt/.wh..wh..opq", "opt/new", ".wh.top"]
    unpack(again, tmp_path / "two")
    assert packed(tmp_path / "two") == again


@pytest.mark.needs_root
@pytest.mark.needs("tar")
@pytest.mark.parametrize("form", ["ustar", "gnu", "oldgnu", "pax", "posix"])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / ("n" * 80)).write_bytes(os.urandom(3000))
    with open(source / "holes", "wb") as file:
        for number in range(50):
            file.seek(number << 16)
            file.write(b"%d" % number)
        file.truncate(10 << 20)
    (source / "again").hardlink_to(source / "deep" / ("n" * 80))
    sparse = [] if form == "ustar" else ["--sparse"]
    subprocess.run(["tar", *sparse, f"--format={form}", "-cf", tmp_path / "a.tar", "-C", source, "."], check=True)
    assert (tmp_path / "a.tar").stat().st_size < 1 << 20 or form == "ustar"
    unpack((tmp_path / "a.tar").read_bytes(), tmp_path / "out")
    subprocess.run(["diff", "-r", source, tmp_path / "out"], check=True)
    assert (tmp_path / "out/again").stat().st_nlink == 2
    if form != "ustar":
        assert (tmp_path / "out/holes").stat().st_blocks * 512 < 5 << 20


@pytest.mark.needs_root
@pytest.mark.needs("tar")
@pytest.mark.skipif(not ids.has_uid(5_000_000), reason="GNU tar remembers no owners: needs every id")
def test_gnu_tar_reads_what_is_written(tmp_path: Path) -> None:
    data = archive(
        member("d/", mode=0o750),
        member("d/" + "n" * 150, "x", uid=5_000_000, pax={"mtime": "1700000000.5"}),
        member("l", link="d"),
        hard_link("h", "d/" + "n" * 150),
        member("old", "x", pax={"mtime": "-100.25"}),
    )
    unpack(data, tmp_path / "one")
    (tmp_path / "two").mkdir()
    pax = packed(tmp_path / "one")
    subprocess.run(["tar", "-xpf", "-", "-C", tmp_path / "two", "--numeric-owner"], input=pax, check=True)
    assert packed(tmp_path / "two") == pax
    assert os.lstat(tmp_path / "two/old").st_mtime == -100.25


@pytest.mark.needs_root
def test_equal_folders_give_equal_tars_whatever_their_order(tmp_path: Path) -> None:
    files = {"b": "2", "a/z": "3", "a-b": "4", "a.c": "5"}
    for name, order in (("one", list(files)), ("two", sorted(files, reverse=True))):
        for file in order:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(files[file])
        for path in (tmp_path / name).rglob("*"):
            os.utime(path, (1, 1))
    assert packed(tmp_path / "one") == packed(tmp_path / "two")


@pytest.mark.needs_root
def test_a_folder_without_an_entry_is_as_below(tmp_path: Path) -> None:
    unpack(archive(member("tmp/", mode=0o1777, uid=7)), tmp_path / "low")
    found = unpack(archive(member("tmp/new", "x")), tmp_path / "high")
    assert found.implied == ((b"tmp",),)
    below.settle(tmp_path / "high", found.implied, found.links, [tmp_path / "low"])
    status = modes.status(tmp_path / "high/tmp")
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o1777, 7)


@pytest.mark.needs_root
def test_a_hard_link_to_a_lower_layer_takes_a_copy_of_the_file(tmp_path: Path) -> None:
    unpack(archive(member("bin/"), member("bin/tool", "text", mode=0o4755)), tmp_path / "low")
    found = unpack(archive(hard_link("bin/alias", "bin/tool")), tmp_path / "high")
    below.settle(tmp_path / "high", found.implied, found.links, [tmp_path / "low"])
    one, two = os.lstat(tmp_path / "high/bin/alias"), os.lstat(tmp_path / "high/bin/tool")
    assert one.st_ino == two.st_ino
    assert stat.S_IMODE(one.st_mode) == 0o4755
    assert (tmp_path / "high/bin/alias").read_text() == "text"


@pytest.mark.needs_root
@pytest.mark.parametrize("hidden", ["bin/.wh.tool", ".wh.bin", "bin/.wh..wh..opq"])
def test_a_hard_link_does_not_see_what_a_layer_between_hides(tmp_path: Path, hidden: str) -> None:
    unpack(archive(member("bin/"), member("bin/tool", "text")), tmp_path / "low")
    unpack(archive(member(hidden)), tmp_path / "middle")
    found = unpack(archive(hard_link("alias", "bin/tool")), tmp_path / "high")
    with pytest.raises(Corrupt, match="leads to nothing"):
        below.settle(tmp_path / "high", found.implied, found.links, [tmp_path / "middle", tmp_path / "low"])


@pytest.mark.needs_root
def test_settling_does_not_leave_the_layer(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir(mode=0o700)
    unpack(archive(member("a/", mode=0o777), member("a/b/", mode=0o777)), tmp_path / "low")
    found = unpack(archive(member("a/b/c", "x"), member("a", link=str(tmp_path / "outside"))), tmp_path / "high")
    (tmp_path / "outside/b").mkdir(mode=0o700)
    below.settle(tmp_path / "high", found.implied, found.links, [tmp_path / "low"])
    assert stat.S_IMODE(os.lstat(tmp_path / "outside/b").st_mode) == 0o700


@pytest.mark.needs_root
def test_another_layer_than_the_config_says_is_refused(tmp_path: Path) -> None:
    found = unpack(archive(member("a", "x")), tmp_path)
    with pytest.raises(Corrupt, match="config says"):
        layer.check(found, digest.of(b"another"))


@pytest.mark.needs_root
def test_a_sealed_snapshot_is_a_layer_that_any_tool_can_make_again(store: Store, maker: Maker, tmp_path: Path) -> None:
    base = maker.image()
    image = maker.on(base, files={"app/main.py": b"print()"})
    top = image.layers[-1]
    assert top.size == 7
    data = packed(store.snapshotter.layer_path(top.chain_id))
    assert digest.of(data) == top.diff_id
    assert len(data) == top.tar_size
    assert unpack(data, tmp_path / "out").diff_id == top.diff_id


def test_without_root_nothing_is_unpacked_and_the_remedy_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotSupported) as caught:
        layer.unpack([archive(member("a", "x"))], tmp_path)
    assert "root" in str(caught.value.remedy)
    assert os.listdir(tmp_path) == []
    found = layer.scan([gzip.compress(archive(member("a", "x")))])
    assert (found.diff_id, found.size) == (digest.of(archive(member("a", "x"))), 1)


def test_sockets_are_left_out(tmp_path: Path) -> None:
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    (tmp_path / "file").touch()
    assert names(packed(tmp_path)) == ["file"]
    shutil.rmtree(tmp_path)
