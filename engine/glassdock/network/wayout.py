"""The way out of an engine's own network: pasta or slirp4netns, whose sockets are on the machine's.

Interface:
- `WayOut(home, folder, cables)`: `begin(taken)` at a daemon's start, `await ensure(run)` before a container needs it.
- `.dns`: an address inside that leads to the machine's name server; `.problem`: why there is no way out, or "".
- `await close(run)` ends it with the engine, `leave()` leaves it to the containers that run on.

Rules: only for an engine that is not root. Nothing of the machine's loopback can be reached through it. Where neither
program is installed or works, containers still reach each other, and `docker info` says what to install.
Source: pasta(1), slirp4netns(1).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Network
from pathlib import Path

from glassdock import trace
from glassdock.network import keeper
from glassdock.network.home import Home
from glassdock.network.netlink import Socket

DEVICE = "outside"
_TUN = "/dev/net/tun"
_PATIENCE = 5.0
# slirp4netns' own choice first; the machine's must be another, or what is there could not be reached.
_NETWORKS = tuple(IPv4Network(f"10.0.{third}.0/24") for third in range(2, 250))
_NO_WAY = "there is no way out to other machines"
_ADDRESS, _GATEWAY, _DNS = 100, 2, 3  # as in slirp4netns(1)

Run = Callable[[Callable[[], str]], Awaitable[str]]


class WayOut:
    """One engine's way out; `run` carries work to a thread that is at home."""

    def __init__(self, home: Home, folder: Path, cables: str) -> None:
        self.problem = ""
        self.dns = ""
        self._commands: list[list[str]] = []
        self._home = home
        self._cables = cables
        self._lock_file = folder / "way-out.lock"
        self._log = folder / "way-out.log"
        self._held = -1
        self._starting = asyncio.Lock()

    def begin(self, taken: Iterable[IPv4Network]) -> None:
        """Tell a keeper that a daemon lives, and look for a way; `taken` are the machine's networks.

        Waits while a keeper ends, so it is called in a thread.
        """
        self._held = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_SH)
        self._commands = _commands(str(self._home.pin), taken)
        if reason := self._obstacle():
            self.problem = f"{_NO_WAY}: {reason}"

    def _obstacle(self) -> str:
        if self._home.status:
            return "this machine refuses mounts"
        if not os.path.exists(_TUN):
            return f"{_TUN} is missing. Whoever gave you this machine can add the device"
        if not os.access(_TUN, os.R_OK | os.W_OK):
            return f"{_TUN} is not for you. As root: chmod 666 {_TUN}"
        if not self._commands:
            return "neither pasta nor slirp4netns is here. As root: apt-get install passt"
        return ""

    async def ensure(self, run: Run) -> None:
        """Open the way, unless it is open or has been refused."""
        async with self._starting:
            self.dns = await run(_dns_inside)
            if not self.dns and not self.problem:
                with trace.span("network.way_out"):
                    self.problem = await self._open(run)

    async def _open(self, run: Run) -> str:
        answers = []
        for command in self._commands:
            answer = await self._start(command)
            if answer == "open":
                self.dns = await run(_dns_inside)
                return ""
            answers.append(f"{Path(command[0]).name} says: {answer}")
        return f"{_NO_WAY}: {'; '.join(answers)}"

    async def _start(self, command: list[str]) -> str:
        words = [str(self._lock_file), str(self._home.pin), DEVICE, self._cables, str(self._log), *command]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", keeper.__name__, *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            cwd="/",
        )
        told, _ = await process.communicate()
        return told.decode(errors="replace").strip()

    def leave(self) -> None:
        """Let go; the keeper ends the way when the last container has gone."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    async def close(self, run: Run) -> None:
        """End the way, and wait until it is gone."""
        if self._held < 0:
            return
        fcntl.flock(self._held, fcntl.LOCK_UN)
        await run(self._until_gone)
        self.leave()
        for file in (self._lock_file, self._log):
            file.unlink(missing_ok=True)

    def _until_gone(self) -> str:
        """The keeper has the lock while it ends its program, and until it has ended itself."""
        deadline = time.monotonic() + _PATIENCE
        while (keeper.is_open(DEVICE) or not self._alone()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return ""

    def _alone(self) -> bool:
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._held, fcntl.LOCK_UN)
        return True


def _dns_inside() -> str:
    """The address of the name server behind the open way, "" where it is not open."""
    if not keeper.is_open(DEVICE):
        return ""
    with Socket() as door:
        index = socket.if_nametoindex(DEVICE)
        address = next(found for number, found in door.addresses() if number == index)
    return str(address.network.network_address + _DNS)


def _commands(namespace: str, taken: Iterable[IPv4Network]) -> list[list[str]]:
    """The command line of each program that is installed."""
    used = [network for network in taken if network.prefixlen]
    network = next(found for found in _NETWORKS if not any(found.overlaps(other) for other in used))
    return [make(path, namespace, network) for name, make in _PROGRAMS if (path := shutil.which(name, path=_path()))]


def _path() -> str:
    """$PATH, and where Debian puts programs that an ordinary user seldom calls."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _pasta(path: str, namespace: str, network: IPv4Network) -> list[str]:
    first = network.network_address
    return [
        *(path, "--foreground", "--quiet", "--ipv4-only", "--netns-only", "--netns", namespace),
        *("--config-net", "--ns-ifname", DEVICE, "--mtu", "1500"),
        *("--address", str(first + _ADDRESS), "--netmask", str(network.netmask), "--gateway", str(first + _GATEWAY)),
        *("--dns-forward", str(first + _DNS), "--no-map-gw"),
        # Ports are published by the engine: nothing listens by itself, on either side.
        *("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"),
    ]


def _slirp4netns(path: str, namespace: str, network: IPv4Network) -> list[str]:
    options = ("--configure", "--mtu=1500", "--disable-host-loopback", f"--cidr={network}", "--netns-type=path")
    return [path, *options, namespace, DEVICE]


_PROGRAMS = (("pasta", _pasta), ("slirp4netns", _slirp4netns))
