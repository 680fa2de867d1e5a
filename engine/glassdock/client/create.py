"""What `docker create` and `docker run` say about a container, and the API's body for it.

Interface:
- `Options`: the flags, as the person wrote them (Docker's notation: "64m", "8080:80", "/host:/inside:ro").
- `body(options)`: the request body of `POST /containers/create`.

Rules: values are checked here for their form only; whether the machine can do it is the engine's answer.
Source: Docker Engine API v1.41, "Create a container"; docker/cli's wording of what is malformed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from glassdock.client import health, mounts, security
from glassdock.errors import InvalidParameter

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"^(-1|\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The flags of one container. Empty means: as the image says, or the engine's default."""

    image: str
    command: tuple[str, ...] = ()
    name: str = ""
    tty: bool = False
    interactive: bool = False
    attach: tuple[str, ...] = ()
    detach: bool = False
    remove: bool = False
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    entrypoint: str | None = None
    hostname: str = ""
    domainname: str = ""
    publish: tuple[str, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    volumes_from: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    network: str = ""
    network_alias: tuple[str, ...] = ()
    ip: str = ""
    mac_address: str = ""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    add_host: tuple[str, ...] = ()
    memory: str = ""
    memory_swap: str = ""
    cpus: str = ""
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    pids_limit: int | None = None
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()
    ulimits: tuple[str, ...] = ()
    privileged: bool = False
    read_only: bool = False
    init: bool = False
    ipc: str = ""
    pid: str = ""
    uts: str = ""
    userns: str = ""
    shm_size: str = ""
    restart: str = ""
    stop_signal: str = ""
    stop_timeout: int | None = None
    log_driver: str = ""
    log_opts: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    cgroupns: str = ""
    runtime: str = ""
    oom_score_adj: int = 0
    oom_kill_disable: bool = False
    device_cgroup_rules: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    memory_reservation: str = ""
    memory_swappiness: int | None = None
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_mems: str = ""
    blkio_weight: int = 0
    health_cmd: str = ""
    health_interval: str = ""
    health_timeout: str = ""
    health_start_period: str = ""
    health_start_interval: str = ""
    health_retries: int = 0
    no_healthcheck: bool = False


def body(options: Options) -> dict[str, Any]:
    """The body of the create request. Raises `InvalidParameter` for a value that cannot be read."""
    bindings, exposed = ports(options.publish)
    exposed |= {_port(port): {} for port in options.expose}
    binds, anonymous = _volumes(options.volumes)
    attached = options.attach or (() if options.detach else _default_streams(options))
    made: dict[str, Any] = {
        "Image": options.image,
        "Cmd": list(options.command) or None,
        "Entrypoint": _entrypoint(options.entrypoint),
        "Hostname": options.hostname,
        "Domainname": options.domainname,
        "User": options.user,
        "WorkingDir": options.workdir,
        "Env": list(options.env),
        "Labels": dict(options.labels),
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        "StdinOnce": options.interactive and not options.detach,
        "AttachStdin": "stdin" in attached,
        "AttachStdout": "stdout" in attached,
        "AttachStderr": "stderr" in attached,
        "ExposedPorts": exposed,
        "Volumes": anonymous,
        "StopSignal": options.stop_signal,
        "StopTimeout": options.stop_timeout,
        "Healthcheck": health.healthcheck(options),
        "MacAddress": options.mac_address,
        "HostConfig": _host(options) | {"Binds": binds, "PortBindings": bindings},
        "NetworkingConfig": _networking(options),
    }
    return {key: value for key, value in made.items() if value not in ("", None)}


def ports(published: Iterable[str]) -> tuple[dict[str, list[dict[str, str]]], dict[str, dict[str, str]]]:
    """PortBindings and ExposedPorts of `[ADDRESS:][HOST:]CONTAINER[/PROTOCOL]` words, ranges included."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for word in published:
        spec, _, protocol = word.partition("/")
        left, _, inner = spec.rpartition(":")
        address, _, outer = left.rpartition(":")
        inside = _range(inner, word)
        outside: list[str] = [str(port) for port in _range(outer, word)] if outer else []
        if outside and len(outside) != len(inside) and len(inside) != 1:
            raise InvalidParameter(f'invalid publish opts format "{word}": the ranges differ in length')
        for index, port in enumerate(inside):
            host = outside[index] if len(outside) == len(inside) else "-".join(outside[:1] + outside[-1:])
            bindings.setdefault(f"{port}/{protocol or 'tcp'}", []).append(
                {"HostIp": address.strip("[]"), "HostPort": host}
            )
    return bindings, {port: {} for port in bindings}


def size(text: str, option: str) -> int:
    """Bytes of Docker's notation: "64m", "1.5g", "-1"."""
    found = _SIZE.match(text.strip())
    if not found:
        raise InvalidParameter(
            f'invalid argument "{text}" for "{option}": invalid size: \'{text}\'',
            "Write a number and b, k, m or g: 64m.",
        )
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _host(options: Options) -> dict[str, Any]:
    made: dict[str, Any] = {
        "AutoRemove": options.remove,
        "NetworkMode": options.network or "default",
        "PublishAllPorts": options.publish_all,
        "Privileged": options.privileged,
        "ReadonlyRootfs": options.read_only,
        "Init": options.init or None,
        "CapAdd": list(options.cap_add),
        "CapDrop": list(options.cap_drop),
        "GroupAdd": list(options.group_add),
        **security.options(options.security_opt),
        "VolumesFrom": list(options.volumes_from),
        "Mounts": [mounts.mount(word, size) for word in options.mounts],
        "Tmpfs": {word.partition(":")[0]: word.partition(":")[2] for word in options.tmpfs},
        "Devices": [_device(word) for word in options.devices],
        "Sysctls": dict(_pair(word, "--sysctl") for word in options.sysctls),
        "Ulimits": [_ulimit(word) for word in options.ulimits],
        "Dns": list(options.dns),
        "DnsSearch": list(options.dns_search),
        "ExtraHosts": list(options.add_host),
        "IpcMode": options.ipc,
        "PidMode": options.pid,
        "UTSMode": options.uts,
        "UsernsMode": options.userns,
        "Memory": size(options.memory, "--memory") if options.memory else 0,
        "MemorySwap": size(options.memory_swap, "--memory-swap") if options.memory_swap else 0,
        "ShmSize": size(options.shm_size, "--shm-size") if options.shm_size else 0,
        "NanoCpus": nano_cpus(options.cpus),
        "CpuShares": options.cpu_shares,
        "CpusetCpus": options.cpuset_cpus,
        "PidsLimit": options.pids_limit,
        "RestartPolicy": restart_policy(options.restart) if options.restart else None,
        "LogConfig": _logging(options),
        "Annotations": dict(_pair(word, "--annotation") for word in options.annotations),
        "CgroupnsMode": options.cgroupns,
        "Runtime": options.runtime,
        "OomScoreAdj": options.oom_score_adj,
        "OomKillDisable": options.oom_kill_disable or None,
        "DeviceCgroupRules": list(options.device_cgroup_rules),
        "DnsOptions": list(options.dns_options),
        "CpuPeriod": options.cpu_period,
        "CpuQuota": options.cpu_quota,
        "CpusetMems": options.cpuset_mems,
        "BlkioWeight": options.blkio_weight,
    }
    if options.memory_reservation:
        made["MemoryReservation"] = size(options.memory_reservation, "--memory-reservation")
    kept = {key: value for key, value in made.items() if value not in ("", None, 0, [], {})}
    if options.memory_swappiness is not None:  # 0 is one: never swap
        kept["MemorySwappiness"] = options.memory_swappiness
    return kept


def _logging(options: Options) -> dict[str, Any] | None:
    """Options alone are for the engine's own driver, whose name is then empty."""
    if not options.log_driver and not options.log_opts:
        return None
    return {"Type": options.log_driver, "Config": dict(_pair(word, "--log-opt") for word in options.log_opts)}


def _default_streams(options: Options) -> tuple[str, ...]:
    return ("stdin", "stdout", "stderr") if options.interactive else ("stdout", "stderr")


def _entrypoint(value: str | None) -> list[str] | None:
    """Docker's rule: `--entrypoint ""` resets it, which the API writes as one empty word."""
    return None if value is None else [value]


def _networking(options: Options) -> dict[str, Any] | None:
    endpoint: dict[str, Any] = {}
    if options.network_alias:
        endpoint["Aliases"] = list(options.network_alias)
    if options.ip:
        endpoint["IPAMConfig"] = {"IPv4Address": options.ip}
    return {"EndpointsConfig": {options.network or "bridge": endpoint}} if endpoint else None


def restart_policy(text: str) -> dict[str, Any]:
    """The API's policy of "no", "always" or "on-failure:3"; raises InvalidParameter."""
    name, _, retries = text.partition(":")
    if retries and not retries.lstrip("-").isdigit():
        raise InvalidParameter("maximum retry count must be an integer", "Write on-failure:3.")
    return {"Name": name, "MaximumRetryCount": int(retries or 0)}


def nano_cpus(text: str) -> int:
    """The API's billionths of a processor of "0.5"; 0 for nothing."""
    if not text:
        return 0
    try:
        return round(float(text) * 1e9)
    except ValueError:
        raise InvalidParameter(
            f'invalid argument "{text}" for "--cpus": not a number', "Write how many processors: --cpus 0.5."
        ) from None


def _range(text: str, word: str) -> range:
    first, _, last = text.partition("-")
    try:
        made = range(int(first), int(last or first) + 1)
    except ValueError:
        made = range(0)
    if not made or made.start < 0 or made.stop > 65536:
        raise InvalidParameter(f"invalid containerPort: {text or word}", "Write HOST:CONTAINER, as in -p 8080:80.")
    return made


def _port(text: str) -> str:
    return text if "/" in text else f"{text}/tcp"


def _volumes(words: Iterable[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    binds = [word for word in words if ":" in word]
    return binds, {word: {} for word in words if ":" not in word}


def _device(word: str) -> dict[str, str]:
    parts = word.split(":")
    inside, access = [*parts, "", ""][1:3]
    return {"PathOnHost": parts[0], "PathInContainer": inside or parts[0], "CgroupPermissions": access or "rwm"}


def _pair(word: str, option: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise InvalidParameter(f'invalid argument "{word}" for "{option}": key=value is needed')
    return key, value


def _ulimit(word: str) -> dict[str, Any]:
    name, limits = _pair(word, "--ulimit")
    soft, _, hard = limits.partition(":")
    try:
        return {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}
    except ValueError:
        raise InvalidParameter(f'invalid argument "{word}" for "--ulimit"', "Write NAME=SOFT[:HARD].") from None
