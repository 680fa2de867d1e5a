"""Archives that want out of their folder stay in it, or are refused with a sentence.

Each runs in a throw-away overlay of the root (`sandbox.py`), and a careless extractor runs beside it: where an archive
is dangerous, the careless one has to be caught, else the test proves nothing.
"""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from glassdock.errors import Corrupt, GlassdockError, StorageFull
from glassdock.images import layer, pack, tar
from glassdock.images.layer import Limits
from glassdock.images.pack import header
from glassdock.images.tar import Entry
from tests.images import sandbox
from tests.images.support import Member, archive, hard_link, member


@dataclass(frozen=True, slots=True)
class Case:
    """An archive; what is there afterwards (a part of its description each), or what the refusal says."""

    members: tuple[Member, ...] | bytes
    there: dict[str, str] | None = None
    refused: str = ""
    dangerous: bool = False

    def data(self) -> bytes:
        return self.members if isinstance(self.members, bytes) else archive(*self.members)


def case(*members: Member, there: dict[str, str] | None = None, refused: str = "", dangerous: bool = False) -> Case:
    return Case(members, there, refused, dangerous)


def raw(*entries: Entry, content: bytes = b"") -> bytes:
    """Headers that no tar writer would write."""
    return b"".join(header(entry) for entry in entries) + content + bytes(1024)


def entry(name: bytes, kind: bytes = tar.FILE, **more: Any) -> Entry:
    fields: dict[str, Any] = {"mode": 0o644, "uid": 0, "gid": 0, "size": 0, "mtime_ns": 0}
    return Entry(name, kind, **(fields | more))


def pax(*records: bytes) -> bytes:
    data = b"".join(records)
    return header(entry(b"x", b"x", size=len(data))) + data + bytes(-len(data) % 512)


def record(key: str, value: object) -> bytes:
    return pack._record(f"GNU.sparse.{key}".encode(), str(value).encode())


ZIPPED = gzip.compress(archive(member("a", random.Random(1).randbytes(5000))))
DAMAGED = ZIPPED[:2000] + b"\0" * 50 + ZIPPED[2050:]
LOOP = (member("a", link="b"), member("b", link="a"))

