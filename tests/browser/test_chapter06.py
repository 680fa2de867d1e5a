"""Chapter 06 in a real JupyterLab, in a real browser: Run All, both pictures, nothing left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.lab import Lab, browser, open_chapter, run_all
from tests.course.chapters import ROOT, environment
from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("chromium"), pytest.mark.timeout(300)]
ARTIFACTS = ROOT / "artifacts"


@pytest.fixture
def page(engine: Daemon, short_tmp: Path) -> Iterator[Page]:
    """Chapter 06, opened and its kernel started."""
    env = environment(engine, short_tmp)
    with Lab(short_tmp, env) as lab, browser(short_tmp / "profile") as page:
        open_chapter(page, lab, "06_execution_flow")
        expect(page.get_by_role("heading", name="What happens when you say run")).to_be_visible()
        yield page


def test_run_all_draws_both_pictures_of_this_run_and_leaves_nothing(engine: Daemon, page: Page) -> None:
    run_all(page)

    assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").all_inner_texts() == []

    layers = page.locator(".gd-layers[aria-label='Layers of observatory']")
    expect(layers).to_be_visible()
    expect(layers).to_contain_text('RUN mkdir /log && echo "Saturn, its rings wide open." > /log/tonight')
    layers.locator("summary", has_text="RUN mkdir").first.click()
    expect(layers).to_contain_text("tonight")
    layers.screenshot(path=shot("chapter06-layers"))

    runs = page.locator(".gd-recorder[aria-label='The run tonight']")
    expect(runs).to_have_count(3)
    first, far, near = (steps(runs.nth(number)) for number in range(3))
    for recorded in (first, far, near):
        assert {"client", "daemon", "init"} <= {actor for _, actor in recorded}
        assert [name for name, _ in recorded if name == "client.run"] == ["client.run"]
        names = [name for name, _ in recorded]
        assert names.index("client.create") < names.index("client.start") < names.index("client.wait")
    fetched = {("client.pull", "client"), ("images.pull", "images"), ("registry.manifest", "registry")}
    assert fetched <= set(far)
    assert not fetched & set(near)
    runs.nth(1).scroll_into_view_if_needed()
    runs.nth(1).screenshot(path=shot("chapter06-run"))
    page.screenshot(path=shot("chapter06"))

    assert "/tonight" not in engine.containers().values()
    for container in engine.containers():
        engine.request("DELETE", f"/containers/{container}?force=1")


def steps(run: Locator) -> list[tuple[str, str]]:
    """The steps of a recorder on screen: name and who did it."""
    labels = [bar.get_attribute("aria-label") or "" for bar in run.locator(".gd-step").all()]
    found = [re.match(r"(\S+) by (\S+),", label) for label in labels]
    return [(match[1], match[2]) for match in found if match]


def shot(name: str) -> str:
    """Where a screenshot is kept as an artefact."""
    ARTIFACTS.mkdir(exist_ok=True)
    return str(ARTIFACTS / f"{name}.png")
