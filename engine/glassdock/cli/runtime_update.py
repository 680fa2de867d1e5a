"""`glassdock-runtime update`: other limits for a container, from a document or from flags.

Interface: `update(call)`.
Rules: what is not said stays; 0 and "" are "not said", because those who drive a runtime write whole documents. A
limit of 0 processes is one: who means none says nothing.
Source: runc-update(8)
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from glassdock.cli.runtime_life import place_of
from glassdock.cli.runtime_log import Log
from glassdock.cli.runtime_words import Call
from glassdock.errors import Conflict, InvalidParameter, NotFound, NotSupported
from glassdock.oci import runtime as oci
from glassdock.oci.runtime import Resources
from glassdock.runtime import bundle_state, cgroups
from glassdock.runtime.cgroups import Cgroup

_FLAGS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "cpuset-cpus": ("cpu", "cpus"),
    "cpuset-mems": ("cpu", "mems"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "pids-limit": ("pids", "limit"),
}
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def update(call: Call) -> int:
    """Change limits."""
    place = place_of(call)
    record = place.read()
    if call.options["l3-cache-schema"] or call.options["mem-bw-schema"]:
        raise NotSupported("Intel RDT is not supported: leave --l3-cache-schema and --mem-bw-schema out")
    resources = _resources(_document(call))
    if bundle_state.status(place, record) == "stopped":
        raise Conflict("container not running")
    group = cgroups.open_cgroup(record.cgroup)
    cgroups.check(_whole(resources, group))
    Log(call).note(group.apply(resources))
    return 0


def _document(call: Call) -> bytes:
    source = str(call.options["resources"])
    if source == "-":
        return sys.stdin.buffer.read()
    if source:
        try:
            with open(source, "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise NotFound(f"open {source}: no such file or directory") from None
    found: dict[str, Any] = {}
    for flag, (part, name) in _FLAGS.items():
        value = call.options[flag]
        if value not in (None, ""):
            found.setdefault(part, {})[name] = _bytes(flag, value) if part == "memory" else value
    return msgspec.json.encode(found)


def _bytes(flag: str, text: str) -> int:
    """A size such as 64m; -1 is no limit."""
    number, unit = text.rstrip("bBkKmMgGtT"), text[len(text.rstrip("bBkKmMgGtT")) :].lower()
    scale = _UNITS.get(unit.removesuffix("b") if len(unit) > 1 else unit)
    if scale is None or not number.removeprefix("-").isdecimal():
        raise InvalidParameter(f"invalid value for {flag}: invalid size: '{text}'")
    return int(number) * scale


def _resources(data: bytes) -> Resources:
    try:
        found: Resources = oci.read(data, Resources)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"not valid resources: {error}") from error
    # Devices stay as they are, with runc too: a document's list would be that of a new container.
    return msgspec.structs.replace(found, devices=())


def _whole(resources: Resources, group: Cgroup) -> Resources:
    """With the limits of memory that it has, against which a new one of swap is held."""
    memory = resources.memory
    if memory is None or memory.limit or not memory.swap:
        return resources
    limit = group.stats().memory.total.limit
    return msgspec.structs.replace(resources, memory=msgspec.structs.replace(memory, limit=max(limit, 0) or None))
