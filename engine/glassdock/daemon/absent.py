"""What this engine does not have, answered as a Docker answers that has no swarm and no plugins.

Interface: `ROUTES`, rows of the API's table.

Rules: a list of something that there cannot be is empty; what needs a swarm is a 503 in Docker's words, by which
clients know it.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Swarm
"""

from __future__ import annotations

from aiohttp import web

from glassdock.daemon import answers
from glassdock.daemon.answers import Handler
from glassdock.errors import NotFound, NotSupported, Unavailable


async def swarm(_: web.Request) -> web.StreamResponse:
    """Whatever a swarm's manager would answer."""
    raise Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
        "swarm and try again."
    )


async def leave(_: web.Request) -> web.StreamResponse:
    """POST /swarm/leave."""
    raise Unavailable("This node is not part of a swarm")


async def begin(_: web.Request) -> web.StreamResponse:
    """POST /swarm/init and /swarm/join."""
    raise NotSupported("this engine has no swarm", "Run containers on this machine; `engine/README.md` lists the gaps.")


async def plugins(_: web.Request) -> web.StreamResponse:
    """GET /plugins."""
    return answers.json([])


async def plugin(request: web.Request) -> web.StreamResponse:
    """GET /plugins/{name}/json."""
    raise NotFound(f'plugin "{request.match_info["name"]}" not found')


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/swarm", swarm),
    ("GET", "/swarm/unlockkey", swarm),
    ("POST", "/swarm/update", swarm),
    ("POST", "/swarm/unlock", swarm),
    ("POST", "/swarm/leave", leave),
    ("POST", "/swarm/init", begin),
    ("POST", "/swarm/join", begin),
    *(("GET", f"/{kind}", swarm) for kind in ("nodes", "services", "tasks", "secrets", "configs")),
    *(("GET", f"/{kind}/{{name}}", swarm) for kind in ("nodes", "services", "tasks", "secrets", "configs")),
    *(("POST", f"/{kind}/create", swarm) for kind in ("services", "secrets", "configs")),
    ("GET", "/plugins", plugins),
    ("GET", "/plugins/{name:.+}/json", plugin),
)
