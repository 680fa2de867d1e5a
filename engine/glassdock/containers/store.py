"""Records on disk: a folder a container, `container.json` inside, looked up by id, prefix or name.

Interface: `Store.load()`, `add`, `save`, `drop`, `get(reference)`, `all()`, `folder(id)`, `new_name()`.

Rules: the index in memory is derived from the folders; a folder without a readable record is a half-made
container and is removed at start. Records are renamed into place without fsync: they survive the daemon's
death, and a machine that loses power loses its containers' processes too (decision 0004).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path

import msgspec

from glassdock.containers.model import Container
from glassdock.errors import Conflict, InvalidParameter, NotFound, from_oserror
from glassdock.paths import Paths, atomic_write, forget_halves
from glassdock.runtime.remains import settle

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_MOODS = (
    "amber bold brisk calm clear crisp deep eager fair glad keen kind light lucid neat open plain quick quiet swift"
)
_THINGS = "anchor beacon bollard bridge buoy crane dock ferry harbor hull jetty keel lantern mast pier quay rudder sail"


class Store:
    """Every container of the engine."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, str] = {}

    def load(self) -> list[Container]:
        """Read all records; removes half-made folders."""
        for folder in self._paths.containers.iterdir():
            try:
                record = msgspec.json.decode((folder / "container.json").read_bytes(), type=Container)
            except (OSError, msgspec.MsgspecError):
                settle(folder / "run")
                shutil.rmtree(folder)
                continue
            forget_halves(folder)
            self._index(record)
        return self.all()

    def all(self) -> list[Container]:
        """Newest first."""
        return sorted(self._by_id.values(), key=lambda container: -container.created)

    def get(self, reference: str) -> Container:
        """By full id, name (with or without /) or unambiguous prefix of the id; raises NotFound, InvalidParameter."""
        if reference in self._by_id:
            return self._by_id[reference]
        name = reference.removeprefix("/")
        if name in self._by_name:
            return self._by_id[self._by_name[name]]
        found = [full for full in self._by_id if full.startswith(reference)] if reference else []
        if len(found) > 1:
            raise InvalidParameter(f"multiple IDs found with provided prefix: {reference}", "Give more of the id.")
        if not found:
            raise NotFound(f"No such container: {reference}", "`ps -a` lists the containers there are.")
        return self._by_id[found[0]]

    def check_name(self, name: str) -> str:
        """A free, valid name; raises InvalidParameter or Conflict in Docker's words."""
        name = name.removeprefix("/")
        if not _NAME.fullmatch(name):
            raise InvalidParameter(
                f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            )
        if name in self._by_name:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{self._by_name[name]}". '
                "You have to remove (or rename) that container to be able to reuse that name.",
                f"`rm -f {name}` removes it.",
            )
        return name

    def new_name(self) -> str:
        """A free name that a person can say."""
        while True:
            name = f"{secrets.choice(_MOODS.split())}_{secrets.choice(_THINGS.split())}"
            if name in self._by_name:
                name += str(secrets.randbelow(10_000))
            if name not in self._by_name:
                return name

    def add(self, container: Container) -> None:
        """Take in a new container: its folder and its record."""
        self._index(container)
        try:
            self.folder(container.id).mkdir(mode=0o710)
            self.save(container)
        except OSError as error:
            self.drop(container)
            raise from_oserror(error, "creating the container") from error
        except BaseException:
            self.drop(container)
            raise

    def save(self, container: Container) -> None:
        """Write the record."""
        path = self.folder(container.id) / "container.json"
        atomic_write(path, msgspec.json.encode(container), sync=False)

    def rename(self, container: Container, name: str) -> None:
        """Give it another name; raises as `check_name` does."""
        if name.removeprefix("/") == container.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        checked = self.check_name(name)
        self._by_name.pop(container.name, None)
        container.name = checked
        self._index(container)
        self.save(container)

    def forget(self, container: Container) -> None:
        """The container is gone with its record; `clear` removes the rest of the folder."""
        self._by_id.pop(container.id, None)
        self._by_name.pop(container.name, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.folder(container.id) / "container.json")

    def clear(self, identity: str) -> None:
        """Remove what a forgotten container left; a folder that was never made is no error."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder(identity))

    def drop(self, container: Container) -> None:
        """Forget and clear: the record goes first, so that a crash leaves a half-made folder, not a lie."""
        self.forget(container)
        self.clear(container.id)

    def folder(self, identity: str) -> Path:
        """The container's own folder."""
        return self._paths.containers / identity

    def _index(self, container: Container) -> None:
        self._by_id[container.id] = container
        self._by_name[container.name] = container.id
