"""The verbs on volumes.

Interface:
- `Create`, `List`, `Remove`, `Prune`: frozen dataclasses with `do(session)`; `inspect` is `containers.Inspect`'s.

Source: https://docs.docker.com/reference/cli/docker/volume/
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from glassdock import errors
from glassdock.client.containers import Rows, each, filter_map
from glassdock.client.mapping import mapped
from glassdock.client.session import Session


@dataclass(frozen=True, slots=True)
class Create:
    """`docker volume create`; without a name the volume is anonymous."""

    name: str = ""
    driver: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def do(self, session: Session) -> tuple[str, ...]:
        """The name of the volume."""
        with mapped(session.address):
            made = session.api.create_volume(
                self.name or None, driver=self.driver, driver_opts=dict(self.options), labels=dict(self.labels)
            )
        return (str(made["Name"]),)


@dataclass(frozen=True, slots=True)
class List:
    """`docker volume ls`; `filters` are Docker's KEY=VALUE words."""

    filters: tuple[str, ...] = ()

    def do(self, session: Session) -> Rows:
        """The volumes, by name."""
        with mapped(session.address):
            found = session.api.volumes(filters=filter_map(self.filters))
        return Rows("volume", tuple(found.get("Volumes") or ()))


@dataclass(frozen=True, slots=True)
class Remove:
    """`docker volume rm`; `force` is silent about what is not there."""

    names: tuple[str, ...]
    force: bool = False

    def do(self, session: Session) -> tuple[str, ...]:
        """The names that were removed."""

        def remove(name: str) -> None:
            silent = contextlib.suppress(errors.NotFound) if self.force else contextlib.nullcontext()
            with silent, mapped(session.address):
                session.api.remove_volume(name, force=self.force)

        return each(self.names, session, remove)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, and the bytes that it gave back."""

    names: tuple[str, ...]
    space: int


@dataclass(frozen=True, slots=True)
class Prune:
    """`docker volume prune`: anonymous volumes that no container has, with `everything` named ones as well."""

    everything: bool = False
    filters: tuple[str, ...] = ()

    def do(self, session: Session) -> Pruned:
        """What was removed."""
        filters = filter_map((*self.filters, *(("all=true",) if self.everything else ())))
        with mapped(session.address):
            found = session.api.prune_volumes(filters=filters)
        return Pruned(tuple(found.get("VolumesDeleted") or ()), int(found.get("SpaceReclaimed") or 0))
