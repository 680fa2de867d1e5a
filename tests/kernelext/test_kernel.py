"""The magics in a real Glassdock kernel, on a real engine."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from jupyter_client.manager import start_new_async_kernel

from tests.kernelext.conftest import Notebook, errors, shown, stream
from tests.support.daemon import Daemon

DOCKERFILE = """%%dockerfile -t cellmade --build-arg WHO=you
FROM busybox
ARG WHO=me
RUN echo hi $WHO > /hi
ENV A=b
CMD ["cat", "/hi"]"""
SLEEPER = 'trap "exit 0" TERM; echo begun; while :; do sleep 0.1; done'

pytestmark = pytest.mark.needs_root


def test_what_is_made_and_not_started_says_so(notebook: Notebook, engine: Daemon) -> None:
    made, removed = notebook("%container create --replace --name waiting busybox true", "%container rm waiting")
    assert shown(made) == "<Container waiting: created>"
    assert shown(removed) == "removed: waiting"


def test_a_run_streams_its_output_and_is_an_object(notebook: Notebook, engine: Daemon) -> None:
    script = "echo out; echo err >&2; exit 3"
    first, second, third, fourth, last = notebook(
        f"c = %container run --replace --name talker busybox sh -c '{script}'\nc",
        "c.exit_code, c.stdout, c.stderr, c.name, c.status",
        "sorted(c.logs().split())",
        "%container ps -a",
        "%container rm {c}",
    )
    assert stream(first) == "out\n"
    assert "err\n" in stream(first, "stderr")
    assert shown(first) == "<Container talker: exited (3)>"
    assert shown(second) == "(3, 'out\\n', 'err\\n', 'talker', 'exited')"
    assert shown(third) == "['err', 'out']"
    assert "talker" in shown(fourth)
    assert "exited (3)" in shown(fourth)
    assert shown(last) == "removed: talker"
    assert "talker" not in engine.containers().values()


def test_text_and_html_of_a_result_are_the_same_every_time(notebook: Notebook) -> None:
    cells = (
        "%container run --rm busybox echo hi",
        "c = %container run -d --replace --name steady busybox sleep 100\nc",
        "%container ps",
        "%container rm -f steady",
    )
    outputs = notebook(*cells, *cells)
    first, second = outputs[: len(cells)], outputs[len(cells) :]
    for one, two in zip(first[1:], second[1:], strict=True):
        assert [o.get("data") for o in one] == [o.get("data") for o in two]
    assert shown(first[0]) == shown(second[0]) == "<Container of busybox: exited (0)>"


def test_everything_after_the_image_belongs_to_the_container(notebook: Notebook) -> None:
    (outputs,) = notebook("%container run --rm busybox echo --rm -d --name x '{{.Y}}' \"two words\" $HOME")
    assert stream(outputs) == "--rm -d --name x {{.Y}} two words $HOME\n"


def test_the_cell_is_the_containers_input(notebook: Notebook) -> None:
    cell, text = notebook(
        "%%container run --rm busybox sh\necho from the cell", "%container run --rm --stdin abc busybox cat"
    )
    assert stream(cell) == "from the cell\n"
    assert stream(text) == "abc"


@pytest.mark.parametrize(
    ("cell", "kind", "words"),
    [
        ("%container run no-such-image", "", ""),
        ("%container run --bad busybox", "InvalidParameter", "flag: --bad"),
        ("%container run --rm busybox no-such-program", "CommandNotFound", "no-such-program"),
        ("%container run --rm busybox /etc", "CommandNotExecutable", "/etc"),
        ("%container logs no-such-container", "NotFound", "no-such-container"),
        ("%container run --rm busybox {nope}", "InvalidParameter", "{nope}"),
        ("%container run -it busybox sh", "InvalidParameter", "no keyboard"),
        ("%container nope", "InvalidParameter", "unknown command"),
        ("%container run --check --rm busybox false", "GlassdockError", "exit code 1"),
        ("%%dockerfile -t x\nFROM busybox\nRUNN x", "BuildError", "RUNN"),
        ("%%dockerfile -t x\nFROM busybox\nCOPY nope /x", "", "nope"),
        ("%image push", "InvalidParameter", "requires"),
    ],
)
def test_an_error_is_a_card(notebook: Notebook, cell: str, kind: str, words: str) -> None:
    (outputs,) = notebook(cell)
    (error,) = [output for output in outputs if output["output_type"] == "error"]
    if kind:
        assert error["ename"] == kind
    assert words in error["evalue"]
    assert len(error["traceback"]) <= 6
    assert not any("File " in line or "Traceback" in line for line in error["traceback"])


def test_help_comes_three_ways(notebook: Notebook) -> None:
    flag, long, verb, bare = notebook("%container -h", "%container --help", "%container run --help", "%image")
    assert stream(flag) == stream(long)
    assert "Manage containers" in stream(flag)
    assert "--publish" in stream(verb)
    assert "Manage images" in stream(bare)


def test_a_cell_builds_and_runs_an_image(notebook: Notebook) -> None:
    build, again, run, layers, history, _ = notebook(
        "image = %dockerfile --help",
        DOCKERFILE,
        "%container run --rm cellmade",
        "%image layers cellmade",
        "%image history cellmade",
        "%image rm cellmade",
    )
    assert "--build-arg" in stream(build)
    assert stream(again).splitlines()[0] == "[1/5] FROM busybox"
    assert shown(again) == "<Image cellmade:latest>"
    assert stream(run) == "hi you\n"
    assert "RUN" in shown(layers)
    assert "(1 added)" in shown(layers)
    assert "ENV A=b" in shown(history)


def test_a_picture_has_its_widget_and_its_twin(notebook: Notebook) -> None:
    _, layers, run, xray = notebook(
        "%image pull busybox", "%image layers busybox", "c = %container run --rm busybox true", "c.trace()"
    )
    for outputs in (layers, xray):
        (result,) = [output for output in outputs if output["output_type"] == "execute_result"]
        assert set(result["data"]) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert not errors(run)
    actors = shown(xray).removeprefix("<Run of busybox: ").removesuffix(">").split(" → ")
    assert actors[:2] == ["client", "daemon"]
    assert {"network", "shim", "init"} <= set(actors)


def test_the_twins_are_the_same_but_for_times(notebook: Notebook) -> None:
    import re

    _, one, two = notebook("%image pull busybox", *["c = %container run --rm busybox true\nc.trace()"] * 2)

    def twin(outputs: list[dict[str, Any]]) -> str:
        html = next(output["data"]["text/html"] for output in outputs if output["output_type"] == "execute_result")
        html = re.sub(r"\d+\.\d+ ms", "TIME", str(html))
        return re.sub(r"margin-left:[\d.]+%;width:[\d.]+%", "BAR", html)

    assert twin(one) == twin(two)


def test_what_this_kernel_starts_carries_its_label(notebook: Notebook) -> None:
    _, label = notebook(
        "c = %container run -d --replace --name labelled busybox sleep 100",
        "from glassdock_jupyter.magics import LABEL, session_id\n"
        "found = c.inspect()['Config']['Labels'][LABEL]\nc.rm(force=True)\nfound == session_id()",
    )
    assert shown(label) == "True"


def test_status_doctor_networks_and_registry_are_shown(notebook: Notebook) -> None:
    status, doctor, networks, registry, docker = notebook(
        "%engine status", "%engine doctor", "%network ls", "%registry", "%docker version"
    )
    assert "is running" in shown(status)
    assert "isolation" in shown(doctor)
    assert "bridge" in shown(networks)
    assert "library/busybox" in shown(registry)
    assert "Server: " in shown(docker)


def test_an_interrupt_stops_the_container_and_says_so_in_one_line(
    engine: Daemon, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in engine.env.items():
        monkeypatch.setenv(name, value)

    async def interrupted() -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        manager, client = await start_new_async_kernel(kernel_name=kernel, env=dict(os.environ))

        interrupts: list[asyncio.Future[Any]] = []

        def seen(message: dict[str, Any]) -> None:
            messages.append(message)
            if "begun" in message["content"].get("text", ""):
                interrupts.append(asyncio.ensure_future(manager.interrupt_kernel()))

        try:
            cell = f"%container run --rm --name sleeper busybox sh -c '{SLEEPER}'"
            await client.execute_interactive(cell, output_hook=seen, timeout=60)
        finally:
            client.stop_channels()
            await manager.shutdown_kernel()
        return messages

    messages = asyncio.run(interrupted())
    texts = "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")
    (error,) = [m["content"] for m in messages if m["msg_type"] == "error"]
    assert "Interrupted: the container sleeper was stopped." in texts
    assert error["ename"] == "KeyboardInterrupt"
    assert len(error["traceback"]) == 1
    assert "sleeper" not in engine.containers().values()
