"""`--security-opt` as the official client sends it: a profile's content instead of its name.

Interface: `options(words)` → what goes into the body of a create: SecurityOpt, MaskedPaths, ReadonlyPaths.

Rules: the daemon may be elsewhere, so the file is read here. `systempaths=unconfined` is the client's word for
two empty lists.

Source: https://docs.docker.com/engine/security/seccomp/
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from glassdock.errors import InvalidParameter

_ITS_OWN = ("builtin", "unconfined")


def options(words: Iterable[str]) -> dict[str, Any]:
    """The members of HostConfig; raises InvalidParameter in the official client's words."""
    found: list[str] = []
    paths: dict[str, Any] = {}
    for word in words:
        name, separator, value = word.partition("=" if "=" in word else ":")
        if not separator and name != "no-new-privileges":
            raise InvalidParameter(f'Invalid --security-opt: "{word}"', "Write NAME=VALUE, such as seccomp=unconfined.")
        if (name, value) == ("systempaths", "unconfined"):
            paths = {"MaskedPaths": [], "ReadonlyPaths": []}
        elif name == "seccomp" and value not in _ITS_OWN:
            found.append(f"seccomp={_content(value)}")
        else:
            found.append(word)
    return {"SecurityOpt": found, **paths}


def _content(name: str) -> str:
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise InvalidParameter(f"opening seccomp profile ({name}) failed: {error.strerror}") from error
    try:
        return msgspec.json.format(data, indent=-1).decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"compacting json for seccomp profile ({name}) failed: {error}") from error
