"""`--device` and `--device-cgroup-rule`: which of the machine's devices a container sees, and may use.

Interface:
- `check(host)`: refuses what cannot be read, in Docker's words.
- `nodes(host)`: the devices to provide; StartFailed for one that the machine does not have.
- `rules(host)`: the list of the device cgroup.

Rules: a folder stands for all devices below it. A node keeps the machine's owner and mode, because it is that node.

Source: https://docs.docker.com/reference/cli/docker/container/run/#device
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator

from glassdock.containers import reach
from glassdock.containers.config import HostConfig
from glassdock.errors import InvalidParameter, StartFailed
from glassdock.oci import runtime as oci
from glassdock.runtime import defaults
from glassdock.runtime.stage import reason

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")


def check(host: HostConfig) -> None:
    """Raise InvalidParameter."""
    for device in host.devices or ():
        access = device.get("CgroupPermissions") or "rwm"
        if not set(access) <= set("rwm") or len(set(access)) != len(access):
            raise InvalidParameter(f"invalid device mode: {access}", "Write r, w and m, each once at most.")
        if not (device.get("PathInContainer") or device.get("PathOnHost") or "").startswith("/dev/"):
            path = device.get("PathInContainer") or device.get("PathOnHost") or ""
            raise InvalidParameter(f"device {path!r} must be below /dev")
    for rule in host.device_cgroup_rules or ():
        if not _RULE.fullmatch(rule):
            raise InvalidParameter(f"invalid device cgroup rule format: '{rule}'", "Write for example: c 42:* rwm")


def nodes(host: HostConfig) -> tuple[oci.Device, ...]:
    """What appears in the container's /dev."""
    return tuple(
        oci.Device(inside, kind, os.major(number), os.minor(number)) for inside, kind, number, _ in _found(host)
    )


def rules(host: HostConfig) -> tuple[oci.DeviceRule, ...]:
    """Docker's, then those of the devices, then those that were written out."""
    if host.privileged:
        return (oci.DeviceRule(allow=True),)
    made = [oci.DeviceRule(True, kind, os.major(n), os.minor(n), access) for _, kind, n, access in _found(host)]
    for rule in host.device_cgroup_rules or ():
        found = _RULE.fullmatch(rule)
        assert found is not None, "check has seen it"
        kind, major, minor, access = found.groups()
        first, second = (None if text == "*" else int(text) for text in (major, minor))
        made.append(oci.DeviceRule(True, kind, first, second, access))
    return (*defaults.device_rules(), *made)


def _found(host: HostConfig) -> Iterator[tuple[str, str, int, str]]:
    """(path inside, kind, number, access) of each device."""
    for device in host.devices or ():
        outside = device.get("PathOnHost") or ""
        inside = device.get("PathInContainer") or outside
        access = device.get("CgroupPermissions") or "rwm"
        try:
            found = os.stat(outside)
        except OSError as error:
            words = f'error gathering device information while adding custom device "{outside}": {reason(error)}'
            raise StartFailed(words, errno=error.errno or 0) from error
        if stat.S_ISDIR(found.st_mode):
            for folder, _, names in os.walk(outside):
                for name in sorted(names):
                    path = os.path.join(folder, name)
                    below = os.path.relpath(path, outside)
                    yield from _node(os.lstat(path), f"{inside.rstrip('/')}/{below}", access)
        elif not (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
            words = f'error gathering device information while adding custom device "{outside}": not a device node'
            raise StartFailed(words)
        elif not reach.may_open(found, outside, access):
            words = f'error gathering device information while adding custom device "{outside}": permission denied'
            remedy = "The engine is an ordinary user's: let everybody, or the user who started it, open the device."
            raise StartFailed(words, remedy, errno=errno.EACCES)
        else:
            yield from _node(found, inside, access)


def _node(found: os.stat_result, inside: str, access: str) -> Iterator[tuple[str, str, int, str]]:
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        yield inside, "b" if stat.S_ISBLK(found.st_mode) else "c", found.st_rdev, access
