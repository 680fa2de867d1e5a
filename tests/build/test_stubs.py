"""Places of mounts do not become part of a layer."""

from __future__ import annotations

import os
from pathlib import Path

from glassdock.build.stubs import remove_stubs
from tests.build.workshop import write


def left(folder: Path, upper: dict[str, str], *lowers: dict[str, str]) -> list[str]:
    """What stays in a writable layer with these files, above layers with those (topmost first)."""
    for number, files in enumerate((upper, *lowers)):
        (folder / str(number)).mkdir()
        for path, content in files.items():
            write(folder / str(number) / path, content)
    remove_stubs(folder / "0", [folder / str(number + 1) for number in range(len(lowers))])
    return sorted(str(path.relative_to(folder / "0")) for path in (folder / "0").rglob("*"))


STUBS = {"etc/hosts": "", "etc/hostname": "", "etc/resolv.conf": "", "proc": "dir", "sys": "dir", "dev": "dir"}


def test_empty_places_go_with_the_directory_that_was_passed_through(tmp_path: Path) -> None:
    assert left(tmp_path, {**STUBS, "made": "x"}, {"etc/passwd": "x"}) == ["made"]


def test_on_scratch_nothing_stays(tmp_path: Path) -> None:
    assert left(tmp_path, STUBS) == []


def test_what_the_image_has_or_the_command_wrote_stays(tmp_path: Path) -> None:
    upper = {"etc/hosts": "", "etc/resolv.conf": "written", "etc/made": "", "proc/x": "", "dev": "dir"}
    lowers = ({"etc/hosts": "image's"}, {"dev": "dir"})
    assert left(tmp_path, upper, *lowers) == [
        "dev", "etc", "etc/hosts", "etc/made", "etc/resolv.conf", "proc", "proc/x",
    ]  # fmt: skip


def test_a_directory_that_the_command_changed_stays(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    write(tmp_path / "0/etc/hosts", "")
    (tmp_path / "0/etc").chmod(0o700)
    write(tmp_path / "1/etc/passwd", "x")
    remove_stubs(tmp_path / "0", [tmp_path / "1"])
    assert os.listdir(tmp_path / "0") == ["etc"]
    assert os.listdir(tmp_path / "0/etc") == []
