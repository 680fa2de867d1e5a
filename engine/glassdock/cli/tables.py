"""Lists as Docker prints them: columns, human sizes and ages, templates.

Interface:
- `show_rows(form, ...)`: a printer of `client.containers.Rows`; `show_objects(form)`: of `Objects`.
- `fields(kind, row)`: a row's fields under the names that `--format` uses: the one place that knows Docker's words.
- `human_size(bytes)`, `human_age(seconds)`.

Source: docker/cli `cli/command/formatter`, docker/go-units.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from glassdock.cli import template
from glassdock.client.containers import Objects, Rows

COLUMNS: dict[str, tuple[tuple[str, str], ...]] = {
    "container": (
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("CREATED", "RunningFor"),
        ("STATUS", "Status"),
        ("PORTS", "Ports"),
        ("NAMES", "Names"),
    ),
    "image": (
        ("REPOSITORY", "Repository"),
        ("TAG", "Tag"),
        ("IMAGE ID", "ID"),
        ("CREATED", "CreatedSince"),
        ("SIZE", "Size"),
    ),
    "history": (
        ("IMAGE", "ID"),
        ("CREATED", "CreatedSince"),
        ("CREATED BY", "CreatedBy"),
        ("SIZE", "Size"),
        ("COMMENT", "Comment"),
    ),
    "network": (("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("SCOPE", "Scope")),
    "volume": (("DRIVER", "Driver"), ("VOLUME NAME", "Name")),
}
_HEADERS = {field: header for columns in COLUMNS.values() for header, field in columns} | {
    "CreatedAt": "CREATED AT",
    "Digest": "DIGEST",
}


def show_rows(
    form: str | None, *, whole: bool = False, quiet: bool = False, human: bool = True
) -> Callable[[Rows], int]:
    """A printer: the kind's table, ids alone, JSON lines, a template, or a table of a template's columns."""

    def show(found: Rows) -> int:
        rows = [row for raw in found.rows for row in fields(found.kind, raw, whole=whole, human=human)]
        columns = COLUMNS[found.kind]
        if quiet:
            lines: Iterable[str] = dict.fromkeys(row["ID"] for row in rows)
        elif form and form.startswith("table "):
            names = re.findall(r"\{\{\s*\.(\w+)\s*\}\}", form)
            header = [_HEADERS.get(name, name.upper()) for name in names]
            lines = lay_out(header, [[row.get(name, "") for name in names] for row in rows])
        elif form and form != "table":
            lines = [template.render(form, row) for row in rows]
        else:
            lines = lay_out([header for header, _ in columns], [[row[field] for _, field in columns] for row in rows])
        for line in lines:
            click.echo(line)
        return 0

    return show


def show_objects(form: str | None) -> Callable[[Objects], int]:
    """A printer of inspected objects: JSON, or a template on each."""

    def show(found: Objects) -> int:
        if form is None:
            click.echo(json.dumps(found.found, indent=4, ensure_ascii=False))
        else:
            for item in found.found:
                click.echo(template.render(form, item))
        return 0

    return show


def lay_out(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns three spaces apart, as Docker's tables."""
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def fields(kind: str, row: Mapping[str, Any], *, whole: bool = False, human: bool = True) -> list[dict[str, str]]:
    """The fields of one object, as text; an image gives one a name."""
    if kind == "history":
        return [_history(row, whole, human)]
    makers = {"container": _containers, "image": _images, "network": _networks, "volume": _volumes}
    return makers[kind](row, whole)


def ports_text(ports: Iterable[Mapping[str, Any]]) -> str:
    """`127.0.0.1:8080->80/tcp, 90/tcp`."""
    words = []
    for port in sorted(ports, key=lambda p: (p.get("PrivatePort", 0), p.get("PublicPort") or 0, p.get("IP") or "")):
        inner = f"{port.get('PrivatePort')}/{port.get('Type', 'tcp')}"
        words.append(f"{port.get('IP') or ''}:{port['PublicPort']}->{inner}" if port.get("PublicPort") else inner)
    return ", ".join(words)


