"""The options of a mount in the specification, taken apart.

Interface: `parse(options)` → `Options`: attributes to add and to clear, propagation, and the file system's own data.
`known()`: the words that have a meaning here.

Source: https://github.com/opencontainers/runtime-spec/blob/main/config.md#linux-mount-options
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from glassdock.errors import InvalidParameter
from glassdock.linux.mount import MountAttr, MountFlag

_ADD = {
    "ro": MountAttr.RDONLY,
    "nosuid": MountAttr.NOSUID,
    "nodev": MountAttr.NODEV,
    "noexec": MountAttr.NOEXEC,
    "nodiratime": MountAttr.NODIRATIME,
    "nosymfollow": MountAttr.NOSYMFOLLOW,
}
_CLEAR = {
    "rw": MountAttr.RDONLY,
    "suid": MountAttr.NOSUID,
    "dev": MountAttr.NODEV,
    "exec": MountAttr.NOEXEC,
    "diratime": MountAttr.NODIRATIME,
    "symfollow": MountAttr.NOSYMFOLLOW,
}
_TIMES = {
    "noatime": MountAttr.NOATIME,
    "strictatime": MountAttr.STRICTATIME,
    "relatime": MountAttr(0),
}
_PROPAGATION = {
    "private": MountFlag.PRIVATE,
    "slave": MountFlag.SLAVE,
    "shared": MountFlag.SHARED,
    "unbindable": MountFlag.UNBINDABLE,
}
_IGNORED = {"defaults", "async", "atime", "nomand", "norelatime", "nostrictatime", "silent", "loud", "z", "Z"}
SUBPATH = "x-glassdock.subpath"  # of a bind: only this path below the source, whoever writes there meanwhile
_REFUSED = {"tmpcopyup", "remount", "mand", "iversion"}


@dataclass(frozen=True, slots=True)
class Options:
    """What the words mean. `data` are (key, value) for the file system; an empty value is a flag.

    `shift` is idmap, ridmap or nothing.
    """

    add: MountAttr = MountAttr(0)
    clear: MountAttr = MountAttr(0)
    recursive_add: MountAttr = MountAttr(0)
    propagation: MountFlag = MountFlag.PRIVATE
    propagate_below: bool = True
    bind: bool = False
    recursive: bool = False
    data: tuple[tuple[str, str], ...] = ()
    shift: str = ""


def known() -> set[str]:
    """The words that `parse` understands; others are the file system's own."""
    recursive = {f"r{word}" for word in (*_ADD, *_PROPAGATION)}
    return {*_ADD, *_CLEAR, *_TIMES, *_PROPAGATION, *_IGNORED, *recursive, "bind", "rbind", "idmap", "ridmap"}


def propagation(word: str) -> tuple[MountFlag, bool]:
    """`rprivate` → (PRIVATE, True). Raises InvalidParameter for another word."""
    bare = word[1:] if word[:1] == "r" and word[1:] in _PROPAGATION else word
    if bare not in _PROPAGATION:
        raise InvalidParameter(f"unknown propagation {word!r}", "Choose [r]private, [r]slave, [r]shared.")
    return _PROPAGATION[bare], bare != word


@functools.lru_cache(maxsize=256)
def parse(options: tuple[str, ...]) -> Options:
    """Take the words apart; raises InvalidParameter for one that this engine cannot keep."""
    add = clear = below = MountAttr(0)
    spread, deep, bind, recursive = MountFlag.PRIVATE, True, False, False
    data: list[tuple[str, str]] = []
    shift = ""
    for word in options:
        if word in _ADD:
            add, clear = add | _ADD[word], clear & ~_ADD[word]
        elif word in _CLEAR:
            clear, add = clear | _CLEAR[word], add & ~_CLEAR[word]
        elif word in _TIMES:
            add, clear = (add & ~MountAttr.ATIME) | _TIMES[word], clear | MountAttr.ATIME
        elif word[:1] == "r" and word[1:] in _ADD:
            below |= _ADD[word[1:]]
        elif word in ("bind", "rbind"):
            bind, recursive = True, word == "rbind"
        elif word in ("idmap", "ridmap"):
            shift = word
        elif word in _PROPAGATION or word[1:] in _PROPAGATION:
            spread, deep = propagation(word)
        elif word in _REFUSED:
            raise InvalidParameter(f"mount option {word!r} is not supported")
        elif word and word not in _IGNORED:
            key, _, value = word.partition("=")
            data.append((key, value))
    return Options(add, clear, below, spread, deep, bind, recursive, tuple(data), shift)
