"""The recordings of containers that are gone: what `docker run --rm` leaves for whoever looks at the run afterwards.

Interface:
- `Told`: `keep(container, trace)`, `find(reference)` by id, by the beginning of an id, or by name (the last of it).

Rules: the last 100 are kept, in memory; nothing else of a removed container is.
"""

from __future__ import annotations

from collections import OrderedDict

from glassdock.containers.model import Container, Trace
from glassdock.errors import NotFound

_KEPT = 100
_SHORTEST = 12


class Told:
    """The last recordings, oldest first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Container, Trace]] = OrderedDict()

    def keep(self, container: Container, trace: Trace) -> None:
        """Keep the recording of a container that is being removed."""
        self._kept[container.id] = (container, trace)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def find(self, reference: str) -> tuple[Container, Trace]:
        """The recording of a removed container; raises NotFound."""
        for container, trace in reversed(self._kept.values()):
            by_id = len(reference) >= _SHORTEST and container.id.startswith(reference)
            if by_id or container.name == reference.removeprefix("/"):
                return container, trace
        raise NotFound(f"No such container: {reference}", "`ps -a` lists the containers there are.")
