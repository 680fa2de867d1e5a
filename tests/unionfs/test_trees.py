"""Folders that a container filled are walked and removed whatever it did."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glassdock.unionfs import trees


def deep(folder: Path, levels: int) -> None:
    """Nested folders, far beyond PATH_MAX and the limit on recursion."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("deeper" * 20, dir_fd=fd)
        following = os.open("deeper" * 20, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = following
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fd))
    os.close(fd)


def test_parents_come_first_and_names_are_sorted(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [node.path for node in trees.walk(tmp_path)] == [b"a", b"b", b"b/1", b"b/2", b"c", b"c/d", b"c/d/e"]


def test_depth_is_no_limit(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    deep(tmp_path / "top", 1500)
    paths = [node.path for node in trees.walk(tmp_path / "top")]
    assert len(paths) == 1501
    assert paths[-1].endswith(b"/bottom")
    trees.remove(tmp_path / "top")
    assert os.listdir(tmp_path) == []


def test_symlinks_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary/file").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(tmp_path / "canary")
    assert [node.path for node in trees.walk(tmp_path / "tree")] == [b"link"]
    trees.remove(tmp_path / "tree")
    assert (tmp_path / "canary/file").exists()
    trees.remove(tmp_path / "tree")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff\xfe")
    assert [node.path for node in trees.walk(tmp_path)] == [b"\xff\xfe"]
    trees.remove(os.fsencode(tmp_path) + b"/\xff\xfe")
    assert os.listdir(tmp_path) == []


def test_a_hard_link_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    os.link(tmp_path / "a", tmp_path / "b")
    assert trees.usage(tmp_path) == 1000


def test_a_folder_moved_while_it_is_read_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "tree/a/b").mkdir(parents=True)
    (tmp_path / "tree/a/b/file").touch()
    (tmp_path / "tree/z").touch()

    def look() -> None:
        for node in trees.walk(tmp_path / "tree"):
            if node.name == b"file":
                os.rename(tmp_path / "tree/a/b", tmp_path / "elsewhere")

    with pytest.raises(OSError, match="moved"):
        look()
