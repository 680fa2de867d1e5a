"""What a cell shows of a verb's output."""

from __future__ import annotations

import pytest

from glassdock_jupyter import output
from glassdock_jupyter.output import Cell


def test_lines_come_whole_and_streams_apart(capsys: pytest.CaptureFixture[str]) -> None:
    cell = Cell()
    cell.out(b"one\ntw")
    assert capsys.readouterr().out == "one\n"
    cell.err(b"oops\n")
    cell.out(b"o\nthree")
    cell.finish()
    found = capsys.readouterr()
    assert (found.out, found.err) == ("two\nthree", "oops\n")
    assert (cell.stdout, cell.stderr) == ("one\ntwo\nthree", "oops\n")


def test_a_character_cut_in_two_is_put_together(capsys: pytest.CaptureFixture[str]) -> None:
    cell = Cell()
    whole = "容器\n".encode()
    cell.out(whole[:4])
    cell.out(whole[4:])
    cell.finish()
    assert capsys.readouterr().out == "容器\n"


def test_long_output_is_cut_with_a_pointer_to_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    cell = Cell()
    for number in range(3000):
        cell.out(b"%d\n" % number)
    cell.finish("web")
    found = capsys.readouterr()
    assert found.out.splitlines() == [str(number) for number in range(1000)]
    assert "%container logs web" in found.err


def test_a_build_is_told_in_short_lines(capsys: pytest.CaptureFixture[str]) -> None:
    cell = Cell()
    for line in (
        "Step 1/3 : FROM busybox\n",
        " ---> 0123456789ab\n",
        "Step 2/3 : RUN echo hi\n",
        " ---> Running in 0123456789ab\n",
        "hi\n",
        "Removing intermediate container 0123456789ab\n",
        " ---> 0123456789ab\n",
        "Step 3/3 : ENV A=b\n",
        " ---> Using cache\n",
        " ---> 0123456789ab\n",
        "Successfully built 0123456789ab\n",
        "Successfully tagged web:latest\n",
    ):
        cell.event({"stream": line})
    cell.finish()
    assert capsys.readouterr().out.splitlines() == [
        "[1/3] FROM busybox",
        "[2/3] RUN echo hi",
        "      hi",
        "[3/3] ENV A=b (cached)",
    ]


def test_a_quick_pull_shows_no_bar_and_says_what_was_moved(capsys: pytest.CaptureFixture[str]) -> None:
    cell = Cell()
    cell.event({"status": "Pulling from library/busybox", "id": "latest"})
    cell.event({"status": "Already exists", "id": "aaaaaaaaaaaa"})
    cell.event({"status": "Downloading", "id": "bbbbbbbbbbbb", "progressDetail": {"current": 5, "total": 10}})
    cell.event({"status": "Pull complete", "id": "bbbbbbbbbbbb"})
    cell.event({"status": "Status: Downloaded newer image for busybox:latest"})
    cell.finish()
    assert capsys.readouterr().out.splitlines() == [
        "Downloaded newer image for busybox:latest",
        "Layers: 1 downloaded, 1 already here",
    ]


def test_a_slow_pull_draws_one_line_and_ends_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_PATIENCE", 0)
    monkeypatch.setattr(output, "_PERIOD", 0)
    cell = Cell()
    for current in (1_000_000, 2_000_000):
        cell.event({"status": "Downloading", "id": "b", "progressDetail": {"current": current, "total": 2_000_000}})
    cell.event({"status": "Status: Downloaded newer image for x:latest"})
    cell.finish()
    found = capsys.readouterr().out
    assert "\r1 layers: 1.0 of 2.0 MB" in found
    assert found.split("\r")[-1] == "Downloaded newer image for x:latest\n"