CASES = {
    # names
    "absolute name": case(member("/gd/x/new", "x"), there={"gd/x/new": "-rw"}, dangerous=True),
    "climbing name": case(member("../new", "x"), there={"new": "-rw"}, dangerous=True),
    "climbing out and in": case(member("a/../../../gd/x/new", "x"), there={"gd/x/new": "-rw"}, dangerous=True),
    "absolute directory": case(member("/gd/x/near/", mode=0o777), there={"gd/x/near": "drwxrwxrwx"}, dangerous=True),
    # symlinks on the way
    "absolute symlink": case(
        member("a", link="/gd/x"), member("a/new", "x"), there={"gd/x/new": "-rw", "a": "-> /gd/x"}, dangerous=True
    ),
    "climbing symlink": case(member("a", link="../.."), member("a/new", "x"), there={"new": "-rw"}, dangerous=True),
    "symlink over symlink": case(
        member("a", link="b/near"),
        member("b", link="/gd/x"),
        member("a/new", "x"),
        there={"gd/x/near/new": "-rw"},
        dangerous=True,
    ),
    "symlink into a symlink's directory": case(
        member("a/"),
        member("a/b", link=".."),
        member("a/b/c", link=".."),
        member("a/b/c/new", "x"),
        there={"new": "-rw"},
        dangerous=True,
    ),
    "file through a symlink": case(
        member("a", link="/gd/x/canary"), member("a", "dead"), there={"a": "-rw"}, dangerous=True
    ),
    "setuid through a symlink": case(
        member("a", link="/gd/x"), member("a/su", "x", mode=0o4755), there={"gd/x/su": "-rwsr-xr-x"}, dangerous=True
    ),
    "device through a symlink": case(
        member("a", link="/gd/x"),
        member("a/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
        there={"gd/x/null": "1:3"},
        dangerous=True,
    ),
    "symlink through a symlink": case(
        member("a", link="/gd/x"), member("a/link", link="canary"), there={"gd/x/link": "-> canary"}, dangerous=True
    ),
    "symlink loop": case(*LOOP, member("a/new", "x"), refused="too many symlinks"),
    "dangling symlink": case(
        member("a", link="/nowhere/at/all"), member("a/new", "x"), there={"nowhere/at/all/new": ""}
    ),
    # hard links
    "hard link out": case(hard_link("a", "../canary"), member("a", "dead"), refused="leads to nothing", dangerous=True),
    "hard link out, kept": case(hard_link("a", "../canary"), refused="leads to nothing", dangerous=True),
    "hard link through a symlink": case(
        member("s", link="/gd/x"), hard_link("a", "s/canary"), refused="leads to nothing", dangerous=True
    ),
    "hard link made through a symlink": case(
        member("s", link="/gd/x"), member("f", "x"), hard_link("s/new", "f"), there={"gd/x/new": "-rw"}
    ),
    "chmod through a hard-linked symlink": case(
        member("s", link="/gd/x/canary"),
        hard_link("h", "s", mode=0o777),
        there={"h": "-> /gd/x/canary"},
        dangerous=True,
    ),
    "write through a hard-linked symlink": case(
        member("s", link="/gd/x/canary"), hard_link("h", "s"), member("h", "dead"), there={"h": "-rw"}, dangerous=True
    ),
    "hard link to a directory": case(member("d/"), hard_link("h", "d"), refused="no file"),
    "hard link to itself": case(hard_link("h", "h"), refused="leads to nothing"),
    "hard link to itself, there": case(member("h", "x"), hard_link("h", "./h"), there={"h": "-rw"}),
    "hard link in the place of its target": case(member("d/f", "x"), hard_link("d", "d/f"), refused="leads to nothing"),
    "hard link without a target": case(hard_link("h", "."), refused="no target"),
    # replacing
    "directory over a symlink": case(
        member("d", link="/gd/x/near"),
        member("d/", mode=0o777),
        member("d/new", "x"),
        there={"d": "drwxrwxrwx", "d/new": "-rw"},
        dangerous=True,
    ),
    "symlink over a directory": case(
        member("d/"),
        member("d/old", "x"),
        member("d", link="/gd/x"),
        member("d/new", "x"),
        there={"d": "-> /gd/x", "gd/x/new": "-rw"},
        dangerous=True,
    ),
    "parent swapped for a symlink": case(
        member("a/b/"),
        member("a/b/one", "x"),
        member("a", link="/gd/x"),
        member("a/b/two", "x"),
        there={"gd/x/b/two": "-rw"},
        dangerous=True,
    ),
    "file over a directory and back": case(
        member("a/"),
        member("a/f", "x"),
        member("a", "file"),
        member("a/"),
        member("a/g", "y"),
        there={"a": "drwx", "a/g": "-rw"},
    ),
    "the same name twice": case(member("a", "one"), member("a", "three"), there={"a": " 5 "}),
    "something below a file": case(member("a", "x"), member("a/b", "x"), refused="not a directory"),
    "the root as a symlink": case(member(".", link="/gd/x"), member("new", "x"), refused="replaces its root"),
    "the root as a file": case(member("./", kind=tarfile.REGTYPE), refused="replaces its root"),
    "the root as a directory": case(member("./", mode=0o700), member("new", "x"), there={"new": "-rw"}),
    # whiteouts
    "whiteout of the folder": case(member(".wh.."), refused="whiteout of '.'"),
    "whiteout of the parent": case(member(".wh..."), refused="whiteout of '..'", dangerous=True),
    "whiteout of nothing": case(member(".wh."), refused="whiteout of ''"),
    "whiteout of the parent, deeper": case(member("a/b/.wh..."), refused="whiteout of '..'"),
    "whiteout through a symlink": case(
        member("a", link="/gd/x"), member("a/.wh.canary"), there={"gd/x/canary": "c--------- 0:0 0:0"}, dangerous=True
    ),
    "whiteout with a climbing name": case(member("../.wh.canary"), there={"canary": "0:0 0:0"}, dangerous=True),
    "opaque through a symlink": case(
        member("a", link="/gd/x/near"),
        member("a/.wh..wh..opq"),
        there={"gd/x/near": "trusted.overlay.opaque"},
        dangerous=True,
    ),
    "opaque over a bad link": case(member("a", link="a"), member("a/.wh..wh..opq"), refused="too many symlinks"),
    "whiteout of an own file": case(member("a", "x"), member(".wh.a"), there={"a": "-rw"}),
    "whiteout of an own directory": case(
        member("a/"), member("a/f", "x"), member(".wh.a"), there={"a": "trusted.overlay.opaque", "a/f": "-rw"}
    ),
    "directory over an own whiteout": case(
        member(".wh.a"), member("a/"), member("a/f", "x"), there={"a": "trusted.overlay.opaque", "a/f": "-rw"}
    ),
    "implied directory over an own whiteout": case(
        member(".wh.a"), member("a/f", "x"), there={"a": "trusted.overlay.opaque", "a/f": "-rw"}
    ),
    "file over an own whiteout": case(member(".wh.a"), member("a", "x"), there={"a": "-rw"}),
    "whiteout twice": case(member(".wh.a"), member(".wh.a"), there={"a": "c--------- 0:0 0:0"}),
    "AUFS's own files": case(
        member(".wh..wh.plnk/"), member(".wh..wh.plnk/1.2", "x"), member("a", "x"), there={"a": "-"}
    ),
    "reserved name as a directory": case(member("a/.wh.b/c", "x"), refused="reserved"),
    "a whiteout as a device": case(member("a", kind=tarfile.CHRTYPE, devmajor=0, devminor=0), refused="whiteout"),
    "an order to overlayfs": case(
        member("a/", pax={"SCHILY.xattr.trusted.overlay.opaque": "y"}),
        there={"a": "drwxr-xr-x 0:0"},
    ),
    # headers
    "symlink without a target": case(member("a", kind=tarfile.SYMTYPE), refused="no target"),
    "an owner that is none": case(member("a", uid=2**32 - 1), refused="no user"),
    "an owner over 32 bit": case(member("a", uid=2**40), refused="no user"),
    "a time before all times": case(member("a", "x", pax={"mtime": "-99999999999999"}), there={"a": "-rw"}),
    "a time after all times": case(member("a", "x", pax={"mtime": "99999999999999.5"}), there={"a": "-rw"}),
    "a component too long": case(member("a" * 300, "x"), refused="cannot be made"),
    "a path too long": case(member("a/" * 3000 + "b", "x"), refused="bytes; the kernel takes"),
    "an unknown kind": case(member("a", kind=b"Z"), refused="unknown type"),
    "an attribute that cannot be": case(
        member("a", "x", pax={"SCHILY.xattr.security.capability": "nonsense"}), refused="attribute"
    ),
    "a name that is no text": Case(raw(entry(b"\xff\xfe")), {"\\xff\\xfe": "-rw"}),
    "a zero byte in a name": Case(pax(b"12 path=a\0b\n") + raw(entry(b"a")), refused="zero byte"),
    "a PAX record too long": Case(pax(b"99 path=a\n") + raw(entry(b"a")), refused="damaged PAX"),
    "a PAX record too short": Case(pax(b"3 path=a\n") + raw(entry(b"a")), refused="damaged PAX"),
    "a PAX header for nothing": Case(pax(b"10 path=a\n") + bytes(1024), refused="belongs to a next one"),
    "a PAX size that is no number": Case(pax(b"12 size=-1a\n") + raw(entry(b"a")), refused="number"),
    "a header of headers without end": Case(
        header(entry(b"x", b"x", size=1 << 30)) + bytes(1024), refused="more than 1048576"
    ),
    "a wrong checksum": Case(b"a" * 512 + bytes(1024), refused="header"),
    "a block of zeros inside": Case(raw(entry(b"a"))[:512] + bytes(512) + raw(entry(b"b")), refused="zeros between"),
    "an entry of terabytes": Case(raw(entry(b"a", size=1 << 42)), refused="room for"),
    "a sparse entry of exabytes": Case(
        pax(record("major", 1), record("minor", 0), record("realsize", 1 << 60))
        + header(entry(b"a", size=512))
        + b"0\n".ljust(512, b"\0")
        + bytes(1024),
        refused="room for",
    ),
    "holes that overlap": Case(
        pax(record("size", 100), record("map", "50,5,0,5")) + header(entry(b"a", size=10)) + bytes(512) + bytes(1024),
        refused="holes that do not fit",
    ),
    "an end in a header": Case(archive(member("a", "x"))[:700], refused="ends in the middle"),
    "an end in a file": Case(archive(member("a", b"x" * 5000))[:3000], refused="ends in the middle"),
    "an end in gzip": Case(
        gzip.compress(archive(member("a", random.Random(1).randbytes(5000))))[:-20], refused="early"
    ),
    "damage in gzip": Case(DAMAGED, refused="damaged|number|checksum|middle"),
    "no archive at all": Case(b"#!/bin/sh\necho hello\n" * 100, refused="header"),
    "xz": Case(b"\xfd7zXZ\0" + bytes(100), refused="compressed with xz"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All archives unpacked, by us and carelessly."""
    return sandbox.run({name: case.data() for name, case in CASES.items()}, tmp_path_factory.mktemp("hostile"))


@pytest.mark.needs_root
@pytest.mark.parametrize("name", CASES)
def test_nothing_gets_out(answers: dict[str, Any], name: str) -> None:
    expected, found = CASES[name], answers[name]["ours"]
    assert found["outside"] == []
    assert not found["error"].startswith("!"), f"no sentence: {found['error']}"
    if expected.refused:
        assert any(part in found["error"] for part in expected.refused.split("|")), found["error"] or "not refused"
        return
    assert found["error"] == ""
    for path, what in (expected.there or {}).items():
        assert what in found["inside"].get(path, "(missing)"), found["inside"]


@pytest.mark.needs_root
def test_an_order_to_overlayfs_is_dropped(answers: dict[str, Any]) -> None:
    assert "opaque" not in answers["an order to overlayfs"]["ours"]["inside"]["a"]


@pytest.mark.needs_root
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.dangerous])
def test_a_careless_extractor_is_caught(answers: dict[str, Any], name: str) -> None:
    assert answers[name]["careless"]["outside"] != []


def unpack(data: bytes, folder: Path, limits: Limits) -> None:
    folder.mkdir()
    layer.unpack([data], folder, limits)


BOMBS: dict[str, tuple[Callable[[], bytes], type[GlassdockError], str]] = {
    "entries": (lambda: archive(*(member(f"{n}") for n in range(30))), Corrupt, "more than 20 entries"),
    "zeros": (lambda: gzip.compress(archive(member("a", bytes(20 << 20)))), StorageFull, "room for"),
    "many": (lambda: archive(*(member(f"{n}", bytes(1 << 20)) for n in range(20))), StorageFull, "room for"),
    "after the end": (lambda: gzip.compress(archive(member("a")) + bytes(30 << 20)), Corrupt, "longer than"),
    "headers": (
        lambda: gzip.compress(pax(*(b"1030 comment=" + b"x" * 1016 + b"\n" for _ in range(1000))) * 30),
        Corrupt,
        "longer than",
    ),
}


@pytest.mark.needs_root
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_stopped(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "_OVERHEAD", 1 << 20)
    make, error, text = BOMBS[name]
    data = make()
    with pytest.raises(error, match=text):
        unpack(data, tmp_path / "out", Limits(entries=20, size=10 << 20))


def test_a_terabyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    read = io.BytesIO(raw(entry(b"a", size=1 << 42)))
    with pytest.raises(GlassdockError):
        layer.unpack(iter(lambda: read.read(512), b""), tmp_path)
    assert read.tell() <= 2048
