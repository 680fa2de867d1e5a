"""Containers and volumes as the API's JSON.

Interface: `container_inspect`, `driver`, `container_summary`, `mounts_of`, `ports`, `volume`, `when`.

Rules: field names and forms are the API's; a value that the engine does not have is absent or the API's own
"nothing" ("", null, 0), never invented.
"""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import msgspec

from glassdock.containers.model import Container, Health, Status
from glassdock.daemon import network_views
from glassdock.runtime import defaults
from glassdock.unionfs.mounts import Mount
from glassdock.volumes import Volume

RUNTIME = "runc"  # the name that clients know for the default runtime (decision 0090)
# Shown only where they were said; what only Windows and older kernels have; what there is without a network.
_CONFIG_IF_SAID = (
    "ArgsEscaped", "Healthcheck", "MacAddress", "NetworkDisabled", "Shell", "StopSignal", "StopTimeout",
)  # fmt: skip
_HOST_IF_SAID = ("Annotations", "Init", "Mounts", "StorageOpt", "Sysctls", "Tmpfs")
_ELSEWHERE = {
    "Cgroup": "", "ContainerIDFile": "", "CpuCount": 0, "CpuPercent": 0, "IOMaximumBandwidth": 0,
    "IOMaximumIOps": 0, "KernelMemoryTCP": 0,
}  # fmt: skip
_NO_NETWORK = {
    "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "HairpinMode": False, "IPv6Gateway": "",
    "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SandboxKey": "", "SecondaryIPAddresses": None,
    "SecondaryIPv6Addresses": None,
}  # fmt: skip


def when(nanoseconds: int) -> str:
    """RFC 3339 with nanoseconds; Docker's zero time for never."""
    if not nanoseconds:
        return "0001-01-01T00:00:00Z"
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    base = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return f"{base:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def container_inspect(container: Container, folder: Path, log: Path) -> dict[str, Any]:
    """`GET /containers/{id}/json`."""
    state = container.state
    config = _config(container)
    argv = container.argv
    return {
        "Id": container.id,
        "Created": when(container.created),
        "Path": argv[0] if argv else "",
        "Args": list(argv[1:]),
        "State": {
            "Status": str(state.status),
            "Running": state.running,
            "Paused": state.status is Status.PAUSED,
            "Restarting": state.status is Status.RESTARTING,
            "OOMKilled": state.oom_killed,
            "Dead": state.status is Status.DEAD,
            "Pid": state.pid if state.running else 0,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": when(state.started_at),
            "FinishedAt": when(state.finished_at),
            **({"Health": _health(container.health)} if container.health else {}),
        },
        "Image": container.image,
        "ResolvConfPath": str(folder / "resolv.conf"),
        "HostnamePath": str(folder / "hostname"),
        "HostsPath": str(folder / "hosts"),
        "LogPath": str(log),
        "Name": f"/{container.name}",
        "RestartCount": container.restart_count,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": _host_config(container),
        "Mounts": mounts_of(container),
        "Config": config,
        "NetworkSettings": {**_NO_NETWORK, **network_views.settings(container, ports(container))},
    }


def driver(name: str, mount: Mount, pid: int) -> dict[str, Any]:
    """How the root of a container is made: the driver that `docker info` names, and its folders."""
    data = {"LowerDir": ":".join(mount.lowers), "UpperDir": mount.upper, "WorkDir": mount.work}
    if pid:  # the root is mounted in the container's namespace alone
        data["MergedDir"] = f"/proc/{pid}/root"
    return {"Driver": name, "GraphDriver": {"Name": name, "Data": {key: text for key, text in data.items() if text}}}


def _config(container: Container) -> dict[str, Any]:
    """What was asked for; what Docker shows only where it was said is left out where it was not."""
    config: dict[str, Any] = msgspec.to_builtins(container.config)
    config |= {"Hostname": container.hostname, "Domainname": config["Domainname"] or ""}
    return {key: value for key, value in config.items() if value or key not in _CONFIG_IF_SAID}


def _health(health: Health) -> dict[str, Any]:
    rows = [
        {"Start": when(one.start), "End": when(one.end), "ExitCode": one.exit_code, "Output": one.output}
        for one in health.log
    ]
    return {"Status": health.status, "FailingStreak": health.failing_streak, "Log": rows}


