"""The files of the project, as the tests of shape see them.

Interface:
- `ROOT`: the top of the clone. `files(*suffixes)`: what git tracks or would track, without what .gitignore names;
  `tracked()`: only what it tracks.
- `modules(*folders)`: the Python files under these folders. `name(path)`: a path as messages show it.
"""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def _listed(*options: str) -> tuple[Path, ...]:
    # The clone may belong to somebody else: a user's, tested with sudo.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", *options, "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return tuple(path for line in sorted(listed.split("\0")) if line and (path := ROOT / line).is_file())


def tracked() -> tuple[Path, ...]:
    """The files under version control."""
    return _listed()


def files(*suffixes: str) -> list[Path]:
    """Files whose name ends in one of `suffixes` (all without any)."""
    found = _listed("--cached", "--others", "--exclude-standard")
    return [path for path in found if not suffixes or path.name.endswith(suffixes)]


def modules(*folders: str) -> list[Path]:
    """Python files under the named folders of the clone."""
    return [path for path in files(".py") if path.is_relative_to(ROOT) and name(path).startswith(folders)]


def name(path: Path) -> str:
    """`path` from the top of the clone."""
    return path.relative_to(ROOT).as_posix()
