"""The part of the tree of groups that an ordinary user may work in, and moving out of its way.

Interface:
- `find(layout, own)` → `Place`: `path` of the group under which groups can be made, "" for the whole tree; `reason`
  where there is none.
- `claim(folder)`: hand the controllers of a delegated group down; who is in it moves to a group `engine` inside.
- `own_path()`: the group of version 2 that this process is in.

Rules: version 2 only: version 1 is not delegated safely. systemd gives a unit with `Delegate=yes` its own group, with
the controllers that it has; a login session has none. A group that hands controllers down may hold no process, so all
who are in it move one level down, where systemd still counts them as the unit's.

Sources: https://systemd.io/CGROUP_DELEGATION/, https://docs.kernel.org/admin-guide/cgroup-v2.html#delegation
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass

from glassdock.runtime import cgroup_files as files
from glassdock.runtime.cgroup_files import Layout

ENGINE = "glassdock-engine"
_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where groups can be made, or why nowhere."""

    path: str = ""
    reason: str = ""


def own_path() -> str:
    """The group of version 2 that this process is in, without a slash at its end."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            if line.startswith("0::"):
                return line[3:].strip().rstrip("/")
    return ""


def find(layout: Layout, own: str) -> Place:
    """Where this process can make groups; `own` is its group of version 2."""
    tops = [folder for _, folder, _ in layout.v1] or ([layout.unified] if layout.unified else [])
    if not tops:
        return Place(reason="no cgroup hierarchy is mounted")
    if all(os.access(top, os.W_OK) for top in tops):
        return Place()
    if layout.v1:
        return Place(reason="no cgroup is delegated to this user: this machine has version 1")
    path = os.path.dirname(own) if os.path.basename(own) == ENGINE else own
    folder = layout.unified + path
    if not path or not all(os.access(place, os.W_OK) for place in _needed(folder)):
        return Place(reason="no cgroup is delegated to this user")
    if not files.read(folder, "cgroup.controllers"):
        return Place(reason=f"the cgroup {path} is delegated to this user without any controller")
    return Place(path)


def _needed(folder: str) -> tuple[str, ...]:
    return folder, f"{folder}/cgroup.procs", f"{folder}/cgroup.subtree_control"


def claim(folder: str) -> None:
    """Move all who are in the group one level down. Raises OSError where one cannot be moved."""
    if files.read(folder, "cgroup.subtree_control"):
        return  # it hands controllers down: so nobody is in it
    inner = f"{folder}/{ENGINE}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(inner)
    deadline = time.monotonic() + _PATIENCE
    while found := files.read(folder, "cgroup.procs").split():  # new ones may be forked meanwhile
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                files.write(inner, "cgroup.procs", pid)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(found)} processes do not leave {folder}")
