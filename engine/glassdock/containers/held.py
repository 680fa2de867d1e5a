"""What the verbs of a container share: the records, what is held beside them while the daemon lives, and the events.

Interface:
- `Held(parts)`: `.store`, `.parts`, `.told`, `.mounting`; `get`, `of(container)`, `folder`, `log_path`,
  `save`, `event`.

Rules: no verb is decided here; `manager.py`, `runs.py`, `removal.py`, `repair.py`, `execs.py` and `health.py` are.
"""

from __future__ import annotations

from pathlib import Path

from glassdock.containers.model import Container
from glassdock.containers.mounting import Mounting
from glassdock.containers.parts import Live, Parts
from glassdock.containers.store import Store
from glassdock.containers.told import Told


class Held:
    """Every container of the engine, as the verbs see it."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.store = Store(parts.paths)
        self.told = Told()
        self.mounting = Mounting(parts)
        self.live: dict[str, Live] = {}

    def get(self, reference: str) -> Container:
        """The record by id, prefix or name; raises NotFound."""
        return self.store.get(reference)

    def of(self, container: Container) -> Live:
        """What is held of it while the daemon lives."""
        return self.live.setdefault(container.id, Live())

    def folder(self, container: Container) -> Path:
        """The container's own folder: record, log, hosts, run/."""
        return self.store.folder(container.id)

    def log_path(self, container: Container) -> Path:
        """Docker's json-file log."""
        return self.folder(container) / f"{container.id}-json.log"

    def save(self, container: Container) -> None:
        """Write the record."""
        self.store.save(container)

    def event(self, action: str, container: Container, **more: str) -> None:
        """Tell who listens to the engine's events what happened to it."""
        attributes = {**(container.config.labels or {}), "image": container.config.image, "name": container.name}
        self.parts.events.publish("container", action, container.id, {**attributes, **more})
