"""Logs are selected and followed from the json-file that the shim writes."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from pathlib import Path

import pytest

from glassdock.containers.logs import Entry, LogQuery, read
from glassdock.runtime.jsonlog import JsonLog, LogOptions


def write(path: Path, *lines: tuple[str, str]) -> None:
    with path.open("a") as file:
        for second, (stream, text) in enumerate(lines):
            time = f"2026-01-01T00:00:{second:02d}.000000001Z"
            file.write(json.dumps({"log": text, "stream": stream, "time": time}) + "\n")


async def collect(path: Path, query: LogQuery) -> list[Entry]:
    return [entry async for entry in read(path, query, lambda: False)]


async def test_streams_are_chosen_apart(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, ("stdout", "a\n"), ("stderr", "b\n"))
    assert [entry.log for entry in await collect(log, LogQuery(stderr=False))] == ["a\n"]
    assert [entry.log for entry in await collect(log, LogQuery(stdout=False))] == ["b\n"]


async def test_tail_counts_the_chosen_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, ("stdout", "a\n"), ("stdout", "b\n"), ("stderr", "c\n"))
    assert [entry.log for entry in await collect(log, LogQuery(stderr=False, tail=1))] == ["b\n"]
    assert await collect(log, LogQuery(tail=0)) == []


async def test_since_and_until_are_inclusive_moments(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, ("stdout", "a\n"), ("stdout", "b\n"), ("stdout", "c\n"))
    base = 1767225600.0
    assert [entry.log for entry in await collect(log, LogQuery(since=base + 1))] == ["b\n", "c\n"]
    assert [entry.log for entry in await collect(log, LogQuery(until=base + 0.5))] == ["a\n"]


async def test_half_a_line_is_not_read_before_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, ("stdout", "a\n"))
    with log.open("a") as file:
        file.write('{"log":"half')
    assert [entry.log for entry in await collect(log, LogQuery())] == ["a\n"]


async def test_following_ends_after_the_last_line_of_the_last_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, ("stdout", "a\n"))
    alive = True
    seen: list[str] = []

    async def follow() -> None:
        async for entry in read(log, LogQuery(follow=True), lambda: alive):
            seen.append(entry.log)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    write(log, ("stdout", "b\n"))
    alive = False
    await asyncio.wait_for(following, 5)
    assert seen == ["a\n", "b\n"]


async def test_a_container_that_never_ran_has_no_log(tmp_path: Path) -> None:
    assert await collect(tmp_path / "none", LogQuery(follow=True)) == []


async def test_files_that_had_their_turn_are_read_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(tmp_path / "log.2", ("stdout", "a\n"))
    (tmp_path / "log.2.gz").write_bytes(gzip.compress((tmp_path / "log.2").read_bytes()))
    (tmp_path / "log.2").unlink()
    write(tmp_path / "log.1", ("stdout", "b\n"))
    write(log, ("stdout", "c\n"))
    assert [entry.log for entry in await collect(log, LogQuery())] == ["a\n", "b\n", "c\n"]
    assert [entry.log for entry in await collect(log, LogQuery(tail=2))] == ["b\n", "c\n"]


@pytest.mark.parametrize("options", [LogOptions(400, 9), LogOptions(400, 9, compress=True), LogOptions(10**6, 1)])
async def test_following_goes_on_over_a_turn(tmp_path: Path, options: LogOptions) -> None:
    path = tmp_path / "log"
    log = JsonLog(str(path), options)
    log.write("stdout", b"0\n")
    alive = True
    seen: list[str] = []

    async def follow() -> None:
        async for entry in read(path, LogQuery(follow=True), lambda: alive):
            seen.append(entry.log)

    task = asyncio.create_task(follow())
    for number in range(1, 20):
        log.write("stdout", b"%d\n" % number)
        await asyncio.sleep(0.03)
    log.close()
    alive = False
    await asyncio.wait_for(task, 5)
    if log._compressor:
        os.waitpid(log._compressor, 0)
    assert seen == [f"{number}\n" for number in range(20)]


def test_details_come_before_the_line_and_after_the_time() -> None:
    entry = Entry("a\n", "stdout", "2026-01-01T00:00:00Z", {"b": "x y", "a": "1"})
    assert entry.text(LogQuery(details=True)) == b"a=1,b=x+y a\n"
    assert entry.text(LogQuery(details=True, timestamps=True)) == b"2026-01-01T00:00:00Z a=1,b=x+y a\n"
