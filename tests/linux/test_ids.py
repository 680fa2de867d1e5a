"""The id map: told from the kernel, for the machine's namespace, a range and a single id."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glassdock.linux import ids
from glassdock.linux.ids import Extent, Mapping

ASK = """
import sys
from glassdock.linux import clone, ids
clone.unshare(clone.CloneFlag.NEWUSER)
print("ready", flush=True)
sys.stdin.read(1)
print(ids.mapping().kind, ids.mapping().setgroups, ids.initial(), *map(ids.has_uid, (0, 1, 70000)), ids.has_gid(5))
"""
Ask = Callable[[str, str], str]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Run ASK in a new user namespace whose maps we write from outside, as newuidmap would."""
    started: list[subprocess.Popen[str]] = []

    def asked(extent: str, setgroups: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n"
        folder = Path(f"/proc/{process.pid}")
        (folder / "setgroups").write_text(setgroups)
        (folder / "uid_map").write_text(extent)
        (folder / "gid_map").write_text(extent)
        answer, _ = process.communicate("x", timeout=20)
        return answer.strip()

    yield asked
    for process in started:
        process.kill()
        process.communicate()


def test_here_the_answer_is_the_kernels() -> None:
    inside = os.readlink("/proc/self/ns/user") != "user:[4026531837]"
    assert ids.initial() is not inside
    assert ids.has_uid(os.getuid())
    assert ids.has_gid(os.getgid())


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("extent", "setgroups", "expected"),
    [
        ("0 100000 65536", "allow", "range True False True True False True"),
        ("0 0 4294967295", "allow", "range True False True True True True"),
        ("0 21000 1", "deny", "single False False True False False False"),
    ],
)
def test_a_namespace_says_what_it_maps(ask: Ask, extent: str, setgroups: str, expected: str) -> None:
    assert ask(extent, setgroups) == expected


def test_extents_are_half_open() -> None:
    mapping = Mapping("range", (Extent(0, 1000, 1), Extent(1, 100000, 10)), (Extent(0, 1000, 1),))
    assert [mapping.has_uid(number) for number in (0, 1, 10, 11, -1)] == [True, True, True, False, False]
    assert not mapping.has_gid(1)
