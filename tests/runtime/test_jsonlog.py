"""Docker's json-file: lines, parts, bytes that are no text, a full disk."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from glassdock.runtime.jsonlog import LONGEST, JsonLog, LogOptions, timestamp


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


def numbered(path: Path) -> list[str]:
    return [text.strip() for _, text in rows(path)]


def test_a_new_file_begins_after_the_size_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonLog(str(path), LogOptions(max_size=200, max_file=3))
    for number in range(20):
        log.write("stdout", b"%d\n" % number)
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    found = [*numbered(tmp_path / "log.2"), *numbered(tmp_path / "log.1"), *numbered(path)]
    assert found == [str(number) for number in range(20 - len(found), 20)]
    assert all(200 <= (tmp_path / name).stat().st_size < 300 for name in ("log.1", "log.2"))


def test_one_file_begins_anew(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), LogOptions(max_size=200))
    for number in range(10):
        log.write("stdout", b"%d\n" % number)
    log.close()
    assert numbered(tmp_path / "log")[-1] == "9"
    assert [file.name for file in tmp_path.iterdir()] == ["log"]


def test_old_files_are_compressed(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), LogOptions(max_size=200, max_file=4, compress=True))
    for number in range(20):
        log.write("stdout", b"%d\n" % number)
    log.close()
    os.waitpid(log._compressor, 0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.1.gz", "log.2.gz", "log.3.gz"]
    with gzip.open(tmp_path / "log.1.gz") as file:
        first = json.loads(file.readline())
    assert int(first["log"]) < 20


def test_attributes_are_in_every_entry(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), LogOptions(attributes={"tag": "web"}))
    log.write("stdout", b"a\nb\n")
    log.close()
    assert [json.loads(line)["attrs"] for line in (tmp_path / "log").read_text().splitlines()] == [{"tag": "web"}] * 2
