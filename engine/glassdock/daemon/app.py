"""The Docker Engine API as one table: method, path, handler. This is the client's half of client and server.

Interface: `application(engine)`.

Rules: a path is served with and without a version prefix (`/v1.47`); versions from 1.24 to 1.47 are accepted. What
the table does not name is a 404 with a JSON message, as Docker's, also where only the method is another. Paths under
`/glassdock/` are ours.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/
"""

from __future__ import annotations

from aiohttp import web

from glassdock import __version__
from glassdock.daemon import (
    absent,
    answers,
    archive,
    build,
    containers,
    disk,
    distribution,
    execs,
    glassdock,
    images,
    networks,
    ps,
    stats,
    system,
    transport,
    volumes,
)
from glassdock.daemon.answers import API_VERSION, ENGINE, MIN_API_VERSION, Handler
from glassdock.engine import Engine

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    # system
    ("GET", "/_ping", system.ping),
    ("HEAD", "/_ping", system.ping),
    ("GET", "/version", system.version),
    ("GET", "/info", system.info),
    ("GET", "/events", system.events),
    ("POST", "/auth", system.auth),
    ("GET", "/system/df", disk.df),
    ("POST", "/containers/prune", disk.prune_containers),
    ("POST", "/images/prune", disk.prune_images),
    ("POST", "/build/prune", disk.prune_build),
    ("POST", "/networks/prune", networks.prune),
    ("POST", "/volumes/prune", volumes.prune),
    # containers
    ("GET", "/containers/json", ps.ps),
    ("POST", "/containers/create", containers.create),
    ("GET", "/containers/{name}/json", containers.inspect),
    ("POST", "/containers/{name}/start", containers.start),
    ("POST", "/containers/{name}/stop", containers.stop),
    ("POST", "/containers/{name}/restart", containers.restart),
    ("POST", "/containers/{name}/kill", containers.kill),
    ("POST", "/containers/{name}/pause", containers.pause),
    ("POST", "/containers/{name}/unpause", containers.unpause),
    ("GET", "/containers/{name}/top", containers.top),
    ("GET", "/containers/{name}/stats", stats.stats),
    ("POST", "/containers/{name}/update", stats.update),
    ("POST", "/containers/{name}/wait", containers.wait),
    ("POST", "/containers/{name}/attach", containers.attach),
    ("POST", "/containers/{name}/resize", containers.resize),
    ("POST", "/containers/{name}/rename", containers.rename),
    ("GET", "/containers/{name}/logs", containers.logs),
    ("DELETE", "/containers/{name}", containers.remove),
    ("HEAD", "/containers/{name}/archive", archive.stat),
    ("GET", "/containers/{name}/archive", archive.get),
    ("PUT", "/containers/{name}/archive", archive.put),
    ("GET", "/containers/{name}/changes", archive.changes),
    ("GET", "/containers/{name}/export", archive.export),
    ("POST", "/containers/{name}/exec", execs.create),
    ("POST", "/exec/{id}/start", execs.start),
    ("POST", "/exec/{id}/resize", execs.resize),
    ("GET", "/exec/{id}/json", execs.inspect),
    # images
    ("GET", "/images/json", images.ls),
    ("POST", "/images/create", images.pull),
    ("GET", "/images/{name:.+}/json", images.inspect),
    ("GET", "/images/{name:.+}/history", images.history),
    ("GET", "/images/get", transport.save),
    ("GET", "/images/{name:.+}/get", transport.save),
    ("POST", "/images/load", transport.load),
    ("POST", "/commit", transport.commit),
    ("POST", "/images/{name:.+}/push", images.push),
    ("POST", "/images/{name:.+}/tag", images.tag),
    ("DELETE", "/images/{name:.+}", images.remove),
    ("GET", "/distribution/{name:.+}/json", distribution.inspect),
    ("POST", "/build", build.build),
    # networks
    ("GET", "/networks", networks.ls),
    ("GET", "/networks/{name}", networks.inspect),
    ("POST", "/networks/create", networks.create),
    ("DELETE", "/networks/{name}", networks.remove),
    ("POST", "/networks/{name}/connect", networks.connect),
    ("POST", "/networks/{name}/disconnect", networks.disconnect),
    # volumes
    ("GET", "/volumes", volumes.ls),
    ("POST", "/volumes/create", volumes.create),
    ("GET", "/volumes/{name}", volumes.inspect),
    ("DELETE", "/volumes/{name}", volumes.remove),
    *absent.ROUTES,
    ("OPTIONS", "/{path:.*}", system.options),
    # what only this engine has
    ("GET", "/glassdock/status", glassdock.status),
    ("GET", "/glassdock/doctor", glassdock.doctor),
    ("POST", "/glassdock/course/images", glassdock.course_images),
    ("GET", "/glassdock/containers/{name}/trace", glassdock.trace),
    ("GET", "/glassdock/containers/{name}/changes", glassdock.changes),
    ("GET", "/glassdock/images/{name:.+}/layers", glassdock.layers),
    ("GET", "/glassdock/builds/{name:.+}/trace", build.trace),
    ("GET", "/glassdock/builds/{name:.+}", build.record),
)


def application(engine: Engine) -> web.Application:
    """The API over `engine`."""
    app = web.Application(middlewares=[_versions, answers.errors], client_max_size=0)
    app[ENGINE] = engine
    app.on_response_prepare.append(_headers)
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler)
        app.router.add_route(method, r"/v{version:\d+\.\d+}" + path, handler)
    return app


async def _headers(_: web.Request, response: web.StreamResponse) -> None:
    """What every answer of Docker's says, streams and errors among them."""
    response.headers.setdefault("Api-Version", API_VERSION)
    response.headers.setdefault("Docker-Experimental", "false")
    response.headers.setdefault("Ostype", "linux")
    response.headers["Server"] = f"Glassdock/{__version__} (linux)"


@web.middleware
async def _versions(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse versions that are not spoken, in Docker's words."""
    asked = request.match_info.get("version")
    if asked and _number(asked) < _number(MIN_API_VERSION):
        return answers.json(
            {
                "message": f"client version {asked} is too old. Minimum supported API version is {MIN_API_VERSION}, "
                "please upgrade your client to a newer version"
            },
            status=400,
        )
    if asked and _number(asked) > _number(API_VERSION):
        return answers.json(
            {"message": f"client version {asked} is too new. Maximum supported API version is {API_VERSION}"},
            status=400,
        )
    return await handler(request)


def _number(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor)
