"""The running Python as files for an image: program, standard library, extension modules.

Interface:
- `add(files)`: put it under /usr/local; returns the files whose shared libraries are needed, too, and the last step.
- `version()`: three numbers.

Rules: it works for an interpreter in a folder of its own (pyenv, uv, conda), for the distribution's (Debian's, whose
files are spread over /usr/lib) and from inside a virtual environment, whose base is taken. Left out: tests, Tk, IDLE,
installers, headers, installed packages. Modules are compiled ahead, so that importing one in a container writes nothing
into its layer; they are compiled in a fresh process with a fixed hash seed, which makes the same bytes each time.

Source: https://docs.python.org/3/library/sysconfig.html, PEP 552 (the unchecked form)
"""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

from glassdock.errors import GlassdockError
from glassdock.images.assembly import Assembly

_LEFT_OUT = {
    *("test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data", "__pycache__"),
    *("site-packages", "dist-packages", "__phello__", "turtle.py", "sitecustomize.py", "EXTERNALLY-MANAGED"),
}
_PATTERNS = ("config-*", "_test*", "_xxtest*", "xxlimited*", "_ctypes_test*", "_tkinter*", "*.a", "*.pyc", "*.exe")
# `optimize=0` and the path in the image; the invalidation mode keeps times out of the file.
_COMPILE = """
import json, py_compile, sys
for source, target, shown in json.load(sys.stdin):
    try:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(source, target, shown, doraise=True, optimize=0, invalidation_mode=mode)
    except py_compile.PyCompileError:
        pass
"""


def version() -> tuple[int, int, int]:
    """Of the running interpreter."""
    return sys.version_info[0], sys.version_info[1], sys.version_info[2]


def add(files: Assembly) -> tuple[list[Path], Callable[[], None]]:
    """Put program and library into `files`.

    Returns the program and the extension modules, and what adds the compiled modules (two seconds) when it is called.
    """
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    program = Path(os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable))
    files.file(f"usr/local/bin/{name}", program, 0o755)
    files.symlink("usr/local/bin/python3", name)
    files.symlink("usr/local/bin/python", "python3")
    target = f"usr/local/{sys.platlibdir}/{name}"
    found: dict[str, Path] = {}
    for key in ("stdlib", "platstdlib"):
        folder = sysconfig.get_path(key) or os.path.dirname(os.__file__)
        for relative, path in _modules(Path(folder)):
            found.setdefault(relative, path)
    for relative, path in found.items():
        files.file(f"{target}/{relative}", path, 0o755 if relative.endswith(".so") else 0o644)
    files.folder(f"{target}/site-packages")
    sources = {relative: path for relative, path in found.items() if relative.endswith(".py")}
    programs = [program, *(path for relative, path in found.items() if ".so" in relative)]
    return programs, lambda: _compiled(files, target, sources)


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """The library's files that the image needs, by their path in it; symlinks lead to what they mean."""
    found = []
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_left_out(name))
        for name in sorted(names):
            path = Path(top, name)
            if not _is_left_out(name) and path.is_file():
                found.append((str(path.relative_to(folder)), path))
    return found


def _is_left_out(name: str) -> bool:
    return name in _LEFT_OUT or any(fnmatch.fnmatchcase(name, pattern) for pattern in _PATTERNS)


def _compiled(files: Assembly, target: str, sources: dict[str, Path]) -> None:
    """Add a `.pyc` for each module."""
    tag = sys.implementation.cache_tag
    with tempfile.TemporaryDirectory(prefix="glassdock-pyc-") as scratch:
        jobs = []
        for number, (relative, path) in enumerate(sorted(sources.items())):
            above, name = os.path.split(relative)
            inside = os.path.join(target, above, "__pycache__", f"{name.removesuffix('.py')}.{tag}.pyc")
            jobs.append((str(path), f"{scratch}/{number}.pyc", f"/{target}/{relative}", inside))
        halves = (jobs[::2], jobs[1::2])
        running = [_start([job[:3] for job in half]) for half in halves]
        for process in running:
            if process.wait() != 0:
                raise GlassdockError("the standard library for the python image cannot be compiled")
        for _, made, _, inside in jobs:
            if os.path.exists(made):
                files.text(inside, Path(made).read_bytes())


def _start(jobs: list[tuple[str, ...]]) -> subprocess.Popen[bytes]:
    """Compile in a process of its own: what else is loaded shows in the bytes that marshal writes."""
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(jobs).encode())
        file.seek(0)
        command = [sys.executable, "-S", "-B", "-W", "ignore", "-c", _COMPILE]
        return subprocess.Popen(command, stdin=file, env={**os.environ, "PYTHONHASHSEED": "0"}, cwd="/")
