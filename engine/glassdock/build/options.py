"""What a build was asked for: the options of the classic endpoint as one value.

Interface:
- `BuildOptions`: every option that is carried out.
- `BuildOptions.from_query(query, registry_config)`: from the endpoint's query; raises NotSupported, InvalidParameter.

Rules: an option that would change the result and is not carried out is refused, never dropped. Options that only say
when the classic builder removes its intermediate containers (`rm`, `forcerm`) have no meaning here: none are left.
Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image/operation/ImageBuild
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from glassdock.containers.config import HostConfig, Ulimit
from glassdock.errors import InvalidParameter, NotSupported
from glassdock.registry.auth import Credentials

# What a client sends for "not given", by the option's form.
_NOTHING = ("", "0", "false", "False", "null", "[]", "{}", "default")
_REFUSED = {
    "squash": ("--squash", "Build in stages, and COPY --from the result."),
    "outputs": ("--output", "Build an image, and copy out of a container of it."),
    "isolation": ("--isolation", "It is for Windows."),
    "session": ("a BuildKit session", "Set DOCKER_BUILDKIT=0."),
}
# What a step's container gets, by the option's name: whole numbers, and texts.
_LIMITS = {
    "memory": "memory",
    "memswap": "memory_swap",
    "cpushares": "cpu_shares",
    "cpuperiod": "cpu_period",
    "cpuquota": "cpu_quota",
    "shmsize": "shm_size",
}
_PLACES = {"cpusetcpus": "cpuset_cpus", "cpusetmems": "cpuset_mems", "cgroupparent": "cgroup_parent"}


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The options of one build. A build argument of None was named without a value.

    `remote` is where the context is, if it does not come with the request; `host` is what every RUN's container gets.
    Where images are given to take steps from (`cachefrom`), nothing has to be done: the cache has their layers.
    """

    dockerfile: str = "Dockerfile"
    tags: tuple[str, ...] = ()
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    network: str = "bridge"
    platform: str = ""
    no_cache: bool = False
    pull: bool = False
    quiet: bool = False
    remote: str = ""
    host: HostConfig = field(default_factory=HostConfig)
    credentials: Mapping[str, Credentials] = field(default_factory=dict)

    @classmethod
    def from_query(cls, query: Mapping[str, Any], registry_config: str = "") -> BuildOptions:
        """Read the query of POST /build and the header X-Registry-Config; `t` may be a list where it is repeated."""
        if str(query.get("version", "1")) == "2":
            raise NotSupported("this engine has no BuildKit", "Set DOCKER_BUILDKIT=0: the classic endpoint builds.")
        for name, (shown, remedy) in _REFUSED.items():
            if str(query.get(name, "")) not in _NOTHING:
                raise NotSupported(f"{shown} is not supported by this builder yet", remedy)
        tags = query.get("t", ())
        network = str(query.get("networkmode") or "default")
        return cls(
            dockerfile=str(query.get("dockerfile") or "Dockerfile"),
            tags=tuple(tag for tag in ((tags,) if isinstance(tags, str) else tags) if tag),
            build_args=_mapping("buildargs", query),
            labels={name: value or "" for name, value in _mapping("labels", query).items()},
            target=str(query.get("target") or ""),
            network="bridge" if network == "default" else network,
            platform=str(query.get("platform") or ""),
            no_cache=_true(query.get("nocache")),
            pull=_true(query.get("pull")),
            quiet=_true(query.get("q")),
            remote=str(query.get("remote") or ""),
            host=_host(query),
            credentials=_credentials(registry_config),
        )


def _mapping(name: str, query: Mapping[str, Any]) -> dict[str, str | None]:
    text = query.get(name) or "{}"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidParameter(f"{name} is not JSON: {error}") from error
    if value is None:
        return {}
    good = isinstance(value, dict) and all(isinstance(item, str | None) for item in value.values())
    if not good:
        raise InvalidParameter(f"{name} must be a JSON object of strings")
    return dict(value)


def _host(query: Mapping[str, Any]) -> HostConfig:
    """The limits of the steps; raises InvalidParameter."""
    given: dict[str, Any] = {}
    for name, member in _LIMITS.items():
        if text := str(query.get(name) or ""):
            if not re.fullmatch(r"-?\d+", text):
                raise InvalidParameter(f"{name} must be a whole number: {text!r}")
            given[member] = int(text)
    given = {member: value for member, value in given.items() if value}
    given |= {member: str(query[name]) for name, member in _PLACES.items() if query.get(name)}
    for name, member in (("extrahosts", "extra_hosts"), ("securityopt", "security_opt")):
        found = query.get(name) or ()
        if found := tuple(one for one in ((found,) if isinstance(found, str) else found) if one):
            given[member] = found
    try:
        if limits := msgspec.json.decode(str(query.get("ulimits") or "[]"), type=list[Ulimit] | None):
            given["ulimits"] = tuple(limits)
    except msgspec.MsgspecError as error:
        raise InvalidParameter(f"ulimits cannot be read: {error}") from error
    return HostConfig(**given)


def _credentials(header: str) -> dict[str, Credentials]:
    """Who the client is to each registry, by the domain of an image's name."""
    if not header:
        return {}
    try:
        value = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))) or {}
        one_by_one = {server: base64.urlsafe_b64encode(json.dumps(given).encode()) for server, given in value.items()}
    except (ValueError, AttributeError) as error:
        raise InvalidParameter(f"X-Registry-Config cannot be read: {error}") from error
    read = {_domain(server): Credentials.from_header(encoded.decode()) for server, encoded in one_by_one.items()}
    return {domain: credentials for domain, credentials in read.items() if credentials}


def _domain(server: str) -> str:
    """`docker.io` for Docker Hub's old address, else the host."""
    host = server.partition("://")[2].partition("/")[0] if "://" in server else server.partition("/")[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host


def _true(value: object) -> bool:
    return str(value or "").lower() not in ("", "0", "no", "false", "none")