def human_size(size: float, digits: int = 3) -> str:
    """Decimal units: 0B, 1.25MB, 4.26kB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.{digits}g}{unit}" if size < 1000 else f"{size:.0f}{unit}"


def human_age(seconds: float) -> str:
    """Docker's words: "Less than a second", "About a minute", "3 days"."""
    minutes, hours = int(seconds // 60), round(seconds / 3600)
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if seconds < 2 else f"{int(seconds)} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    steps = ((14, 1, "days"), (60, 7, "weeks"), (730, 30, "months"), (10**9, 365, "years"))
    size, word = next((size, word) for limit, size, word in steps if days < limit)
    return f"{days // size} {word}"


def _containers(row: Mapping[str, Any], whole: bool) -> list[dict[str, str]]:
    command = row.get("Command", "")
    return [
        {
            "ID": row["Id"] if whole else row["Id"][:12],
            "Image": row.get("Image", ""),
            "Command": json.dumps(command if whole else _cut(command, 20), ensure_ascii=False),
            "CreatedAt": _date(row.get("Created", 0)),
            "RunningFor": _ago(row.get("Created", 0)),
            "Ports": ports_text(row.get("Ports") or ()),
            "State": row.get("State", ""),
            "Status": row.get("Status", ""),
            "Size": human_size(row.get("SizeRw") or 0),
            "Names": ",".join(name.lstrip("/") for name in row.get("Names") or ()),
            "Labels": ",".join(f"{key}={value}" for key, value in sorted((row.get("Labels") or {}).items())),
            "Mounts": ",".join(mount.get("Name") or mount.get("Source", "") for mount in row.get("Mounts") or ()),
            "Networks": ",".join(sorted((row.get("NetworkSettings") or {}).get("Networks") or {})),
        }
    ]


def _images(row: Mapping[str, Any], whole: bool) -> list[dict[str, str]]:
    digests = {word.partition("@")[0]: word.partition("@")[2] for word in row.get("RepoDigests") or ()}
    named = [tag.rpartition(":") for tag in row.get("RepoTags") or ()]
    return [
        {
            "ID": row["Id"] if whole else row["Id"].removeprefix("sha256:")[:12],
            "Repository": repository or "<none>",
            "Tag": tag or "<none>",
            "Digest": digests.get(repository, "<none>"),
            "CreatedSince": _ago(row.get("Created", 0)),
            "CreatedAt": _date(row.get("Created", 0)),
            "Size": human_size(row.get("Size") or 0),
        }
        for repository, _, tag in named or [("", "", "")]
    ]


def _history(row: Mapping[str, Any], whole: bool, human: bool) -> dict[str, str]:
    made, size = row.get("CreatedBy", "").replace("\t", " "), row.get("Size") or 0
    identity = row["Id"]
    return {
        "ID": identity if whole or identity == "<missing>" else identity.removeprefix("sha256:")[:12],
        "CreatedSince": _ago(row.get("Created", 0)) if human else _date(row.get("Created", 0)),
        "CreatedAt": _date(row.get("Created", 0)),
        "CreatedBy": made if whole else _cut(made, 45),
        "Size": human_size(size) if human else str(size),
        "Comment": row.get("Comment", ""),
    }


def _networks(row: Mapping[str, Any], whole: bool) -> list[dict[str, str]]:
    return [
        {
            "ID": row["Id"] if whole else row["Id"][:12],
            "Name": row["Name"],
            "Driver": row.get("Driver", ""),
            "Scope": row.get("Scope", ""),
        }
    ]


def _volumes(row: Mapping[str, Any], _: bool) -> list[dict[str, str]]:
    return [
        {
            "ID": row["Name"],
            "Name": row["Name"],
            "Driver": row.get("Driver", ""),
            "Scope": row.get("Scope", ""),
            "Mountpoint": row.get("Mountpoint", ""),
            "Labels": ",".join(f"{key}={value}" for key, value in sorted((row.get("Labels") or {}).items())),
        }
    ]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _ago(created: int) -> str:
    return f"{human_age(max(time.time() - created, 0))} ago" if created > 0 else "N/A"


def _date(created: int) -> str:
    return datetime.fromtimestamp(max(created, 0), UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
