"""`--log-driver` and `--log-opt`: where a container's output is kept, and how long.

Interface:
- `check(log)`: refuses an unknown driver or option, in Docker's words.
- `options(container)`: what the shim is told of a json-file.
- `readable(container)`: raises NotSupported where nothing is kept.

Rules: sizes are decimal, as Docker reads them here ("10m" is 10,000,000 bytes).

Source: https://docs.docker.com/engine/logging/drivers/json-file/, .../engine/logging/log_tags/
"""

from __future__ import annotations

import re

from glassdock.containers.config import LogConfig
from glassdock.containers.model import Container
from glassdock.errors import InvalidParameter, NotSupported
from glassdock.runtime.jsonlog import LogOptions

_KNOWN = frozenset("max-file max-size compress labels labels-regex env env-regex tag".split())
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)b?", re.IGNORECASE)
_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
_FIELDS = frozenset("ID FullID Name ImageID ImageFullID ImageName DaemonName".split())


def check(log: LogConfig) -> None:
    """Raise InvalidParameter for what no start could do."""
    asked = log.config or {}
    if log.type not in ("", "json-file", "none"):
        message = f"logger: no log driver named '{log.type}' is registered"
        raise InvalidParameter(message, "Use json-file or none.")
    if log.type == "none":
        return
    for name in asked:
        if name not in _KNOWN:
            raise InvalidParameter(f"unknown log opt '{name}' for json-file log driver")
    size, most, packed = _size(asked), _most(asked), _packed(asked)
    if packed and not size:
        raise InvalidParameter("compress cannot be true when max-size is not set")
    if packed and most < 2:
        raise InvalidParameter("compress cannot be true when max-file is less than 2 or unset")
    for name in ("labels-regex", "env-regex"):
        try:
            re.compile(asked.get(name, ""))
        except re.error as error:
            raise InvalidParameter(f"invalid value for {name}: {error}") from error
    for field in _FIELD.findall(asked.get("tag", "")):
        if field not in _FIELDS:
            raise InvalidParameter(f"invalid value for tag: there is no .{field}", "Use .Name, .ID or .ImageName.")


def options(container: Container) -> LogOptions:
    """Size, number and attributes, of a log that `check` has seen."""
    asked = container.host.log_config.config or {}
    attributes = _chosen(container.config.labels or {}, asked, "labels")
    variables = dict(word.split("=", 1) for word in container.config.env or () if "=" in word)
    attributes |= _chosen(variables, asked, "env")
    if asked.get("tag"):
        attributes["tag"] = _FIELD.sub(lambda found: _fields(container)[found[1]], asked["tag"])
    return LogOptions(_size(asked), _most(asked), _packed(asked), attributes)


def readable(container: Container) -> None:
    """Raise NotSupported where nothing is kept, in Docker's words."""
    if container.host.log_config.type == "none":
        raise NotSupported("configured logging driver does not support reading", "Make it with --log-driver json-file.")


def _size(asked: dict[str, str]) -> int:
    text = asked.get("max-size", "")
    if text in ("", "-1"):
        return 0
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * 1000 ** " kmgt".index(found[2].lower() or " ")) if found else 0
    if size <= 0:
        raise InvalidParameter(f"invalid value for max-size: invalid size: '{text}'", "Write a number and k, m or g.")
    return size


def _most(asked: dict[str, str]) -> int:
    text = asked.get("max-file", "") or "1"
    if not text.isdecimal():
        raise InvalidParameter(f"invalid value for max-file: {text!r} is not a number")
    if int(text) < 1:
        raise InvalidParameter("max-file cannot be less than 1")
    return int(text)


def _packed(asked: dict[str, str]) -> bool:
    text = asked.get("compress", "") or "false"
    if text.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise InvalidParameter(f"invalid value for compress: {text!r} is neither true nor false")
    return text.lower() in ("true", "1", "t")


def _chosen(values: dict[str, str], asked: dict[str, str], name: str) -> dict[str, str]:
    """Those that are named, and those whose name fits the expression."""
    names, form = asked.get(name, "").split(","), asked.get(f"{name}-regex", "")
    return {key: value for key, value in values.items() if key in names or (form and re.search(form, key))}


def _fields(container: Container) -> dict[str, str]:
    image = container.image.removeprefix("sha256:")
    return {
        "ID": container.id[:12],
        "FullID": container.id,
        "Name": container.name,
        "ImageID": image[:12],
        "ImageFullID": container.image,
        "ImageName": container.config.image,
        "DaemonName": "docker",
    }
