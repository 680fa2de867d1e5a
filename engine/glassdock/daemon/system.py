"""Handlers for the engine as a whole: ping, version, info, events, auth.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/System
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from typing import Any

import msgspec
from aiohttp import web

from glassdock import __version__
from glassdock.containers import reach
from glassdock.containers.model import Status
from glassdock.daemon import answers, views
from glassdock.daemon.answers import API_VERSION, ENGINE, MIN_API_VERSION, filters
from glassdock.errors import InvalidParameter, Unauthorized
from glassdock.events import Event
from glassdock.linux import ids
from glassdock.registry.auth import Credentials
from glassdock.runtime import cgroups
from glassdock.runtime.cgroup_support import support
from glassdock.unionfs import marks

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


async def ping(request: web.Request) -> web.StreamResponse:
    """HEAD and GET /_ping: the client reads versions from the headers."""
    return web.Response(
        text="OK" if request.method == "GET" else None,
        headers={"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache"},
        content_type="text/plain",
        charset="utf-8",
    )


async def options(_: web.Request) -> web.StreamResponse:
    """OPTIONS of anything: nothing, as with Docker."""
    return web.Response()


async def version(_: web.Request) -> web.StreamResponse:
    """GET /version."""
    machine = platform.uname()
    facts = {
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": "none: Python " + platform.python_version(),
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(machine.machine, machine.machine),
        "KernelVersion": machine.release,
        "BuildTime": "",
    }
    details = {key: value for key, value in facts.items() if key != "Version"}
    return answers.json(
        {
            "Platform": {"Name": "Glassdock Engine"},
            "Components": [{"Name": "Engine", "Version": __version__, "Details": details}],
            **facts,
        }
    )


def _driver_status() -> list[list[str]]:
    """Rows for `docker info`: how roots are made, and what becomes of owners that have no name here."""
    owners = {"initial": "as in the image", "range": "as in the image, within the range"}
    return [
        ["Marks", f"{marks.namespace()}.overlay"],
        ["Owners", owners.get(ids.mapping().kind, "remembered in attributes")],
    ]


async def info(request: web.Request) -> web.StreamResponse:
    """GET /info."""
    engine = request.app[ENGINE]
    everyone = engine.containers.all()
    paused = sum(container.state.status is Status.PAUSED for container in everyone)
    running = sum(container.state.running for container in everyone) - paused
    machine = platform.uname()
    mirrors = [f"http://{engine.registry_address}/"] if engine.registry_address else []
    return answers.json(
        {
            "ID": engine.identity,
            "Name": machine.node,
            "ServerVersion": __version__,
            "Containers": len(everyone),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": len(everyone) - running - paused,
            "Images": len(engine.images.images()),
            "Driver": engine.snapshots.driver.name,
            "DriverStatus": _driver_status(),
            "DockerRootDir": str(engine.paths.root),
            "Plugins": {
                "Volume": ["local"],
                "Network": ["bridge", "host", "null"],
                "Authorization": None,
                "Log": ["json-file", "none"],
            },
            **_limits(),
            "IPv4Forwarding": _switch("/proc/sys/net/ipv4/ip_forward"),
            "BridgeNfIptables": _switch("/proc/sys/net/bridge/bridge-nf-call-iptables"),
            "BridgeNfIp6tables": _switch("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
            "Debug": False,
            "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": len(asyncio.all_tasks()),
            "SystemTime": views.when(time.time_ns()),
            "LoggingDriver": "json-file",
            "CgroupDriver": "none" if cgroups.unavailable() else "cgroupfs",
            "CgroupVersion": engine.cgroup_version,
            "NEventsListener": engine.events.listeners,
            "KernelVersion": machine.release,
            "OperatingSystem": _os_name(),
            "OSVersion": "",
            "OSType": "linux",
            "Architecture": machine.machine,
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {
                "AllowNondistributableArtifactsCIDRs": None,
                "AllowNondistributableArtifactsHostnames": None,
                "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
                "IndexConfigs": {
                    "docker.io": {"Name": "docker.io", "Mirrors": mirrors, "Secure": True, "Official": True}
                },
                "Mirrors": mirrors,
            },
            "NCPU": os.cpu_count() or 1,
            "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "GenericResources": None,
            "HttpProxy": "",
            "HttpsProxy": "",
            "NoProxy": "",
            "Labels": [],
            "ExperimentalBuild": False,
            "Runtimes": {"glassdock": {"path": "glassdock"}, views.RUNTIME: {"path": "glassdock"}},
            "DefaultRuntime": views.RUNTIME,
            "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": False,
                "Error": "",
                "RemoteManagers": None,
            },
            "LiveRestoreEnabled": True,
            "Isolation": "",
            "InitBinary": "",
            "ContainerdCommit": {"ID": "", "Expected": ""},
            "RuncCommit": {"ID": "", "Expected": ""},
            "InitCommit": {"ID": "", "Expected": ""},
            "SecurityOptions": ["name=seccomp,profile=builtin", *_rootless(), "name=cgroupns"],
            "ProductLicense": "Apache-2.0",
            "Warnings": [*engine.warnings, *(reach.told() if engine.can_run else ()), *_missing()] or None,
        }
    )


def _limits() -> dict[str, bool]:
    """Which limits a container can have on this machine."""
    there = support()
    return {
        "MemoryLimit": there.memory,
        "SwapLimit": there.swap,
        "CpuCfsPeriod": there.quota,
        "CpuCfsQuota": there.quota,
        "CPUShares": there.shares,
        "CPUSet": there.cpuset,
        "PidsLimit": there.pids,
        "OomKillDisable": there.oom_kill_disable,
    }


def _missing() -> list[str]:
    """What Docker warns of, in its words."""
    words = {
        "memory": "memory limit",
        "swap": "swap limit",
        "shares": "cpu shares",
        "quota": "cpu cfs quota",
        "cpuset": "cpuset",
        "pids": "pids limit",
        "throttle": "blkio throttle" if cgroups.version() == "1" else "io.max",
    }
    return [f"WARNING: No {words[name]} support" for name in support().missing if name in words]


def _rootless() -> list[str]:
    """Docker's word for an engine whose root is an ordinary user outside."""
    return [] if os.geteuid() == 0 and ids.initial() else ["name=rootless"]


