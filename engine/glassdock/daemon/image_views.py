"""Images as the API's JSON.

Interface: `inspect`, `summary`, `history`, `seconds`.

Rules: as in `views.py`.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from glassdock.images.model import Image


def inspect(image: Image, driver: str) -> dict[str, Any]:
    """`GET /images/{name}/json`; `driver` is what `docker info` calls it."""
    document = image.config
    config: dict[str, Any] = {
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": None,
        "Cmd": None,
        "Image": "",
        "Volumes": None,
        "WorkingDir": "",
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": None,
        **msgspec.to_builtins(document.config),
    }
    return {
        "Id": image.id,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": document.history[-1].comment if document.history else "",
        "Created": document.created,
        "DockerVersion": "",
        "Author": document.author,
        "Config": config,
        "Architecture": document.architecture,
        "Variant": document.variant,
        "Os": document.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Name": driver, "Data": None},
        "RootFS": {"Type": "layers", "Layers": list(document.rootfs.diff_ids)},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    }


def summary(image: Image, containers: int, *, shared: int = -1) -> dict[str, Any]:
    """A row of `GET /images/json`; `shared` is the size of the layers that others have too, -1 for not measured."""
    return {
        "Id": image.id,
        "ParentId": image.parent,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Created": seconds(image.config.created),
        "Size": image.size,
        "VirtualSize": image.size,
        "SharedSize": shared,
        "Labels": image.config.config.labels,
        "Containers": containers,
    }


def seconds(rfc3339: str) -> int:
    """Unix seconds of a document's time; 0 where it has none."""
    if not rfc3339:
        return 0
    text = rfc3339.replace("Z", "+00:00")
    if "." in text:  # Python reads six digits, documents have up to nine
        whole, _, rest = text.partition(".")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        text = f"{whole}.{digits[:6]:0<6}{rest[len(digits) :]}"
    return int(dt.datetime.fromisoformat(text).timestamp())


def history(image: Image) -> list[dict[str, Any]]:
    """`GET /images/{name}/history`, newest first; sizes of the layers, ids where they are known."""
    sizes = iter(layer.size for layer in image.layers)
    rows: list[dict[str, Any]] = [
        {
            "Id": "<missing>",
            "Created": seconds(entry.created),
            "CreatedBy": entry.created_by,
            "Tags": None,
            "Size": 0 if entry.empty_layer else next(sizes, 0),
            "Comment": entry.comment,
        }
        for entry in image.config.history
    ]
    if rows:
        rows[-1] |= {"Id": image.id, "Tags": list(image.repo_tags) or None}
    return rows[::-1]
