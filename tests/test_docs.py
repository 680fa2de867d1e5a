"""The documents name things that exist: every file that a page links to, every folder that the map should show.

Rules: pages are Markdown under version control; addresses on the web are not looked up.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.tree import ROOT, files, name

PAGES = files(".md")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_linked_file_exists(page: Path) -> None:
    targets = [target.partition("#")[0] for target in _LINK.findall(page.read_text())]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_map_shows_every_part_of_the_engine() -> None:
    text = (ROOT / "engine/README.md").read_text()
    engine = ROOT / "engine/glassdock"
    parts = [entry.name for entry in engine.iterdir() if (entry / "__init__.py").exists()]
    assert [part for part in parts if f"{part}/" not in text] == []


def test_the_map_and_the_linter_agree_on_the_layers() -> None:
    def layers(lines: list[str]) -> list[set[str]]:
        return [set(re.findall(r"[a-z]+", line.strip().split("  ")[0])) for line in lines]

    drawn = re.search(r"## Layers\n(?:.*\n)*?((?: {4}.*\n)+)", (ROOT / "engine/README.md").read_text())
    listed = re.search(r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert drawn
    assert listed
    assert layers(drawn.group(1).splitlines()) == layers(listed.group(1).splitlines())


def test_decisions_are_numbered_without_gaps_in_name() -> None:
    records = [path.name for path in (ROOT / "engine/decisions").iterdir()]
    assert [record for record in records if not re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", record)] == []
    numbers = [record[:4] for record in records]
    assert len(numbers) == len(set(numbers))


def test_each_dependency_has_its_reason() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    groups += [[entry for entry in group if isinstance(entry, str)] for group in project["dependency-groups"].values()]
    names = {re.split(r"[<>=~! \[]", requirement)[0] for group in groups for requirement in group}
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert [dependency for dependency in sorted(names) if dependency not in text] == []
