"""What may be there of an engine that runs one container called `other` and nothing else: all that is more was left.

Interface: `await left(engine, other)`: one line for each thing.

Rules: files under the state folder, mounts, cgroups, interfaces, processes; what an engine keeps ready is its own.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from glassdock.containers.model import Container
from glassdock.engine import Engine
from tests.support import leaks

CGROUPS = Path("/sys/fs/cgroup")
_READY = re.compile(r"ready-(\d+)")
_HALF = re.compile(r"\..+\.[a-z0-9_]{8}")


async def left(engine: Engine, other: Container) -> list[str]:
    """What is there for longer than it takes to go by itself."""
    deadline = time.monotonic() + 10
    while (found := _now(engine, other)) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return found


def _now(engine: Engine, other: Container) -> list[str]:
    return [*_files(engine, other), *_cgroups(engine, other), *_interfaces(engine), *_processes(engine, other)]


def _files(engine: Engine, other: Container) -> Iterator[str]:
    root = engine.paths.root
    for folder in ("containers", "layers/active", "tmp", "layers/tmp", "networks/published"):
        for name in os.listdir(root / folder) if (root / folder).exists() else []:
            if name != other.id and not (folder == "layers/tmp" and name.startswith("blank-")):
                yield f"file {folder}/{name}"
    places = (root, root / "images", root / "networks", engine.containers.folder(other))
    for place in (*places, engine.containers.folder(other) / "run"):
        yield from (f"half a file: {place}/{name}" for name in os.listdir(place) if _HALF.fullmatch(name))
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        yield from (f"mount {line.split()[4]}" for line in table if f"{root}/" in line)


def _cgroups(engine: Engine, other: Container) -> Iterator[str]:
    group = f"glassdock-{engine.paths.tag}"
    for parent in itertools.chain(CGROUPS.glob(group), CGROUPS.glob(f"*/{group}")):
        for path in parent.iterdir():
            ready = _READY.fullmatch(path.name)
            if path.is_dir() and path.name != other.id and not (ready and os.path.exists(f"/proc/{ready[1]}")):
                yield f"cgroup {path}"


def _interfaces(engine: Engine) -> Iterator[str]:
    networks = engine.networks
    kept = {place.cable for bridged in networks._bridged.values() for place in bridged.ready}
    kept |= {endpoint.interface for network in networks.networks() for endpoint in network.containers}
    kept |= {network.interface for network in networks.networks()}
    for name in os.listdir("/sys/class/net"):
        if engine.paths.tag in name and name not in kept:
            yield f"interface {name}"


def _processes(engine: Engine, other: Container) -> Iterator[str]:
    shim = msgspec.json.decode((engine.containers.folder(other) / "run/shim.json").read_bytes())["shim"]
    launcher = engine.containers._parts.need_launcher().pid
    session, above = leaks.Session(engine.paths.root), set(_line(os.getpid()))
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        what = leaks.process_of(pid, session)
        if what and int(pid) not in above and not {shim, launcher, os.getpid()} & set(_line(int(pid))):
            yield f"process {pid}: {what}"


def _line(pid: int) -> Iterator[int]:
    """A process, its parent, and so on."""
    while pid > 1:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return
