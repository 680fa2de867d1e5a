"""`--mount` as the API has it.

Interface: `mount(word, size)`: `type=volume,source=…,target=…` → a row of `HostConfig.Mounts`.

Source: docker/cli `opts/mount.go` (for the keys and the words)
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from typing import Any

from glassdock.errors import InvalidParameter

_PLAIN = {"type": "Type", "source": "Source", "src": "Source", "target": "Target", "dst": "Target"}
_TRUE, _FALSE = ("", "1", "t", "true"), ("0", "f", "false")


def mount(word: str, size: Callable[[str, str], int]) -> dict[str, Any]:
    """The row; raises InvalidParameter for what cannot be read."""
    made: dict[str, Any] = {"Type": "volume"}
    for part in next(csv.reader([word]), []):
        key, equals, value = part.partition("=")
        key = key.lower()
        if key in ("readonly", "ro"):
            made["ReadOnly"] = _switch(part, value)
        elif key in (*_PLAIN, "destination"):
            made[_PLAIN.get(key, "Target")] = value
        elif not _of_kind(made, part, key, value, size):
            hint = "Write type=…,source=…,target=…."
            if not equals:
                raise InvalidParameter(f"invalid field '{part}' must be a key=value pair", hint)
            raise InvalidParameter(f"unexpected key '{key}' in '{part}'", hint)
    for kind, field in (("bind", "BindOptions"), ("volume", "VolumeOptions"), ("tmpfs", "TmpfsOptions")):
        if field in made and made["Type"] != kind:
            raise InvalidParameter(f"cannot mix '{kind}-*' options with mount type '{made['Type']}'")
    if not made.get("Target"):
        raise InvalidParameter("target is required")
    if made["Type"] == "bind" and made.get("Source", "").startswith("."):
        made["Source"] = os.path.abspath(made["Source"])
    return made


def _of_kind(made: dict[str, Any], part: str, key: str, value: str, size: Callable[[str, str], int]) -> bool:
    """An option of one type of mount; False where there is none of that name."""
    kind, _, name = key.partition("-")
    options: dict[str, Any] = {}
    if kind == "bind" and name == "propagation":
        options["Propagation"] = value.lower()
    elif kind == "bind" and name == "nonrecursive":
        options["NonRecursive"] = _switch(part, value)
    elif kind == "bind" and name == "recursive":
        words = {"disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}
        if value != "enabled" and value not in words:
            raise InvalidParameter(
                f"invalid value for {key}: {value}", "Choose of enabled, disabled, writable, readonly."
            )
        options |= {words[value]: True} if value in words else {}
    elif kind == "volume" and name == "nocopy":
        options["NoCopy"] = _switch(part, value)
    elif kind == "volume" and name == "subpath":
        options["Subpath"] = value
    elif kind == "volume" and name == "label":
        label, _, text = value.partition("=")
        options["Labels"] = {**made.get("VolumeOptions", {}).get("Labels", {}), label: text}
    elif kind == "volume" and name in ("driver", "opt"):
        driver = dict(made.get("VolumeOptions", {}).get("DriverConfig", {}))
        option, _, text = value.partition("=")
        driver |= {"Name": value} if name == "driver" else {"Options": {**driver.get("Options", {}), option: text}}
        options["DriverConfig"] = driver
    elif kind == "tmpfs" and name == "size":
        options["SizeBytes"] = size(value, "--mount")
    elif kind == "tmpfs" and name == "mode" and value and set(value) <= set("01234567"):
        options["Mode"] = int(value, 8)
    else:
        return False
    field = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions"}[kind]
    made[field] = {**made.get(field, {}), **options}
    return True


def _switch(part: str, value: str) -> bool:
    if value.lower() not in (*_TRUE, *_FALSE):
        raise InvalidParameter(f"invalid value for {part.partition('=')[0]}: {value}", "Write true or false.")
    return value.lower() in _TRUE
