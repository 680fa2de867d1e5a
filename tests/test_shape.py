"""The shape of the code: what a reader can rely on in every file.

Rules: these are the house rules of CONTRIBUTING.md that no linter knows. An exception is listed with its reason.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tree import ROOT, files, modules, name, tracked

LONGEST_FILE = 450
LONGEST_FUNCTION = 60
LONG_FILES = {
    "engine/glassdock/containers/manager.py": "the verbs of a container share one state",
    "tests/registry/test_client.py": "every way in which a registry can fail, side by side",
}
LONG_FUNCTIONS = {
    "engine/glassdock/daemon/system.py:info": "one JSON document, field by field",
}

TOP_LEVEL = {
    *("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile"),
    *(".ci", ".gitignore", ".pre-commit-config.yaml"),
    *("engine", "kernelext", "notebooks", "exercises", "tests", "binder"),
}

# What a process that forks containers must not carry: threads and event loops (fork copies only one thread), and
# whatever makes a shim bigger or a start slower.
HEAVY = (
    *("asyncio", "aiohttp", "ssl", "http.client", "concurrent.futures", "multiprocessing", "email"),
    *("pyroute2", "docker", "requests", "click", "rich", "IPython", "zstandard", "filelock"),
    *("glassdock.daemon", "glassdock.client", "glassdock.containers", "glassdock.network", "glassdock.registry"),
    *("glassdock.images", "glassdock.build", "glassdock.engine"),
)

# Here the interface is a table elsewhere: of routes, of commands, of system calls.
TABLES = ("engine/glassdock/daemon/", "engine/glassdock/cli/", "engine/glassdock/linux/")

SOURCES = modules("engine/", "kernelext/")
EVERYTHING = modules("engine/", "kernelext/", "tests/")


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", EVERYTHING, ids=name)
def test_a_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    text = ast.get_docstring(tree)
    assert text, "a module begins with a docstring: what it is, in one sentence"
    first = text.split("\n\n")[0].rstrip()
    assert first.endswith((".", "?")), f"the first paragraph is a sentence: {first!r}"
    if path in SOURCES and any(not function.name.startswith("_") for function in _functions(tree)):
        sections = set(re.findall(r"^(Interface|Rules|Sources?)\b", text, re.MULTILINE))
        assert sections, "the docstring gives the interface, the rules or the source"
        if not name(path).startswith(TABLES):
            assert "Interface" in sections, "the docstring lists the interface"


@pytest.mark.parametrize("path", EVERYTHING, ids=name)
def test_a_file_fits_one_sitting_and_a_function_one_screen(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= LONGEST_FILE or name(path) in LONG_FILES, f"{lines} lines"
    long = {
        f"{name(path)}:{function.name}": function.end_lineno - function.lineno + 1
        for function in _functions(ast.parse(text))
        if function.end_lineno and function.end_lineno - function.lineno >= LONGEST_FUNCTION
    }
    assert not {key: size for key, size in long.items() if key not in LONG_FUNCTIONS}


def test_only_linux_touches_ctypes() -> None:
    users = {name(path) for path in SOURCES if "ctypes" in _imports(path)}
    assert {user for user in users if not user.startswith("engine/glassdock/linux/")} == set()


def test_only_network_speaks_netlink() -> None:
    users = {name(path) for path in SOURCES if "pyroute2" in _imports(path)}
    assert {user for user in users if not user.startswith("engine/glassdock/network/")} == set()


def test_nothing_below_the_command_line_prints() -> None:
    printing = [
        f"{name(path)}:{node.lineno}"
        for path in modules("engine/glassdock/")
        if not name(path).startswith("engine/glassdock/cli/")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_the_launcher_is_light() -> None:
    code = "import sys, glassdock.runtime.launcher; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {module for module in HEAVY if module in loaded} == set()


def test_the_top_level_holds_what_the_design_lists() -> None:
    found = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert found - TOP_LEVEL == set()
    assert TOP_LEVEL - found == set()


def test_the_tree_names_no_machine_and_no_package_index() -> None:
    # Written so that this file does not contain what it looks for.
    forbidden = re.compile(
        r"/wor[k]/(main|shared)|/root/[.]py[e]nv|--(extra-)?inde[x]-url"
        r"|https?://[^\s\"'`)]*(p[y]pi[.]|pythonhoste[d]|registry[.]n[p]mjs|de[b][.]debian)"
    )
    found = []
    for path in files():
        if path.suffix in (".png", ".ico", ".woff2"):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if match := forbidden.search(line):
                found.append(f"{name(path)}:{number}: {match.group()}")
    assert found == []


def test_the_lock_pins_every_requirement_by_hash() -> None:
    text = (ROOT / ".ci/requirements.lock").read_text()
    requirements = text.replace("\\\n", " ").splitlines()
    assert requirements
    loose = [line for line in requirements if "==" not in line or "--hash=sha256:" not in line]
    assert loose == []


def test_every_tool_exception_has_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^ignore = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert block
    assert [line for line in block.group(1).splitlines() if "#" not in line] == []
