"""A source of a mount that is found inside a folder which somebody hostile may be writing to: part of a volume.

Interface: `Below(root, path, recursive)`, `open_below(text)`: the detached mount that its JSON names.

Rules: the kernel resolves the path inside the root (openat2, RESOLVE_IN_ROOT), and what it found is what is mounted.

Source: open_tree(2), CVE-2021-25741 (for what happens otherwise)
"""

from __future__ import annotations

import os

import msgspec

from glassdock.linux.mount import OpenTree, open_tree
from glassdock.linux.openat2 import open_in_root


class Below(msgspec.Struct, frozen=True):
    """`path` as it is found inside `root`."""

    root: str
    path: str
    recursive: bool = False


def open_below(text: str) -> int:
    """A detached copy of the mount there. Raises OSError."""
    wanted = msgspec.json.decode(text, type=Below)
    root = os.open(wanted.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = open_in_root(root, wanted.path, os.O_PATH)
    finally:
        os.close(root)
    try:
        deep = OpenTree.RECURSIVE if wanted.recursive else OpenTree(0)
        return open_tree(found, "", OpenTree.CLONE | OpenTree.EMPTY_PATH | deep)
    finally:
        os.close(found)
