"""Networks, and containers' places in them, as the API's JSON.

Interface: `settings(container, ports)`, `attached(container)`, `network(found, containers, created)`.

Rules: as in `views.py`.
"""

from __future__ import annotations

import hashlib
from typing import Any

from glassdock.containers.config import EndpointConfig
from glassdock.containers.connections import joinings, names
from glassdock.containers.model import Container, EndpointRecord
from glassdock.network.model import Network


def settings(container: Container, ports: dict[str, Any]) -> dict[str, Any]:
    """NetworkSettings of a container; `ports` are those that it shows."""
    networks = attached(container)
    # What is shown outside the list is the default network's alone, as with Docker.
    first = networks.get("bridge", {})
    return {
        "Bridge": "",
        "SandboxID": container.id if container.state.running else "",
        "SandboxKey": f"/proc/{container.state.pid}/ns/net" if container.state.running else "",
        "Ports": ports,
        "EndpointID": first.get("EndpointID", ""),
        "Gateway": first.get("Gateway", ""),
        "IPAddress": first.get("IPAddress", ""),
        "IPPrefixLen": first.get("IPPrefixLen", 0),
        "MacAddress": first.get("MacAddress", ""),
        "Networks": networks,
    }


def attached(container: Container) -> dict[str, Any]:
    """The networks that it is on, or will be; none where it lives in another's."""
    if container.endpoints:
        return {one.network_name: _endpoint(container, one.network_name, one) for one in container.endpoints}
    return {asked.network: _endpoint(container, asked.network, None) for asked in joinings(container)}


def network(found: Network, containers: list[Container], created: str) -> dict[str, Any]:
    """A row of `GET /networks`, and `GET /networks/{id}`."""
    members = {
        container.id: {
            "Name": container.name,
            "EndpointID": _endpoint_id(container, endpoint),
            "MacAddress": endpoint.mac,
            "IPv4Address": f"{endpoint.address}/{endpoint.prefix}" if endpoint.address else "",
            "IPv6Address": "",
        }
        for container in containers
        for endpoint in container.endpoints
        if endpoint.network_id == found.id
    }
    pool: dict[str, Any] = {"Subnet": found.subnet, "Gateway": found.gateway}
    pool |= {"IPRange": found.ip_range} if found.ip_range else {}
    pool |= {"AuxiliaryAddresses": found.aux_addresses} if found.aux_addresses else {}
    pools = [pool] if found.subnet else None
    return {
        "Name": found.name,
        "Id": found.id,
        "Created": created,
        "Scope": "local",
        "Driver": found.driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": pools},
        "Internal": found.internal,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": members,
        "Options": found.options,
        "Labels": found.labels,
    }


def _endpoint(container: Container, network: str, plugged: EndpointRecord | None) -> dict[str, Any]:
    config = (container.networking.endpoints_config or {}).get(network) or EndpointConfig()
    return {
        "IPAMConfig": config.i_p_a_m_config,
        "Links": config.links or None,
        "Aliases": config.aliases or None,
        "MacAddress": plugged.mac if plugged else "",
        "DriverOpts": config.driver_opts,
        "GwPriority": config.gw_priority,
        "NetworkID": plugged.network_id if plugged else "",
        "EndpointID": _endpoint_id(container, plugged) if plugged else "",
        "Gateway": plugged.gateway if plugged else "",
        "IPAddress": plugged.address if plugged else "",
        "IPPrefixLen": plugged.prefix if plugged else 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": list(names(container, network, config)) or None,
    }


def _endpoint_id(container: Container, plugged: EndpointRecord) -> str:
    return hashlib.sha256(f"{container.id} {plugged.network_id} {plugged.mac}".encode()).hexdigest()
