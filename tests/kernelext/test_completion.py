"""Completion in magics."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from tests.support.daemon import Daemon


def completed(shell: InteractiveShell, text: str) -> list[str]:
    """What is offered at the end of `text`, as the whole words that would stand there."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(text, len(text)))
    return [text[item.start :][:0] + item.text for item in found]


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("%container ", {"run", "ls", "logs", "stop", "rm"}),
        ("%container st", {"start", "stop"}),
        ("c = %container r", {"rm", "run"}),
        ("%image ", {"pull", "push", "layers", "history"}),
        ("%engine ", {"doctor", "status"}),
        ("%docker ", {"run", "ps", "build", "container"}),
        ("%container run --na", {"--name"}),
        ("%container run --network-", {"--network-alias"}),
        ("%%dockerfile --bu", {"--build-arg"}),
        ("%%container run --rea", {"--read-only"}),
    ],
)
def test_verbs_and_flags_are_offered(shell: InteractiveShell, text: str, offered: set[str]) -> None:
    assert offered <= set(completed(shell, text))


@pytest.mark.parametrize(
    ("text", "offered"),
    [("%%dockerfile -t x\nFR", ["FROM"]), ("%%dockerfile -t x\nFROM busybox\nE", ["ENTRYPOINT", "ENV", "EXPOSE"])],
)
def test_instructions_are_offered_in_a_dockerfile(shell: InteractiveShell, text: str, offered: list[str]) -> None:
    assert completed(shell, text) == offered


def test_pythons_names_are_kept_out(shell: InteractiveShell) -> None:
    shell.user_ns["runner"] = 1
    assert "runner" not in completed(shell, "%container ru")


def test_python_is_completed_as_ever(shell: InteractiveShell) -> None:
    shell.user_ns["runner"] = 1
    assert "runner" in completed(shell, "runn")


def test_an_engine_that_does_not_run_is_not_started(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, short_tmp: Path
) -> None:
    monkeypatch.setenv("GLASSDOCK_HOST", f"{short_tmp}/e.sock")
    assert completed(shell, "%container logs ") == [""]
    assert not (short_tmp / "e.sock").exists()


def test_live_containers_and_images_are_offered(
    shell: InteractiveShell, engine: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSDOCK_HOST", engine.env["GLASSDOCK_HOST"])
    engine.docker("pull", "busybox")
    engine.docker("create", "--name", "completed", "busybox")
    try:
        assert completed(shell, "%container logs com") == ["completed"]
        assert "busybox" in completed(shell, "%container run bus")
        assert "busybox" in completed(shell, "%%dockerfile -t x\nFROM bus")
        assert "bridge" in completed(shell, "%container run --network br")
        engine.sdk.volumes.create("completed")
        try:
            assert "completed" in completed(shell, "%volume rm compl")
            assert "completed:" in completed(shell, "%container run -v compl")
        finally:
            engine.sdk.volumes.get("completed").remove()
    finally:
        engine.docker("rm", "completed")
