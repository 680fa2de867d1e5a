"""Where in a container's groups one more program begins: `exec --cgroup`, for some controllers or for all.

Interface: `inner(path, words)` → the `Cgroup` to enter, below the container's at `path`; a word is
`[CONTROLLER,...:]PATH`. Raises InvalidParameter for what is not there or lies above.

Rules: only version 1 has a tree for each controller; in version 2 there is one path, and the last word counts.

Source: runc-exec(8)
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from glassdock.errors import InvalidParameter
from glassdock.runtime import cgroup_files as files
from glassdock.runtime import cgroups
from glassdock.runtime.cgroup_files import Layout
from glassdock.runtime.cgroups import Cgroup


class Places:
    """Groups of version 1 that need not have the same path in every hierarchy."""

    def __init__(self, folders: Sequence[tuple[str, str]]) -> None:
        self._folders = folders

    def descriptor(self) -> int:
        """-1: a clone cannot begin in a group of version 1."""
        return -1

    def enter(self) -> None:
        """Put the caller into all of them; raises OSError."""
        for folder, file in self._folders:
            files.write(folder, file, 0)


def inner(path: str, words: Sequence[str]) -> Cgroup | Places:
    """The groups that the words name, or the container's own."""
    layout = cgroups.layout()
    below = [_split(word) for word in words]
    if layout.v1 and any(controllers for controllers, _ in below):
        return _apart(path, below, layout)
    if any(controllers for controllers, _ in below):
        raise InvalidParameter("cgroup version 2 has one tree: leave the controllers of --cgroup out")
    group = cgroups.open_cgroup("/".join([path, *below[-1][1]]) if below else path)
    if not group.exists():
        raise _missing(group.path)
    return group


def _split(word: str) -> tuple[list[str], list[str]]:
    controllers, _, below = word.rpartition(":")
    parts = [part for part in below.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidParameter(f"bad sub cgroup path: {below}")
    return [name for name in controllers.split(",") if name], parts


def _apart(path: str, below: list[tuple[list[str], list[str]]], layout: Layout) -> Places:
    found = {top: top + path for _, top, _ in layout.v1}
    for controllers, parts in below:
        tops = [_top(layout, name) for name in controllers] or list(found)
        found.update({top: "/".join([top + path, *parts]) for top in tops})
    for folder in found.values():
        if not os.path.isdir(folder):
            raise _missing(folder)
    beside = f"{layout.unified}{path}"
    also = [(beside, "cgroup.procs")] if layout.unified and os.path.isdir(beside) else []
    return Places([*((folder, "tasks") for folder in found.values()), *also])


def _top(layout: Layout, controller: str) -> str:
    for _, top, words in layout.v1:
        if controller in words:
            return top
    raise InvalidParameter(f"unknown controller {controller} in --cgroup")


def _missing(folder: str) -> InvalidParameter:
    return InvalidParameter(f"adding pid to cgroups: {folder}: no such file or directory")
