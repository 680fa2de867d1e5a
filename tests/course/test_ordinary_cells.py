"""Cells of the chapters that go to the kernel themselves: they work for an ordinary user, too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.ordinary import USER, words
from tests.support.tree import ROOT

USE = """
stacked(folders, "cat merged/a merged/b")
stacked(folders, "echo more >> merged/a; cat upper/a; rm merged/b; ls merged")
"""


def cell_with(chapter: Path, text: str) -> str:
    cells = json.loads(chapter.read_text())["cells"]
    (found,) = [cell for cell in map(_source, cells) if text in cell]
    return found


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


@pytest.mark.needs_root
@pytest.mark.needs("newuidmap")
@pytest.mark.parametrize("language", ["", "zh"])
@pytest.mark.parametrize("kind", ["root", "single"])
def test_layers_are_stacked_by_hand(short_tmp: Path, kind: str, language: str) -> None:
    definition = cell_with(ROOT / "notebooks" / language / "02_images.ipynb", "def stacked").rpartition("\n\n")[0]
    for name, text in (("one", "first\n"), ("two", "second\n")):
        (short_tmp / "images" / name).mkdir(parents=True)
        (short_tmp / "images" / name / "ab"[name == "two"]).write_text(text)
    (short_tmp / "tmp").mkdir()
    for path in (short_tmp, *short_tmp.rglob("*")):
        os.chown(path, USER, USER) if kind != "root" else None
    code = f"from pathlib import Path\nchains = Path({str(short_tmp)!r}) / 'images/chains'\n"
    code += "folders = [chains.parent / 'one', chains.parent / 'two']\n" + definition + USE
    command = [sys.executable, "-c", code]
    if kind != "root":
        command = words(short_tmp, kind, *command)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["first", "second", "first", "more", "a"], done.stderr
    assert list((short_tmp / "tmp").iterdir()) == []
