"""Which users and groups this process can name: the id map of its user namespace.

Interface:
- `mapping()`: the `Mapping` of this process' user namespace, read once; `.kind` is `initial`, `range` or `single`.
- `has_uid(n)`, `has_gid(n)`: whether a file or a process can belong to that id here.
- `initial()`: whether this is the machine's own namespace, where root is root.
- `reread()`: for whoever has entered another user namespace.

Rules: whoever does something else for an ordinary user asks here; nobody is told a mode. A process that is forked
into a container's user namespace goes on with the answer of its parent: the engine's namespace.

Sources: user_namespaces(7), https://github.com/torvalds/linux/blob/master/include/linux/proc_ns.h
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

_FIRST_NAMESPACE = 0xEFFFFFFD  # PROC_USER_INIT_INO: the number of the one that was there when the machine started


@dataclass(frozen=True, slots=True)
class Extent:
    """`count` ids from `inside` on are the ids from `outside` on of the namespace around this one."""

    inside: int
    outside: int
    count: int

    def __contains__(self, number: int) -> bool:
        return self.inside <= number < self.inside + self.count


@dataclass(frozen=True, slots=True)
class Mapping:
    """`initial`: every id; `range`: some; `single`: one user, one group. `setgroups`: whether that call is allowed."""

    kind: str
    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]
    setgroups: bool = True

    @classmethod
    def read(cls, proc: str | os.PathLike[str] = "/proc/self") -> Mapping:
        """The map of the process that `proc` is the folder of; raises OSError."""
        uids, gids = _extents(f"{proc}/uid_map"), _extents(f"{proc}/gid_map")
        if os.stat(f"{proc}/ns/user").st_ino == _FIRST_NAMESPACE:
            kind = "initial"
        else:
            kind = "range" if sum(extent.count for extent in uids) > 1 else "single"
        with open(f"{proc}/setgroups", encoding="utf-8") as file:
            return cls(kind, uids, gids, file.read().strip() == "allow")

    def has_uid(self, number: int) -> bool:
        """Whether the user is mapped."""
        return any(number in extent for extent in self.uids)

    def has_gid(self, number: int) -> bool:
        """Whether the group is mapped."""
        return any(number in extent for extent in self.gids)


@functools.cache
def mapping() -> Mapping:
    """The map of this process' user namespace."""
    return Mapping.read()


def reread() -> Mapping:
    """The map of the user namespace that this process has just entered."""
    mapping.cache_clear()
    return mapping()


def initial() -> bool:
    """Whether this is the machine's own user namespace."""
    return mapping().kind == "initial"


def has_uid(number: int) -> bool:
    """Whether a file or a process can belong to this user here."""
    return mapping().has_uid(number)


def has_gid(number: int) -> bool:
    """Whether a file or a process can belong to this group here."""
    return mapping().has_gid(number)


def _extents(path: str) -> tuple[Extent, ...]:
    with open(path, encoding="utf-8") as file:
        rows = [map(int, line.split()) for line in file]
    return tuple(Extent(inside, outside, count) for inside, outside, count in rows)
