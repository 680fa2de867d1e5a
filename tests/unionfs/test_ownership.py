"""What cannot be made in a user namespace is remembered, and what can is not."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from glassdock.unionfs import ownership
from tests.support.modes import words
from tests.support.tree import ROOT

START = """
import os, stat, sys
from pathlib import Path
from glassdock.unionfs import ownership, trees
os.chdir(sys.argv[1])
here = os.open(".", os.O_RDONLY)
def seen(name):
    status = ownership.seen_node(name, here, os.lstat(name))
    return f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {os.major(status.st_rdev)}"
def give(name, uid, gid):
    fd = os.open(name, os.O_RDONLY)
    ownership.give(fd, uid, gid)
    os.close(fd)
"""


def run(kind: str, folder: Path, script: str) -> list[str]:
    command = words(kind, sys.executable, "-c", START + textwrap.dedent(script), str(folder))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("kind", "raw", "notes"),
    [("root", "1000:50", "[]"), ("range", "1000:50", "[]"), ("single", "0:0", "['user.rootlesscontainers']")],
)
def test_an_owner_is_made_or_remembered(tmp_path: Path, kind: str, raw: str, notes: str) -> None:
    script = """
    Path("file").touch(0o644)
    give("file", 1000, 50)
    status = os.stat("file")
    print(seen("file")[11:].split()[0], f"{status.st_uid}:{status.st_gid}", os.listxattr("file"))
    give("file", 0, 0)
    print(seen("file")[11:].split()[0], os.listxattr("file"))
    """
    assert run(kind, tmp_path, script) == [f"1000:50 {raw} {notes}", "0:0 []"]


@pytest.mark.needs_root
def test_the_note_has_the_form_of_umoci_and_proot(tmp_path: Path) -> None:
    run("single", tmp_path, 'Path("file").touch(); give("file", 1000, 50)')
    assert os.getxattr(tmp_path / "file", "user.rootlesscontainers") == bytes.fromhex("08e8071032")


@pytest.mark.needs_root
def test_an_id_beyond_the_range_is_remembered(tmp_path: Path) -> None:
    script = """
    os.mkdir("d")
    give("d", 2**31, 7)
    print(seen("d"), os.stat("d").st_gid)
    """
    assert run("range", tmp_path, script) == ["drwxr-xr-x 2147483648:7 0 7"]


@pytest.mark.needs_root
def test_links_and_fifos_are_remembered_by_their_folder(tmp_path: Path) -> None:
    script = """
    for number in range(100):
        os.symlink("target", f"link{number}")
        ownership.give_node(f"link{number}", here, 1000, number)
    os.mkfifo("fifo", 0o600)
    ownership.give_node("fifo", here, 7, 8)
    print({seen(f"link{number}") for number in range(100)} == {f"lrwxrwxrwx 1000:{number} 0" for number in range(100)})
    print(seen("fifo"))
    os.unlink("link7"); os.symlink("target", "link7")
    print(seen("link7"), seen("link8"))
    """
    other = "lrwxrwxrwx 0:0 0 lrwxrwxrwx 1000:8 0"
    assert run("single", tmp_path, script) == ["True", "prw------- 7:8 0", other]


@pytest.mark.needs_root
def test_more_links_than_a_folder_can_remember_are_the_users(tmp_path: Path) -> None:
    script = """
    for number in range(1200):
        os.symlink("target", f"link{number}")
        ownership.give_node(f"link{number}", here, 1000, 1000)
    print({seen(f"link{number}")[11:] for number in (0, 1199)} <= {"1000:1000 0", "0:0 0"})
    """
    assert run("single", tmp_path, script) == ["True"]


@pytest.mark.needs_root
@pytest.mark.parametrize("kind", ["range", "single"])
def test_a_file_stands_for_a_device(tmp_path: Path, kind: str) -> None:
    script = """
    ownership.make_device("sda", stat.S_IFBLK | 0o600, os.makedev(8, 3), here)
    ownership.give_node("sda", here, 0, 6)
    os.chmod("sda", 0o640)
    print(seen("sda"), stat.filemode(os.lstat("sda").st_mode))
    """
    assert run(kind, tmp_path, script) == ["brw-r----- 0:6 8 -rw-r-----"]


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "note", [b"\xff", b"\x08", b"\x08\x80", b"\x08" + b"\xff" * 9, b"\x22\x01", b"\x08\xff\xff\xff\xff\xff\x01"]
)
def test_a_note_that_means_nothing_is_none(tmp_path: Path, note: bytes) -> None:
    (tmp_path / "file").touch(0o644)
    os.setxattr(tmp_path / "file", "user.rootlesscontainers", note)
    os.setxattr(tmp_path / "file", "user.glassdock.device", b"c 1 x")
    assert run("single", tmp_path, 'print(seen("file"))') == ["-rw-r--r-- 0:0 0"]


@pytest.mark.needs_root
def test_root_takes_no_note_for_the_truth(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o644)
    os.setxattr(tmp_path / "file", "user.rootlesscontainers", bytes.fromhex("08e8071032"))
    assert run("root", tmp_path, 'print(seen("file"))') == ["-rw-r--r-- 0:0 0"]
    assert ownership.attributes(os.fsencode(tmp_path / "file")) == {
        "user.rootlesscontainers": bytes.fromhex("08e8071032")
    }


@pytest.mark.needs_root
@pytest.mark.parametrize("kind", ["root", "range", "single"])
def test_capabilities_of_a_program_are_set_or_remembered(tmp_path: Path, kind: str) -> None:
    script = """
    Path("ping").touch()
    net_raw = bytes.fromhex("0100000200200000000000000000000000000000")
    fd = os.open("ping", os.O_RDONLY)
    print(ownership.set_attribute(fd, "security.capability", net_raw))
    print(ownership.attributes(fd) == {"security.capability": net_raw})
    """
    assert run(kind, tmp_path, script) == ["True", "True"]
