"""Hand-made answers of the engine's `/glassdock/` endpoints, for the pictures' tests.

The engine's own answers are tested with the real engine; these have what a test of drawing needs: every kind of change,
every actor, a failed step, system calls.
"""

from __future__ import annotations

from typing import Any

from glassdock.client.images import LayerStack
from glassdock.trace import Span

FILES = [[f"/bin/tool{number:03}", 1000 + number] for number in range(400)]

LAYERS: list[dict[str, Any]] = [
    {
        "diff_id": "sha256:" + "a" * 64,
        "chain_id": "sha256:" + "a" * 64,
        "size": 1_984_000,
        "created_by": "busybox from this machine",
        "empty": False,
        "added": [*FILES, ["/etc/passwd", 340], ["/etc/group", 120], ["/tmp", 0]],
        "changed": [],
        "deleted": [],
    },
    {
        "diff_id": "sha256:" + "b" * 64,
        "chain_id": "sha256:" + "c" * 64,
        "size": 12_300,
        "created_by": "/bin/sh -c adduser -D web && rm /etc/group <&2",
        "empty": False,
        "added": [["/home/web/.profile", 12_000]],
        "changed": [["/etc/passwd", 380]],
        "deleted": [["/etc/group", 0]],
    },
    {
        "diff_id": "",
        "chain_id": "",
        "size": 0,
        "created_by": "/bin/sh -c #(nop)  ENV GREETING=hello",
        "empty": True,
        "added": [],
        "changed": [],
        "deleted": [],
    },
    {
        "diff_id": "sha256:" + "d" * 64,
        "chain_id": "sha256:" + "e" * 64,
        "size": 640_000,
        "created_by": "COPY site /srv/site",
        "empty": False,
        "added": [["/srv/site/index.html", 4000], ["/srv/site/logo.svg", 636_000]],
        "changed": [],
        "deleted": [],
    },
]
STACK = LayerStack("web", "sha256:" + "f" * 64, tuple(LAYERS))

_BASE = 5_000_000_000
_MS = 1_000_000


def client_spans() -> list[Span]:
    """The client's side of one run."""
    rows = [
        (1, 0, "client.run", 0.0, 31.0),
        (2, 1, "client.create", 0.4, 9.0),
        (3, 1, "client.attach", 9.8, 1.1),
        (4, 1, "client.start", 11.2, 12.5),
        (5, 1, "client.follow", 24.0, 6.0),
        (6, 1, "client.wait", 30.1, 0.8),
    ]
    return [
        Span(
            number,
            parent,
            name,
            "client",
            _BASE + int(start * _MS),
            int(length * _MS),
            {},
            "/x/glassdock/client/run.py",
            90,
        )
        for number, parent, name, start, length in rows
    ]


def engine_spans() -> list[dict[str, Any]]:
    """The engine's side: daemon, managers, launcher, shim, runtime."""
    rows = [
        (1, 0, "daemon", "containers.create", 1.0, 7.9),
        (2, 1, "daemon", "images.resolve", 1.2, 0.3),
        (3, 1, "daemon", "registry.manifest", 1.7, 1.4),
        (4, 1, "daemon", "unionfs.prepare", 5.0, 2.2),
        (5, 0, "daemon", "containers.start", 11.5, 12.0),
        (6, 5, "daemon", "network.attach", 11.7, 3.1),
        (7, 5, "launcher", "launcher.fork", 15.1, 2.0),
        (8, 7, "shim", "shim.setup", 15.9, 1.0),
        (9, 8, "init", "runtime.mounts", 17.3, 3.2),
        (10, 8, "init", "runtime.pivot_root", 20.6, 0.3),
        (11, 8, "init", "runtime.exec", 21.2, 0.9),
    ]
    calls = [
        {"name": "mount", "arguments": "overlay, /, MS_NOSUID", "result": "0", "start": _BASE, "duration": 90_000},
        {"name": "pivot_root", "arguments": "., .", "result": "EINVAL", "start": _BASE, "duration": 4_000},
    ]
    return [
        {
            "id": number,
            "parent": parent,
            "name": name,
            "process": process,
            "start": _BASE + int(start * _MS),
            "duration": int(length * _MS),
            "attributes": {"what": "mount the root", "pid": 4242}
            if process == "init"
            else {"prepared": True}
            if name == "shim.setup"
            else {},
            "file": "/somewhere/engine/glassdock/runtime/rootfs.py",
            "line": 40 + number,
            "error": "OSError: refused" if name == "runtime.pivot_root" else "",
            "syscalls": calls if name == "runtime.mounts" else [],
        }
        for number, parent, process, name, start, length in rows
    ]
