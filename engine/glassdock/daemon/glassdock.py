"""Handlers for what only this engine has: its own state, traces, layers, the doctor, the course's images.

Rules: read-only, except for the course's images. A client of another engine gets a 404 here and says so.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
from aiohttp import web

from glassdock import __version__
from glassdock.daemon import answers
from glassdock.daemon.answers import ENGINE, Lines
from glassdock.errors import GlassdockError
from glassdock.images.changes import Changes


async def status(request: web.Request) -> web.StreamResponse:
    """GET /glassdock/status."""
    engine = request.app[ENGINE]
    return answers.json(
        {
            "version": __version__,
            "root": str(engine.paths.root),
            "registry": engine.registry_address,
            "containers": len(engine.containers.all()),
            "running": sum(container.state.running for container in engine.containers.all()),
            "images": len(engine.images.images()),
            "networks": [network.name for network in engine.networks.networks()],
            "can_run": engine.can_run,
            "warnings": engine.warnings,
        }
    )


async def doctor(request: web.Request) -> web.StreamResponse:
    """GET /glassdock/doctor: probed in a process of its own, because probing forks."""
    words = [sys.executable, "-m", "glassdock.linux.probe", str(request.app[ENGINE].paths.root)]
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode:
        raise GlassdockError(f"the probe ended with {process.returncode}: {err.decode(errors='replace')[-300:]}")
    return web.Response(body=out, content_type="application/json")


async def course_images(request: web.Request) -> web.StreamResponse:
    """POST /glassdock/course/images: assemble the course's images and push them to the course's registry."""
    engine = request.app[ENGINE]
    async with Lines(request) as lines:
        await engine.assemble_course_images(lines)
        lines({"status": "Course images are in the course registry"})
    return lines.response


async def trace(request: web.Request) -> web.StreamResponse:
    """GET /glassdock/containers/{name}/trace: the spans of its life so far, times in ns of CLOCK_MONOTONIC."""
    container, found = request.app[ENGINE].containers.trace(request.match_info["name"])
    return answers.json(
        {
            "id": container.id,
            "name": container.name,
            "image": container.config.image,
            "spans": [msgspec.to_builtins(span) for span in found.spans],
        }
    )


async def changes(request: web.Request) -> web.StreamResponse:
    """GET /glassdock/containers/{name}/changes: its writable layer against the image."""
    engine = request.app[ENGINE]
    container = engine.containers.get(request.match_info["name"])
    found = await asyncio.to_thread(engine.changes_of, container.id)
    return answers.json(_changes(found))


async def layers(request: web.Request) -> web.StreamResponse:
    """GET /glassdock/images/{name}/layers: each instruction with what it added, changed and deleted."""
    engine = request.app[ENGINE]
    image = engine.images.get(request.match_info["name"])
    rows: list[dict[str, Any]] = []
    stack = iter(image.layers)
    history = image.config.history
    for entry in history:
        row: dict[str, Any] = {
            "created_by": entry.created_by,
            "comment": entry.comment,
            "empty": entry.empty_layer,
            "diff_id": "",
            "chain_id": "",
            "size": 0,
            "added": [],
            "changed": [],
            "deleted": [],
        }
        layer = None if entry.empty_layer else next(stack, None)
        if layer is not None:
            row |= {"diff_id": layer.diff_id, "chain_id": layer.chain_id, "size": layer.size}
            row |= _changes(await asyncio.to_thread(engine.changes_of, layer.chain_id))
        rows.append(row)
    for layer in stack:  # more layers than history says: shown all the same
        rows.append(
            {
                "created_by": "",
                "comment": "",
                "empty": False,
                "diff_id": layer.diff_id,
                "chain_id": layer.chain_id,
                "size": layer.size,
                **_changes(await asyncio.to_thread(engine.changes_of, layer.chain_id)),
            }
        )
    return answers.json({"id": image.id, "tags": list(image.repo_tags), "layers": rows})


def _changes(found: Changes) -> dict[str, Any]:
    return {"added": list(found.added), "changed": list(found.changed), "deleted": list(found.deleted)}
