"""Handlers for networks.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Network
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from glassdock.containers.config import EndpointConfig
from glassdock.daemon import answers, network_views, views
from glassdock.daemon.answers import ENGINE
from glassdock.daemon.disk import checked, selected
from glassdock.engine import Engine
from glassdock.errors import Forbidden, InvalidParameter, NotFound, NotSupported
from glassdock.network.creation import PREDEFINED, Wanted
from glassdock.network.model import Network

T = TypeVar("T")


class Pool(msgspec.Struct, frozen=True, rename="pascal"):
    """A subnet that was asked for."""

    subnet: str | None = ""
    gateway: str | None = ""
    ip_range: str | None = msgspec.field(default="", name="IPRange")
    auxiliary_addresses: dict[str, str] | None = msgspec.field(default=None, name="AuxiliaryAddresses")


class Addressing(msgspec.Struct, frozen=True, rename="pascal"):
    """Who gives addresses, and which."""

    driver: str | None = "default"
    config: tuple[Pool, ...] | None = None
    options: dict[str, str] | None = None


class Creation(msgspec.Struct, frozen=True, rename="pascal"):
    """The body of POST /networks/create."""

    name: str
    driver: str | None = "bridge"
    internal: bool | None = False
    enable_ipv6: bool | None = msgspec.field(default=False, name="EnableIPv6")
    ipam: Addressing | None = msgspec.field(default=None, name="IPAM")
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    config_only: bool | None = False
    ingress: bool | None = False


class Plugging(msgspec.Struct, frozen=True, rename="pascal"):
    """The body of POST /networks/{name}/connect and /disconnect."""

    container: str | None = ""
    endpoint_config: EndpointConfig | None = None
    force: bool | None = False


async def ls(request: web.Request) -> web.StreamResponse:
    """GET /networks."""
    engine = request.app[ENGINE]
    wanted = checked(answers.filters(request), *_FILTERS)
    found = [network for network in engine.networks.networks() if _wanted(network, wanted)]
    return answers.json([_view(engine, network) for network in found])


async def inspect(request: web.Request) -> web.StreamResponse:
    """GET /networks/{name}."""
    engine = request.app[ENGINE]
    found = engine.networks.get(request.match_info["name"])
    return answers.json(_view(engine, found))


async def create(request: web.Request) -> web.StreamResponse:
    """POST /networks/create."""
    engine = request.app[ENGINE]
    body = await _body(request, Creation)
    pool = _only_pool(body)
    made = await engine.networks.create(
        Wanted(
            body.name,
            body.driver or "bridge",
            pool.subnet or "",
            pool.gateway or "",
            pool.ip_range or "",
            pool.auxiliary_addresses or {},
            bool(body.internal),
            body.labels or {},
            body.options or {},
        )
    )
    engine.events.publish("network", "create", made.id, {"name": made.name, "type": made.driver})
    return answers.json({"Id": made.id, "Warning": made.status}, status=201)


async def remove(request: web.Request) -> web.StreamResponse:
    """DELETE /networks/{name}."""
    engine = request.app[ENGINE]
    gone = await engine.networks.remove(request.match_info["name"])
    engine.events.publish("network", "destroy", gone.id, {"name": gone.name, "type": gone.driver})
    return web.Response(status=204)


async def connect(request: web.Request) -> web.StreamResponse:
    """POST /networks/{name}/connect."""
    body = await _body(request, Plugging)
    containers, config = request.app[ENGINE].containers, body.endpoint_config or EndpointConfig()
    await containers.connections.connect(body.container or "", request.match_info["name"], config)
    return web.Response(status=200)


async def disconnect(request: web.Request) -> web.StreamResponse:
    """POST /networks/{name}/disconnect."""
    body = await _body(request, Plugging)
    connections = request.app[ENGINE].containers.connections
    await connections.disconnect(body.container or "", request.match_info["name"], force=bool(body.force))
    return web.Response(status=200)


async def prune(request: web.Request) -> web.StreamResponse:
    """POST /networks/prune: the users' own that nobody is plugged into."""
    engine = request.app[ENGINE]
    wanted = checked(answers.filters(request), "until", "label", "label!")
    gone = []
    for network in engine.networks.networks():
        unused = network.name not in PREDEFINED and engine.networks.unused(network)
        if unused and selected(wanted, network.created / 1e9, network.labels):
            with contextlib.suppress(NotFound, Forbidden):  # removed, or plugged into, meanwhile
                await engine.networks.remove(network.id)
                gone.append(network.name)
                engine.events.publish("network", "destroy", network.id, {"name": network.name, "type": network.driver})
    engine.events.publish("network", "prune", "", {"reclaimed": "0"})
    return answers.json({"NetworksDeleted": gone or None})


def _view(engine: Engine, network: Network) -> dict[str, Any]:
    return network_views.network(network, engine.containers.all(), views.when(network.created))


async def _body(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidParameter(f"invalid JSON: {error}") from error


def _only_pool(body: Creation) -> Pool:
    """The one subnet of a bridge; raises NotSupported for what is not built, so nothing is dropped in silence."""
    addressing = body.ipam or Addressing()
    pools = addressing.config or ()
    refused: dict[str, Any] = {
        "IPv6 networks": body.enable_ipv6,
        "config-only and ingress networks": body.config_only or body.ingress,
        f"the IPAM driver {addressing.driver}": addressing.driver not in (None, "", "default"),
        "networks with several subnets": len(pools) > 1,
    }
    for what, asked in refused.items():
        if asked:
            raise NotSupported(f"{what}: not built here", "Create the network without.")
    return pools[0] if pools else Pool()


_FILTERS: dict[str, Callable[[Network, str], bool]] = {
    "name": lambda network, value: value in network.name,
    "id": lambda network, value: network.id.startswith(value),
    "driver": lambda network, value: network.driver == value,
    "scope": lambda network, value: network.scope == value,
    "type": lambda network, value: (network.name in PREDEFINED) == (value == "builtin"),
    "dangling": lambda network, value: (
        (network.name not in PREDEFINED and not network.containers) == (value.lower() in ("1", "true"))
    ),
    "label": lambda network, value: selected({"label": [value]}, 0.0, network.labels),
}


def _wanted(network: Network, wanted: dict[str, list[str]]) -> bool:
    return all(
        (all if name == "label" else any)(_FILTERS[name](network, value) for value in values)
        for name, values in wanted.items()
    )
