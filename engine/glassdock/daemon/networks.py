"""Handlers for networks.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Network
"""

from __future__ import annotations

from aiohttp import web

from glassdock.daemon import answers, views
from glassdock.daemon.answers import ENGINE


async def ls(request: web.Request) -> web.StreamResponse:
    """GET /networks."""
    engine = request.app[ENGINE]
    return answers.json([views.network(found, engine.containers.all()) for found in engine.networks.networks()])


async def inspect(request: web.Request) -> web.StreamResponse:
    """GET /networks/{name}."""
    engine = request.app[ENGINE]
    found = engine.networks.get(request.match_info["name"])
    return answers.json(views.network(found, engine.containers.all()))
