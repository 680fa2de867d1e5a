"""Hundreds of archives that nobody thought of: each is refused with a sentence or is a layer that packs and unpacks."""

from __future__ import annotations

import gzip
import io
import os
import random
from pathlib import Path

import pytest

from glassdock.errors import GlassdockError
from glassdock.images import below, layer, pack
from glassdock.images.layer import Limits
from glassdock.images.pack import header
from glassdock.images.tar import Entry
from glassdock.unionfs import trees

NAMES = (
    *("a", "b", "c/", "a/", "a/b", "a/b/c", "a/b/", "./a", "/a", "../x", "a/../b", "a/b/..", "ü", "x" * 101),
    *(".wh.a", ".wh.b", "a/.wh.b", "a/.wh..wh..opq", ".wh..wh..opq"),
)
LINKS = ("a", "b", "c", "/a", "a/b", "/", ".", "..", "../..", "../canary", "../../canary")
KINDS = (b"0", b"0", b"1", b"2", b"2", b"5", b"5", b"3", b"4", b"6", b"7", b"S")


def entry(chance: random.Random) -> bytes:
    kind = chance.choice(KINDS)
    content = chance.randbytes(chance.choice((0, 1, 511, 512, 700))) if kind in b"07" else b""
    made = Entry(
        name=chance.choice(NAMES).encode(),
        kind=kind,
        mode=chance.choice((0o644, 0o4755, 0, 0o7777)),
        uid=chance.choice((0, 1000, 2**31)),
        gid=chance.choice((0, 5)),
        size=len(content),
        mtime_ns=chance.choice((0, 10**18, -5, 123456789123456789)),
        link=chance.choice(LINKS).encode() if kind in b"12" else b"",
        major=chance.choice((0, 1, 8)),
        minor=chance.choice((0, 3)),
    )
    if chance.random() < 0.1:
        made.xattrs = {b"user.note": chance.randbytes(20), b"trusted.overlay.redirect": b"/.."}
    return header(made) + content + bytes(-len(content) % 512)


def damaged(data: bytearray, chance: random.Random) -> None:
    """Some bytes are others; mostly the headers' checksums fit again."""
    for _ in range(chance.randint(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.7:
        for at in range(0, len(data) - 511, 512):
            block = data[at : at + 512]
            if block[257:262] == b"ustar":
                data[at + 148 : at + 156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256)


def archive(chance: random.Random) -> bytes:
    data = bytearray(b"".join(entry(chance) for _ in range(chance.randint(1, 8))) + bytes(1024))
    if chance.random() < 0.4:
        damaged(data, chance)
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :]
    return gzip.compress(data) if chance.random() < 0.2 else bytes(data)


def outside(folder: Path) -> list[tuple[bytes, int, int, int]]:
    paths = [node for node in trees.walk(folder) if not node.path.startswith((b"work", b"low"))]
    return [(node.path, node.status.st_mode, node.status.st_nlink, node.status.st_mtime_ns) for node in paths]


@pytest.mark.needs_root
@pytest.mark.parametrize("seed", range(4))
def test_a_random_archive_does_no_harm(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    (tmp_path / "canary/in").mkdir(parents=True)
    (tmp_path / "canary/file").write_text("alive")
    low, work = tmp_path / "low", tmp_path / "work"
    low.mkdir()
    before, whole, refused = outside(tmp_path), 0, 0
    for _ in range(100):
        folder = work / "layer"
        folder.mkdir(parents=True)
        try:
            found = layer.unpack([archive(chance)], folder, Limits(entries=100, size=1 << 24))
            below.settle(folder, found.implied, found.links, [low])
            whole += 1
        except GlassdockError:
            refused += 1  # any other exception fails the test
        assert outside(tmp_path) == before
        assert os.listdir(work) == ["layer"]
        _comes_again(folder, work / "again")
        if chance.random() < 0.1:
            trees.remove(low)
            folder.rename(low)
        trees.remove(work)
    assert whole > 10
    assert refused > 10


def _comes_again(folder: Path, again: Path) -> None:
    """Whatever was unpacked packs, and unpacks to what packs to the same bytes."""
    out = io.BytesIO()
    diff_id = pack.pack(folder, out)
    again.mkdir()
    assert layer.unpack([out.getvalue()], again).diff_id == diff_id
    assert pack.pack(again) == diff_id
