"""`glassdock-runtime events`: what a container uses, again and again, and that memory was short: a document a line.

Interface: `events(call)`.

Rules: it ends with the container. An `oom` is told within a tenth of a second, also between two lines of numbers.
Source: runc-events(8), https://github.com/containerd/go-runc
"""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec

from glassdock.cli.runtime_life import place_of
from glassdock.cli.runtime_words import Call
from glassdock.errors import Conflict, InvalidParameter
from glassdock.runtime import bundle_state, cgroups
from glassdock.runtime.cgroup_stats import as_event

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LOOK = 0.1


def events(call: Call) -> int:
    """Show numbers until the container ends, or once."""
    place = place_of(call)
    interval = _seconds(str(call.options["interval"]))
    if interval <= 0:
        raise InvalidParameter("duration interval must be greater than 0")
    record = place.read()
    if bundle_state.status(place, record) == "stopped":
        raise Conflict(f"container with id {place.id} is not running")
    group = cgroups.open_cgroup(record.cgroup)
    if call.options["stats"]:
        _tell("stats", place.id, as_event(group.stats()))
        return 0
    killed, due = group.oom_kills(), time.monotonic() + interval
    while bundle_state.alive(record):
        now = group.oom_kills()
        if now > killed:
            _tell("oom", place.id)
        killed = max(killed, now)
        if time.monotonic() >= due:
            _tell("stats", place.id, as_event(group.stats()))
            due += interval
        time.sleep(min(_LOOK, interval))
    return 0


def _tell(kind: str, identity: str, data: dict[str, Any] | None = None) -> None:
    found = {"type": kind, "id": identity}
    sys.stdout.write(msgspec.json.encode(found | ({"data": data} if data else {})).decode() + "\n")
    sys.stdout.flush()


def _seconds(text: str) -> float:
    """A duration as Go writes it, such as 1m30s or 500ms."""
    rest, total = text, 0.0
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("hms"))]
        rest = rest[len(unit) :]
        if unit not in _UNITS or not number.replace(".", "", 1).isdecimal():
            raise InvalidParameter(f'invalid value "{text}" for flag -interval: time: invalid duration')
        total += float(number) * _UNITS[unit]
    return total