def _switch(path: str) -> bool:
    """Whether a sysctl is on; one that is not there is off."""
    try:
        with open(path, "rb") as file:
            return file.read().strip() == b"1"
    except FileNotFoundError:
        return False


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


async def events(request: web.Request) -> web.StreamResponse:
    """GET /events: what was, from `since`, then what happens, until `until` or the client leaves."""
    bus = request.app[ENGINE].events
    wanted = filters(request)
    since, until = _moment(request, "since"), _moment(request, "until")
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    stream = bus.subscribe()
    if since is not None:
        for event in list(bus.recent):
            if event.time_ns >= since and (until is None or event.time_ns <= until) and _selected(event, wanted):
                await response.write(answers.encode(_row(event)))
    try:
        left = None if until is None else (until - time.time_ns()) / 1e9
        async with asyncio.timeout(max(left, 0) if left is not None else None):
            async for event in stream:
                if _selected(event, wanted):
                    await response.write(answers.encode(_row(event)))
    except TimeoutError:
        await response.write_eof()
    finally:
        await stream.aclose()
    return response


def _row(event: Event) -> dict[str, Any]:
    row: dict[str, Any] = {
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.actor, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time_ns // 1_000_000_000,
        "timeNano": event.time_ns,
    }
    if event.kind == "container":
        row |= {"status": event.action, "id": event.actor, "from": event.attributes.get("image", "")}
    return row


def _selected(event: Event, wanted: dict[str, list[str]]) -> bool:
    """Whether an event passes the filters; names and ids by their beginning, as Docker has it."""
    labels = {f"{key}={value}" for key, value in event.attributes.items()} | set(event.attributes)
    told = {event.actor, event.attributes.get("name", "")} - {""}
    exact: dict[str, set[str]] = {
        "type": {event.kind},
        "event": {event.action, event.action.partition(":")[0]},
        "label": labels,
        "scope": {"local"},
        "image": told if event.kind == "image" else {event.attributes.get("image", "")},
    }
    for name, values in wanted.items():
        if name == "label":
            if not labels.issuperset(values):
                return False
        elif name in exact:
            if not exact[name] & {*values, *(f"{value}:latest" for value in values if name == "image")}:
                return False
        elif name != event.kind or not any(one.startswith(value) for one in told for value in values):
            return False
    return True


def _moment(request: web.Request, name: str) -> int | None:
    text = request.query.get(name, "")
    if not text:
        return None
    whole, _, fraction = text.partition(".")
    try:
        return int(whole) * 1_000_000_000 + int(f"{fraction[:9]:0<9}" if fraction else 0)
    except ValueError:
        raise InvalidParameter(f"invalid value for {name}: {text!r}", "Give Unix seconds.") from None


async def auth(request: web.Request) -> web.StreamResponse:
    """POST /auth: `docker login` asks whether a registry takes these credentials."""
    engine = request.app[ENGINE]
    try:
        body = msgspec.json.decode(await answers.document(request), type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidParameter(f"invalid request body: {error}") from error
    server = str(body.get("serveraddress") or "docker.io")
    credentials = Credentials(
        username=str(body.get("username", "")),
        password=str(body.get("password", "")),
        identity_token=str(body.get("identitytoken", "")),
    )
    if not await engine.registry.login(server, credentials):
        raise Unauthorized(f"login attempt to {server} failed: incorrect username or password")
    return answers.json({"Status": "Login Succeeded", "IdentityToken": ""})
