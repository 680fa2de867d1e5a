"""Docker's json-file: lines, parts, bytes that are no text, a full disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glassdock.runtime.jsonlog import LONGEST, JsonLog, timestamp


def rows(path: Path) -> list[tuple[str, str]]:
    return [(row["stream"], row["log"]) for row in map(json.loads, path.read_text().splitlines())]


def test_a_line_is_one_entry_however_it_arrives(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"))
    for piece in (b"on", b"e\ntw", b"o\n\nthr"):
        log.write("stdout", piece)
    assert rows(tmp_path / "log") == [("stdout", "one\n"), ("stdout", "two\n"), ("stdout", "\n")]
    log.close()
    assert rows(tmp_path / "log")[-1] == ("stdout", "thr")


def test_streams_do_not_mix_in_a_line(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"))
    log.write("stdout", b"a")
    log.write("stderr", b"b\n")
    log.write("stdout", b"c\n")
    log.close()
    assert rows(tmp_path / "log") == [("stderr", "b\n"), ("stdout", "ac\n")]


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_a_long_line_is_split_at_sixteen_kibibytes(tmp_path: Path, extra: int) -> None:
    log = JsonLog(str(tmp_path / "log"))
    log.write("stdout", b"x" * (2 * LONGEST + extra) + b"\n")
    log.close()
    assert [len(text) for _, text in rows(tmp_path / "log")] == [LONGEST, LONGEST, extra + 1]


def test_bytes_that_are_no_text_are_marked(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"))
    log.write("stdout", b'\xff\0\x1b[1m"\\\n')
    log.close()
    assert rows(tmp_path / "log") == [("stdout", '\ufffd\0\x1b[1m"\\\n')]


def test_it_appends(tmp_path: Path) -> None:
    for number in (1, 2):
        log = JsonLog(str(tmp_path / "log"))
        log.write("stdout", f"{number}\n".encode())
        log.close()
    assert [text for _, text in rows(tmp_path / "log")] == ["1\n", "2\n"]


def test_a_full_disk_loses_entries_and_nothing_else() -> None:
    log = JsonLog("/dev/full")
    log.write("stdout", b"a\nb\n")
    log.close()
    assert log.lost == 2


def test_no_path_is_no_log() -> None:
    log = JsonLog("")
    log.write("stdout", b"a\n")
    log.close()


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (1_000_000_001, "1970-01-01T00:00:01.000000001Z"),
    ],
)
def test_times_are_gos(nanoseconds: int, text: str) -> None:
    assert timestamp(nanoseconds) == text
