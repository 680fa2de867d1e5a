"""The pictures: their static twins, and their widgets in a real browser."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

import glassdock_jupyter.pictures
from glassdock_jupyter.pictures import layers, recorder
from tests.kernelext import samples

FOLDER = Path(glassdock_jupyter.pictures.__file__).parent
LAYERS = layers.LayerExplorer.of(samples.STACK)
RUN = recorder.RunRecorder.of("web", samples.client_spans(), samples.engine_spans())
PAGE = b"<!doctype html><link rel=icon href=data:,><link rel=stylesheet href=pictures.css><div id=el>"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


class Balanced(HTMLParser):
    """Fails on markup that is not closed as it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("picture", [LAYERS, RUN], ids=["layers", "run"])
def test_a_twin_is_whole_safe_and_loads_nothing(picture: Any) -> None:
    html = picture._html()
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    for word in ("<script", "http://", "https://", "src=", "sha256:", "4242"):
        assert word not in html
    assert html == picture._html()


def test_the_layers_twin_tells_what_each_instruction_did() -> None:
    html = LAYERS._html()
    assert html.index("COPY site") < html.index("ENV GREETING") < html.index("RUN adduser")
    assert "&lt;&amp;2" in html
    assert "− /etc/group" in html
    assert "~ /etc/passwd" in html
    assert "+ /home/web/.profile" in html
    assert "… 203 more added" in html


def test_layers_are_objects() -> None:
    assert len(LAYERS) == 4
    assert LAYERS[1].instruction == "RUN adduser -D web && rm /etc/group <&2"
    assert LAYERS[1].summary == "1 added, 1 changed, 1 deleted"
    assert LAYERS[2].empty
    assert LAYERS[1].deleted == ("/etc/group",)


def test_a_run_knows_its_steps() -> None:
    assert repr(RUN) == ("<Run web: client → daemon → images → registry → unionfs → network → launcher → shim → init>")
    assert RUN["network.attach"].duration == 3_100_000
    assert "runtime.exec" in RUN.table()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a headless browser that can import the pictures' modules; it may reach this server and nothing else."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/":
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(
                    b"<!doctype html><link rel=icon href=data:,><link rel=stylesheet href=pictures.css><div id=el>"
                )
            else:
                super().do_GET()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(FOLDER))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
                made = browser.new_page(viewport={"width": 1100, "height": 900})
                made.goto(f"http://127.0.0.1:{server.server_port}/")
                yield made
                browser.close()
        finally:
            server.shutdown()
            thread.join()


def chromium() -> str:
    import shutil

    found = shutil.which("chromium")
    if found is None:
        pytest.skip("needs chromium")
    return found


def draw(page: Page, module: str, picture: dict[str, Any]) -> list[str]:
    """Draw a picture; the requests to anywhere but this server, and the errors, are returned."""
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: None if "127.0.0.1" in request.url else troubles.append(request.url))
    page.evaluate(
        """async ([module, data]) => {
            const widget = (await import(module)).default;
            const model = { get: () => data, on() {}, off() {} };
            const el = document.querySelector("#el");
            const began = performance.now();
            widget.render({ model, el });
            window.took = performance.now() - began;
        }""",
        [f"/{module}", json.loads(json.dumps(picture))],
    )
    return troubles


@pytest.mark.needs("chromium")
def test_the_layer_explorer_opens_filters_and_works_by_keyboard(page: Page) -> None:
    state = {"name": "web", "layers": [layers._state(layer) for layer in LAYERS.layers]}
    assert draw(page, "layers.js", state) == []
    assert page.evaluate("window.took") < 100
    summaries = page.locator(".gd-layer > summary")
    assert summaries.count() == 4
    assert "COPY site" in summaries.first.inner_text()
    summaries.nth(0).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    opened = page.locator(".gd-layer[open]")
    assert "RUN adduser" in opened.inner_text()
    assert opened.locator(".gd-deleted").inner_text() == "− group"
    page.get_by_label("Filter by path").fill("tool123")
    assert page.locator(".gd-file").count() == 1
    assert "tool123" in page.locator(".gd-layer[open] .gd-file").inner_text()


@pytest.mark.needs("chromium")
def test_thirty_thousand_files_are_on_screen_at_once(page: Page) -> None:
    many = [[f"/usr/lib/python/module{n // 100}/file{n}.py", n] for n in range(30_000)]
    row = samples.LAYERS[0] | {"added": many}
    stack = [layers._state(layers._layer(row))]
    assert draw(page, "layers.js", {"name": "big", "layers": stack}) == []
    assert page.evaluate("window.took") < 100
    page.locator(".gd-layer > summary").click()
    page.get_by_text("28500 more").wait_for(timeout=5000)


@pytest.mark.needs("chromium")
def test_the_run_recorder_tells_the_story_by_keyboard_and_pointer(page: Page) -> None:
    state = {"name": "web", "steps": [recorder._state(step) for step in RUN.steps], "colours": recorder.COLOURS}
    assert draw(page, "recorder.js", state) == []
    assert page.evaluate("window.took") < 100
    lanes = page.locator(".gd-lane-name").all_inner_texts()
    assert lanes == ["client", "daemon", "images", "registry", "unionfs", "network", "launcher", "shim", "init"]
    steps, detail = page.get_by_role("option"), page.locator(".gd-detail")
    assert steps.count() == 17
    steps.first.focus()
    page.keyboard.press("ArrowRight")
    assert "client.create" in detail.inner_text()
    page.keyboard.press("End")
    assert "client.wait" in detail.inner_text()
    assert page.locator("[aria-selected=true]").count() == 1
    page.get_by_label("runtime.mounts").click()
    assert "glassdock/runtime/rootfs.py:49" in detail.inner_text()
    assert "mount(overlay, /, MS_NOSUID) = 0" in detail.inner_text()
    widths = [box["width"] for box in (steps.nth(i).bounding_box() for i in (0, 1)) if box]
    assert widths[1] / widths[0] == pytest.approx(9 / 31, rel=0.03)


@pytest.mark.needs("chromium")
def test_reduced_motion_is_respected(page: Page) -> None:
    state = {"name": "web", "layers": [layers._state(layer) for layer in LAYERS.layers]}
    page.emulate_media(reduced_motion="reduce")
    draw(page, "layers.js", state)
    duration = page.evaluate("getComputedStyle(document.querySelector('.gd-bar')).transitionDuration")
    page.emulate_media(reduced_motion="no-preference")
    assert duration == "0s"
