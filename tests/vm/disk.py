"""The virtual machine's disk: interpreter, virtual environment, shared libraries, busybox, this clone.

Interface: `build(image, modules, folder, extra)`: writes an ext4 image; needs mke2fs, ldd and busybox, no root.

Rules: paths inside are the paths outside, so nothing has to be installed again.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
# Big, and of no use to the tests that run inside.
_LEFT_OUT = ("playwright*", "mypy*", "*__mypyc*", "jupyterlab*", "debugpy*", "babel*", "jedi*", "pip*", "ruff*")
_NOT_STDLIB = ("test", "tests", "idlelib", "site-packages", "dist-packages", "ensurepip", "config-*")
# What the tests take from the machine into a container must be the machine's own, not another name of busybox.
_OWN = ("true", "grep", "ip", "nft")
_NOT_CLONE = (".venv", ".git", "artifacts", ".*_cache", "node_modules")
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")


def build(image: Path, modules: Path, folder: Path, extra: dict[str, str]) -> None:
    """Write the image from a tree that is put together in `folder`; `extra` are further files by name."""
    folder.mkdir(parents=True)
    for name in ("proc", "sys", "dev", "tmp", "run", "root", "var/lib", "etc", "bin", "sbin", "usr/bin", "lib64"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    interpreter = Path(sys.executable).absolute()
    while interpreter.is_symlink():  # each name on the way is a name that something starts it by
        interpreter = interpreter.parent / interpreter.readlink()
        if not interpreter.is_relative_to(CLONE):
            _copy(interpreter, folder)
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    _tree(stdlib, folder, _NOT_STDLIB)
    _tree(CLONE / ".venv", folder, _LEFT_OUT)
    _tree(CLONE, folder, _NOT_CLONE)
    busybox = Path(shutil.which("busybox") or "busybox").resolve()
    _copy(busybox, folder)
    own = [Path(found).resolve() for found in map(shutil.which, _OWN) if found]
    for path in own:
        _copy(path, folder)
        _link(folder / "bin" / path.name, path)
    for applet in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
        _link(folder / "bin" / applet, busybox)
    binaries = [
        interpreter,
        *own,
        *(path for path in folder.rglob("*.so*") if path.is_file() and not path.is_symlink()),
    ]
    for library in _libraries(binaries) | _seccomp():
        _copy(library, folder)
    for path in (Path("/sbin/ldconfig"), Path("/etc/ld.so.cache")):
        if path.exists():
            _copy(path, folder)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (folder / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    for name, text in extra.items():
        (folder / name).write_text(text)
    _tree(modules, folder, (), at=Path("/lib/modules") / modules.name)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", folder, image, "3G"], check=True)


def _link(link: Path, target: Path) -> None:
    if not link.exists() and not link.is_symlink():
        link.symlink_to(target)


def _copy(path: Path, folder: Path) -> None:
    target = folder / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(path.resolve(), target)


def _tree(path: Path, folder: Path, without: Iterable[str], at: Path | None = None) -> None:
    target = folder / (at or path).relative_to("/")
    shutil.copytree(path, target, symlinks=True, ignore=shutil.ignore_patterns(*without), dirs_exist_ok=True)


def _libraries(binaries: Iterable[Path]) -> set[Path]:
    found: set[Path] = set()
    for binary in binaries:
        listed = subprocess.run(["ldd", binary], check=False, capture_output=True, text=True).stdout
        found |= {Path(match) for match in _LIBRARY.findall(listed)}
    return found


def _seccomp() -> set[Path]:
    cache = subprocess.run(["/sbin/ldconfig", "-p"], check=True, capture_output=True, text=True).stdout
    return {Path(line.rsplit("=> ", 1)[1]) for line in cache.splitlines() if "libseccomp.so.2 " in line}
