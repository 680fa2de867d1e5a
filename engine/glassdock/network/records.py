"""The networks' records on disk: one JSON file each, written whole or not at all.

Interface:
- `Records(folder, tag)`: reads what is there and adds Docker's three default networks.
- `find(name)`: by name, id or unambiguous beginning of an id; `all()`; `put(network)`, `remove(network)`.

Rules: who is plugged in and what does not work are never written: the kernel knows both better.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import msgspec

from glassdock.errors import Corrupt, NotFound
from glassdock.network.model import Network
from glassdock.paths import atomic_write, forget_halves

_DEFAULTS = {"bridge": "bridge", "host": "host", "none": "null"}


class Records:
    """Every network that the engine knows, by name."""

    def __init__(self, folder: Path, tag: str) -> None:
        self._folder = folder
        self._by_name: dict[str, Network] = {}
        forget_halves(folder)
        for path in sorted(folder.glob("*.json")):
            record = _read(path)
            self._by_name[record.name] = record
        bridge = f"gd{tag}" if tag else "glassdock0"
        for name, driver in _DEFAULTS.items():
            if name not in self._by_name:
                interface = bridge if driver == "bridge" else ""
                self.put(Network(secrets.token_hex(32), name, driver, interface=interface, created=time.time_ns()))

    def all(self) -> list[Network]:
        """Every record, oldest first."""
        return sorted(self._by_name.values(), key=lambda network: network.created)

    def put(self, network: Network) -> None:
        """Keep a record, on disk where what is kept there changed."""
        before = self._by_name.get(network.name)
        self._by_name[network.name] = network
        if before is None or _kept(before) != _kept(network):
            atomic_write(self._folder / f"{network.id}.json", msgspec.json.encode(_kept(network)))

    def remove(self, network: Network) -> None:
        """Forget a record."""
        self._by_name.pop(network.name, None)
        (self._folder / f"{network.id}.json").unlink(missing_ok=True)

    def find(self, name: str) -> Network:
        """The record of that name, id or beginning of an id; raises NotFound."""
        wanted = "bridge" if name == "default" else name
        if wanted in self._by_name:
            return self._by_name[wanted]
        found = [record for record in self._by_name.values() if wanted and record.id.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFound(f"network {name} is ambiguous ({len(found)} matches found based on ID prefix)")
        raise NotFound(f"network {name} not found", "`glassdock network ls` lists the networks.")


def _kept(network: Network) -> Network:
    return msgspec.structs.replace(network, containers=(), status="")


def _read(path: Path) -> Network:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Network)
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"the network record {path} cannot be read: {error}", "Delete the file: it is made anew."
        ) from error