def _host_config(container: Container) -> dict[str, Any]:
    host: dict[str, Any] = msgspec.to_builtins(container.host)
    if host["NetworkMode"] in ("", "default", None):
        host["NetworkMode"] = "bridge"
    host["IpcMode"] = host["IpcMode"] or "private"
    host["CgroupnsMode"] = host["CgroupnsMode"] or "private"
    host["LogConfig"]["Type"] = host["LogConfig"]["Type"] or "json-file"
    host["LogConfig"]["Config"] = host["LogConfig"]["Config"] or {}
    host["Runtime"] = host["Runtime"] or RUNTIME
    host["ConsoleSize"] = host["ConsoleSize"] or [0, 0]
    host["OomKillDisable"] = bool(host["OomKillDisable"])
    if not host["Privileged"]:
        for name, usual in (("MaskedPaths", defaults.masked_paths()), ("ReadonlyPaths", defaults.readonly_paths())):
            host[name] = list(usual) if host[name] is None else host[name]
    kept = {key: value for key, value in host.items() if value is not None or key not in _HOST_IF_SAID}
    return {**_ELSEWHERE, **kept}


def mounts_of(container: Container) -> list[dict[str, Any]]:
    """The rows of `Mounts`."""
    rows = []
    for point in container.mounts:
        named = {"Name": point.name} if point.name else {}
        rows.append(
            {
                "Type": point.type,
                **named,
                "Source": point.source,
                "Destination": point.destination,
                **({"Driver": point.driver} if point.driver else {}),
                "Mode": point.mode,
                "RW": point.writable,
                "Propagation": point.propagation,
            }
        )
    return rows


def volume(found: Volume, data: Path) -> dict[str, Any]:
    """A row of `GET /volumes`, and `GET /volumes/{name}`."""
    return {
        "CreatedAt": f"{dt.datetime.fromtimestamp(found.created // 1_000_000_000, dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
        "Driver": found.driver,
        "Labels": found.labels or None,
        "Mountpoint": str(data),
        "Name": found.name,
        "Options": found.options or None,
        "Scope": "local",
    }


def _network_name(container: Container) -> str:
    mode = container.host.network_mode
    return "bridge" if mode in (None, "", "default") else mode


def ports(container: Container) -> dict[str, Any]:
    """Port → where it is published, for a running container."""
    if not container.state.running:
        return {}
    found: dict[str, Any] = dict.fromkeys(container.config.exposed_ports or {})
    for endpoint in container.endpoints:
        for published in endpoint.ports:
            key = f"{published.container_port}/{published.protocol}"
            found[key] = [
                *(found.get(key) or ()),
                {"HostIp": published.host_ip, "HostPort": str(published.host_port)},
            ]
    return found


def container_summary(container: Container, image_name: str) -> dict[str, Any]:
    """A row of `GET /containers/json`."""
    return {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": image_name,
        "ImageID": container.image,
        "Command": " ".join(container.argv),
        "Created": container.created // 1_000_000_000,
        "Ports": _port_rows(container),
        "Labels": container.config.labels or {},
        "State": str(container.state.status),
        "Status": status_text(container),
        "HostConfig": {"NetworkMode": _network_name(container)},
        "NetworkSettings": {"Networks": network_views.attached(container)},
        "Mounts": mounts_of(container),
    }


def _port_rows(container: Container) -> list[dict[str, Any]]:
    rows = []
    for key, published in ports(container).items():
        private, _, protocol = key.partition("/")
        if not published:
            rows.append({"PrivatePort": int(private.partition("-")[0]), "Type": protocol or "tcp"})
        for binding in published or ():
            rows.append(
                {
                    "IP": binding["HostIp"],
                    "PrivatePort": int(private),
                    "PublicPort": int(binding["HostPort"]),
                    "Type": protocol or "tcp",
                }
            )
    return rows


def status_text(container: Container) -> str:
    """Docker's human words: `Up 3 seconds`, `Exited (0) 2 minutes ago`, `Created`."""
    state, now = container.state, time.time_ns()
    if state.status is Status.RESTARTING:
        return f"Restarting ({state.exit_code}) {human(now - state.finished_at)} ago"
    if state.running:
        words = {"starting": "health: starting"}
        told = words.get(container.health.status, container.health.status) if container.health else ""
        told = "Paused" if state.status is Status.PAUSED else told
        return f"Up {human(now - state.started_at)}" + (f" ({told})" if told else "")
    if state.status is Status.EXITED:
        return f"Exited ({state.exit_code}) {human(now - state.finished_at)} ago"
    return {Status.CREATED: "Created", Status.REMOVING: "Removal In Progress"}.get(state.status, "Dead")


def human(nanoseconds: int) -> str:
    """A duration as Docker's units.HumanDuration words it."""
    seconds = nanoseconds // 1_000_000_000
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = round(seconds / 3600)
    if hours == 1:
        return "About an hour"
    for limit, size, unit in (
        (48, 1, "hours"),
        (24 * 14, 24, "days"),
        (24 * 60, 24 * 7, "weeks"),
        (24 * 365 * 2, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // size} {unit}"
    return f"{hours // (24 * 365)} years"
