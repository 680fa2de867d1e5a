"""New file systems for a container, attached nowhere yet, or the machine's where the kernel gives this user none.

Interface:
- `new(kind, source, data, attributes)`: a descriptor of a mount of a new file system.
- `for_container(...)`: the same with what a user namespace changes: ids that are not mapped, and what only the owner of
  a network, IPC or PID namespace may mount.

Rules: what is not the container's own is told as a warning, never passed off as it.

Sources: fsopen(2), mount_namespaces(7), https://docs.kernel.org/filesystems/proc.html
"""

from __future__ import annotations

import os

from glassdock.linux import ids
from glassdock.linux import mount as linux
from glassdock.linux.mount import AT_FDCWD, MountAttr, MountFlag, OpenTree
from glassdock.runtime.stage import Stage

# Where the machine has what the kernel may refuse to make anew.
_MACHINES = {"proc": "/proc", "sysfs": "/sys", "mqueue": "/dev/mqueue"}

Data = tuple[tuple[str, str], ...]


def new(kind: str, source: str, data: Data, attributes: MountAttr) -> int:
    """A descriptor of a mount of a new file system. Raises OSError."""
    context = linux.fsopen(kind)
    try:
        linux.fsconfig_string(context, "source", source)
        for key, value in data:
            if value:
                linux.fsconfig_string(context, key, value)
            else:
                linux.fsconfig_flag(context, key)
        linux.fsconfig_create(context)
        return linux.fsmount(context, attributes)
    finally:
        os.close(context)


def for_container(kind: str, source: str, data: Data, attributes: MountAttr, stage: Stage) -> int:
    """A new file system, or the machine's where that is refused to an ordinary user. Raises OSError."""
    if kind == "devpts":
        data = tuple((key, value) for key, value in data if key != "gid" or ids.has_gid(int(value)))
    try:
        return new(kind, source, data, attributes)
    except PermissionError:
        # A child in reserve has the scaffold over /sys: it fails, and one is made when it is asked for.
        if ids.initial() or kind not in _MACHINES or stage.scaffold >= 0:
            raise
    there = _MACHINES[kind]
    tree = linux.open_tree(AT_FDCWD, there, OpenTree.CLONE | OpenTree.RECURSIVE)
    linux.mount_setattr(tree, add=attributes, propagation=MountFlag.PRIVATE, recursive=True)
    stage.warnings.append(f"the container sees the machine's {there}: the kernel gives this user no other")
    return tree
