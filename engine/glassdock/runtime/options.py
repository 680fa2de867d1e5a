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
# Without a say of their own: what is left is the default, relatime.
_USUAL_TIMES = {"atime", "norelatime", "nostrictatime"}
_IGNORED = {"defaults", "async", "nomand", "silent", "loud", "z", "Z"} | _USUAL_TIMES
SUBPATH = "x-glassdock.subpath"  # of a bind: only this path below the source, whoever writes there meanwhile
_REFUSED = {"remount", "mand", "iversion"}


@dataclass(frozen=True, slots=True)
class Options:
    """What the words mean. `data` are (key, value) for the file system; an empty value is a flag.

    `shift` is idmap, ridmap or nothing. `recursive_add` and `recursive_clear` are for all mounts below as well (rro).
    With `copy_up` a tmpfs begins with what it covers.
    """

    add: MountAttr = MountAttr(0)
    clear: MountAttr = MountAttr(0)
    recursive_add: MountAttr = MountAttr(0)
    recursive_clear: MountAttr = MountAttr(0)
    propagation: MountFlag = MountFlag.PRIVATE
    propagate_below: bool = True
    bind: bool = False
    recursive: bool = False
    data: tuple[tuple[str, str], ...] = ()
    shift: str = ""
    copy_up: bool = False


def known() -> set[str]:
    """The words that `parse` understands; others are the file system's own."""
    recursive = {f"r{word}" for word in (*_ADD, *_CLEAR, *_TIMES, *_USUAL_TIMES, *_PROPAGATION)}
    own = {"bind", "rbind", "idmap", "ridmap", "tmpcopyup"}
    return {*_ADD, *_CLEAR, *_TIMES, *_PROPAGATION, *_IGNORED, *recursive, *own}


def propagation(word: str) -> tuple[MountFlag, bool]:
    """`rprivate` → (PRIVATE, True). Raises InvalidParameter for another word."""
    bare = word[1:] if word[:1] == "r" and word[1:] in _PROPAGATION else word
    if bare not in _PROPAGATION:
        raise InvalidParameter(f"unknown propagation {word!r}", "Choose [r]private, [r]slave, [r]shared.")
    return _PROPAGATION[bare], bare != word


@functools.lru_cache(maxsize=256)
def parse(options: tuple[str, ...]) -> Options:
    """Take the words apart; raises InvalidParameter for one that this engine cannot keep."""
    here = below = (MountAttr(0), MountAttr(0))
    spread, deep, bind, recursive, copy_up = MountFlag.PRIVATE, True, False, False, False
    data: list[tuple[str, str]] = []
    shift = ""
    for word in options:
        if word in _ADD or word in _CLEAR or word in _TIMES:
            here = _attribute(word, *here)
        elif word[:1] == "r" and (word[1:] in _ADD or word[1:] in _CLEAR or word[1:] in _TIMES):
            below = _attribute(word[1:], *below)
        elif word[:1] == "r" and word[1:] in _USUAL_TIMES:
            below = _attribute("relatime", *below)
        elif word == "tmpcopyup":
            copy_up = True
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
    return Options(*here, *below, spread, deep, bind, recursive, tuple(data), shift, copy_up)


def _attribute(word: str, add: MountAttr, clear: MountAttr) -> tuple[MountAttr, MountAttr]:
    """What is to be added and cleared, with one more word; the last one counts."""
    if word in _ADD:
        return add | _ADD[word], clear & ~_ADD[word]
    if word in _CLEAR:
        return add & ~_CLEAR[word], clear | _CLEAR[word]
    return (add & ~MountAttr.ATIME) | _TIMES[word], clear | MountAttr.ATIME
