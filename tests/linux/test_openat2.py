"""openat2 and what is built on it: no path leaves its root."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassdock.linux.openat2 import Resolve, make_directories, open_in_root, openat2


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """`tmp/root`, with a secret beside it."""
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("secret")
    descriptor = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def read(descriptor: int) -> str:
    with os.fdopen(descriptor) as file:
        return file.read()


@pytest.mark.parametrize("path", ["/../secret", "../secret", "/a/../../secret", "/link"])
def test_dots_and_absolute_links_end_at_the_root(tmp_path: Path, root: int, path: str) -> None:
    (tmp_path / "root/a").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "secret")
    with pytest.raises(FileNotFoundError):
        open_in_root(root, path, os.O_RDONLY)


def test_an_absolute_link_means_the_root(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/name").write_text("inside")
    (tmp_path / "root/link").symlink_to("/etc/name")
    assert read(open_in_root(root, "/link", os.O_RDONLY)) == "inside"


def test_magic_links_are_refused(root: int) -> None:
    proc = os.open("/proc/self", os.O_PATH)
    try:
        with pytest.raises(OSError, match="symbolic links") as caught:
            open_in_root(proc, "cwd", os.O_PATH)
        assert caught.value.errno == errno.ELOOP
    finally:
        os.close(proc)


def test_results_are_close_on_exec(root: int) -> None:
    descriptor = openat2(root, ".", os.O_RDONLY, 0, Resolve.BENEATH)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_the_error_names_the_call_and_the_path(root: int) -> None:
    with pytest.raises(FileNotFoundError, match=r"openat2: No such file.*'/nowhere'"):
        open_in_root(root, "/nowhere", os.O_RDONLY)


def test_directories_are_made_inside(tmp_path: Path, root: int) -> None:
    os.close(make_directories(root, "/a/b/../c"))
    assert (tmp_path / "root/a/c").is_dir()
    assert (tmp_path / "root/a/b").is_dir()


def test_a_dangling_link_is_made_true_inside(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/link").symlink_to(tmp_path / "outside")
    (tmp_path / "root/up").symlink_to("../../../elsewhere")
    os.close(make_directories(root, "/link/x"))
    os.close(make_directories(root, "/up"))
    assert not (tmp_path / "outside").exists()
    assert (tmp_path / "root" / str(tmp_path)[1:] / "outside/x").is_dir()
    assert (tmp_path / "root/elsewhere").is_dir()


def test_a_circle_of_links_ends(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/a").symlink_to("b")
    (tmp_path / "root/b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links") as caught:
        make_directories(root, "/a/x")
    assert caught.value.errno == errno.ELOOP


def test_a_file_on_the_way_is_an_error(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/file").write_text("")
    with pytest.raises(NotADirectoryError):
        make_directories(root, "/file/x")


def test_a_zero_byte_is_refused(root: int) -> None:
    with pytest.raises(ValueError, match="zero byte"):
        open_in_root(root, "/a\0b", os.O_RDONLY)
