"""Names of users and groups, and symbolic modes: what `--chown` and `--chmod` mean in a root.

Interface:
- `owner(root, text)`: (uid, gid) of `user[:group]`, names looked up in the root's own /etc.
- `mode(text)`: a function from a file's mode to its new one, for `755` and for `u=rwX,go=rX`.

Rules: a number needs no look-up; a number alone is the group's too; a name alone brings its own group. The files are
read inside the root, never the machine's. Errors are ValueError.
Source: https://docs.docker.com/reference/dockerfile/#copy---chown, chmod(1p)
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable

from glassdock.linux.openat2 import open_in_root

_LARGEST = 1 << 20  # more of /etc/passwd is not read
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]+|[ugo]|))+)")


def owner(root: int, text: str) -> tuple[int, int]:
    """The ids of `user`, `user:group` or `:group`; each a name or a number."""
    user, _, group = text.partition(":")
    uid = gid = 0
    if user.isdigit():
        uid = gid = int(user)
    elif user:
        found = _find(root, "etc/passwd", user)
        if found is None:
            raise ValueError(f"unable to convert uid/gid chown string to host mapping: can't find uid for user {user}")
        uid, gid = int(found[2]), int(found[3])
    if group.isdigit():
        gid = int(group)
    elif group:
        found = _find(root, "etc/group", group)
        if found is None:
            raise ValueError(
                f"unable to convert uid/gid chown string to host mapping: can't find gid for group {group}"
            )
        gid = int(found[2])
    return uid, gid


def _find(root: int, path: str, name: str) -> list[str] | None:
    """The first well-formed line of the file for that name."""
    try:
        with os.fdopen(open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            lines = file.read(_LARGEST).decode(errors="replace").splitlines()
    except OSError:
        return None  # a root without the file has no such user
    for line in lines:
        fields = line.split(":")
        if (
            fields[0] == name
            and len(fields) > 3 - (path == "etc/group")
            and all(field.isdigit() for field in fields[2 : 4 - (path == "etc/group")])
        ):
            return fields
    return None


def mode(text: str) -> Callable[[int], int]:
    """What the mode does to `st_mode`; the result are its twelve permission bits."""
    if text[:1].isdigit():
        if not re.fullmatch("[0-7]{1,5}", text) or int(text, 8) > 0o7777:
            raise ValueError(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
        return lambda _: int(text, 8)
    clauses = text.split(",")
    if not all(_CLAUSE.fullmatch(clause) for clause in clauses):
        raise ValueError(f"invalid chmod parameter: '{text}'. it should be like u=rwX,go=rX or 755")

    def change(old: int) -> int:
        bits = stat.S_IMODE(old)
        for clause in clauses:
            bits = _apply(clause, bits, directory=stat.S_ISDIR(old))
        return bits

    return change


def _apply(clause: str, bits: int, *, directory: bool) -> int:
    who, actions = _CLAUSE.fullmatch(clause).groups()  # type: ignore[union-attr]  # mode() has checked it
    classes = "ugo" if not who or "a" in who else who
    mask = sum({"u": 0o4700, "g": 0o2070, "o": 0o0007}[one] for one in set(classes)) | (
        0o1000 if len(set(classes)) == 3 else 0
    )
    for operator, what in re.findall(r"([-+=])([ugo]|[rwxXst]*)", actions):
        value = _permissions(what, bits, directory=directory) & mask
        if operator == "+":
            bits |= value
        elif operator == "-":
            bits &= ~value
        else:
            keep = 0o6000 if directory else 0  # chmod(1) leaves a directory's set-id bits
            bits = (bits & ~(mask & ~keep)) | value
    return bits


def _permissions(what: str, bits: int, *, directory: bool) -> int:
    if what in ("u", "g", "o"):
        return ((bits >> {"u": 6, "g": 3, "o": 0}[what]) & 7) * 0o111
    value = 0
    for letter in what:
        if letter == "X":
            value |= 0o111 if directory or bits & 0o111 else 0
        else:
            value |= {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}[letter]
    return value
