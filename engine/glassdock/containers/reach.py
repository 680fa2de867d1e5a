"""What an ordinary user's engine cannot do for a container, said before it starts.

Interface:
- `warnings(host, names)`: a sentence each; `names` are the container's capabilities.
- `processes()`: the limit on processes of a container that asks for none; None where a cgroup can be asked for one.
- `may_open(found, path, access)`: whether a container could open this device.
- `told()`: what `docker info` says.

Rules: for root nothing of this is said.

Source: user_namespaces(7), https://docs.docker.com/engine/security/rootless/#known-limitations
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from glassdock.containers.config import HostConfig
from glassdock.linux import ids, userns
from glassdock.runtime import cgroups, counted

_MOST = 8192
_PRIVILEGED = (
    "--privileged reaches as far as the user who started the engine: all capabilities over what is the engine's own, "
    "its mounts and networks, and none over the machine, its devices and its settings."
)


def warnings(host: HostConfig, names: Iterable[str]) -> list[str]:
    """What a client is told at create."""
    if ids.initial():
        return []
    found = [_PRIVILEGED] if host.privileged else []
    if cgroups.unavailable() and (host.pids_limit or 0) > 0:
        if not counted.kept(names):
            found.append(
                "PIDs limit discarded: without a cgroup it needs a user namespace of the container's own, in which the "
                "capabilities that were asked for would be worth nothing."
            )
        elif "CAP_NET_RAW" in names:
            found.append(
                "Without a cgroup the PIDs limit is kept by a user namespace, in which there are no raw sockets."
            )
    return found


def processes() -> int | None:
    """Together with all other containers of its engine: a fork bomb leaves room for the engine to end it."""
    if ids.initial() or not cgroups.unavailable():
        return None
    return min(_MOST, userns.most_processes() * 3 // 4)


def may_open(found: os.stat_result, path: str, access: str) -> bool:
    """For reading or writing, whichever is asked for. Root may; who is root of a user namespace alone may not."""
    wanted = os.R_OK * ("r" in access) | os.W_OK * ("w" in access)
    if ids.initial() or not wanted:
        return True
    if not ids.mapping().setgroups:  # the user's groups stay with all that the engine starts
        return any(os.access(path, bit) for bit in (os.R_OK, os.W_OK) if wanted & bit)
    bits = found.st_mode >> 6 if found.st_uid == 0 else found.st_mode
    return bool(bits & wanted)


def told() -> list[str]:
    """Where no cgroup is delegated."""
    if ids.initial() or not (reason := cgroups.unavailable()):
        return []
    others = f"containers without one have {processes()} together"
    return [f"{reason}: nothing limits memory and CPU; a limit on processes is kept by a user namespace, {others}"]
