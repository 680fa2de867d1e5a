"""Loading and unloading the extension."""

from __future__ import annotations

import subprocess
import sys

from IPython.core.interactiveshell import InteractiveShell

from glassdock_jupyter import load_ipython_extension, unload_ipython_extension
from glassdock_jupyter.magics import GlassdockMagics

NAMES = ("container", "image", "network", "engine", "registry", "docker", "xray", "dockerfile", "exercise", "source")

PROGRAM = """
import sys, time
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell(config=config)
began = time.perf_counter()
shell.run_line_magic("load_ext", "glassdock_jupyter")
took = time.perf_counter() - began
heavy = [name for name in ("docker", "requests", "click", "anywidget", "ipywidgets", "rich") if name in sys.modules]
print(took, *heavy)
"""


def test_loading_takes_at_most_150_ms_and_imports_nothing_heavy() -> None:
    took = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
        seconds, *heavy = done.stdout.split()
        assert heavy == []
        took.append(float(seconds))
    assert min(took) < 0.15, took


def test_unloading_undoes_everything(bare: InteractiveShell) -> None:
    shell = bare
    before = {kind: set(names) for kind, names in shell.magics_manager.magics.items()}
    matchers = list(shell.Completer.custom_matchers)
    configurables = list(shell.configurables)
    load_ipython_extension(shell)
    assert set(NAMES) <= set(shell.magics_manager.magics["line"])
    unload_ipython_extension(shell)
    assert {kind: set(names) for kind, names in shell.magics_manager.magics.items()} == before
    assert shell.Completer.custom_matchers == matchers
    assert shell.configurables == configurables


def test_every_magic_has_help_that_names_its_verbs(shell: InteractiveShell) -> None:
    from glassdock.cli import main

    groups = {"container": main._CONTAINER, "image": main._IMAGE, "network": main._NETWORK, "engine": main._ENGINE}
    for name in NAMES:
        text = getattr(GlassdockMagics, name).__doc__
        assert text
        for verb in groups.get(name, {}):
            assert verb in text or (name, verb) == ("container", "ls"), (name, verb)


def test_the_host_can_be_chosen_by_config(shell: InteractiveShell) -> None:
    shell.run_line_magic("config", "GlassdockMagics.host = 'unix:///nowhere/e.sock'")
    magics = shell.magics_manager.registry["GlassdockMagics"]
    assert magics.session.address == "unix:///nowhere/e.sock"
