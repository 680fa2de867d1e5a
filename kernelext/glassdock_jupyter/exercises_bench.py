"""What a check can see: the engine's state, and nothing that the learner typed or printed.

Interface (for `check.py` and `start.py`):
- `Bench`: `.values` (the learner's names and numbers), `.client` (the docker SDK); `.container(name)`, `.image(name)`,
  each None where there is none; `.settled(name)`, a container that has ended or lived a while;
  `.written(container, path)`, what it has written itself; `.build(name, files)` and `.labels` for a start.
- `SeenContainer`: `.running`, `.exit_code`, `.pid`, `.environment` and `.arguments` of the live process from /proc.
- `SeenImage`: `.layers`, `.read(path)` (the merged view), `.holds(path)` (every layer that has the bytes on disk).
- `Finding(ok, claim, saw, expected, why)`: one line of a report.

Rules: reading never changes what is read. A path inside a layer is walked without following links.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glassdock.client import extra
from glassdock.paths import Paths
from glassdock.unionfs.overlay import Snapshotter
from glassdock_jupyter.exercises_catalog import Text

_A_MOMENT = 1.0
_MODIFIED, _ADDED = 0, 1  # the kinds of `docker diff`
LABEL = "glassdock.exercise"
"""What a start puts on everything that it makes, so that a reset finds it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim about the engine's state: whether it holds, what was seen, what was expected, why it matters."""

    ok: bool
    claim: Text
    saw: Text
    expected: Text
    why: Text


@dataclass(frozen=True, slots=True)
class SeenContainer:
    """A container as `docker inspect` has it, and its process as the kernel has it."""

    attributes: Mapping[str, Any]

    @property
    def id(self) -> str:
        """All 64 digits."""
        return str(self.attributes["Id"])

    @property
    def status(self) -> str:
        """created, running, exited, ..."""
        return str(self.attributes["State"]["Status"])

    @property
    def running(self) -> bool:
        """Whether its first process is there, asked of the kernel and not only of the engine."""
        return self.status == "running" and self.pid > 0 and Path(f"/proc/{self.pid}").exists()

    @property
    def ever_started(self) -> bool:
        """Whether it has been started at least once."""
        return not str(self.attributes["State"]["StartedAt"]).startswith("0001")

    @property
    def exit_code(self) -> int:
        """How the last run ended; 0 before the first end."""
        return int(self.attributes["State"]["ExitCode"])

    @property
    def pid(self) -> int:
        """The first process, in the host's numbers; 0 when there is none."""
        return int(self.attributes["State"]["Pid"])

    @property
    def image_id(self) -> str:
        """The image that it was made from."""
        return str(self.attributes["Image"])

    @property
    def command(self) -> list[str]:
        """The program and its arguments, as the container was made with."""
        return [str(self.attributes["Path"]), *map(str, self.attributes["Args"])]

    @property
    def environment(self) -> dict[str, str]:
        """The live process's environment; what it was made with, where it does not run."""
        if self.running:
            rows = _proc(self.pid, "environ")
        else:
            rows = list(map(str, self.attributes["Config"]["Env"] or []))
        return {key: value for key, _, value in (row.partition("=") for row in rows)}

    @property
    def arguments(self) -> list[str]:
        """The live process's arguments; empty where it does not run."""
        return _proc(self.pid, "cmdline") if self.running else []


@dataclass(frozen=True, slots=True)
class SeenLayer:
    """One layer of an image on disk. `size` counts its bytes; the paths are absolute, as a container sees them."""

    diff_id: str
    size: int
    created_by: str
    folder: Path

    def bytes_at(self, path: str) -> bytes | None:
        """The file that this layer alone has at `path`; None where it has none, or a whiteout."""
        place = self._place(path)
        if place is None or not place.is_file() or place.is_symlink():
            return None
        return place.read_bytes()

    def mode_at(self, path: str) -> int | None:
        """The permission bits of the file that this layer alone has at `path`."""
        place = self._place(path)
        return stat.S_IMODE(place.lstat().st_mode) if place is not None and place.is_file() else None

    def hides(self, path: str) -> bool:
        """Whether a whiteout here, or on a folder above, hides what the layers below have at `path`."""
        place = self.folder
        for part in Path(path.lstrip("/")).parts:
            place = place / part
            if _is_whiteout(place):
                return True
            if place.is_symlink() or not place.exists():
                return False
            if place.is_dir() and _is_opaque(place):
                return True
        return False

    def _place(self, path: str) -> Path | None:
        place = self.folder
        for part in Path(path.lstrip("/")).parts:
            place = place / part
            if place.is_symlink() or not place.exists() or _is_whiteout(place):
                return None
        return place


@dataclass(frozen=True, slots=True)
class SeenImage:
    """An image as `docker inspect` has it, and its layers as they lie on disk, lowest first."""

    attributes: Mapping[str, Any]
    layers: tuple[SeenLayer, ...]

    @property
    def id(self) -> str:
        """The digest of its config, with `sha256:`."""
        return str(self.attributes["Id"])

    def read(self, path: str) -> bytes | None:
        """The file at `path` in the merged view; None where there is none."""
        for layer in reversed(self.layers):
            data = layer.bytes_at(path)
            if data is not None:
                return data
            if layer.hides(path):
                return None
        return None

    def mode(self, path: str) -> int | None:
        """The permission bits at `path` in the merged view; None where there is no file."""
        for layer in reversed(self.layers):
            if layer.bytes_at(path) is not None:
                return layer.mode_at(path)
            if layer.hides(path):
                return None
        return None

    def holds(self, path: str) -> list[SeenLayer]:
        """Every layer whose bytes at `path` are on the disk, hidden or not."""
        return [layer for layer in self.layers if layer.bytes_at(path) is not None]

    def built_on(self, other: SeenImage) -> bool:
        """Whether all layers of `other` are at the bottom of this image."""
        mine = [layer.diff_id for layer in self.layers[: len(other.layers)]]
        return mine == [layer.diff_id for layer in other.layers]


@dataclass(frozen=True, slots=True)
class Bench:
    """One engine, seen for one learner."""

    client: Any
    values: Mapping[str, str]
    exercise: str

    @property
    def labels(self) -> dict[str, str]:
        """What a start puts on its containers and images."""
        return {LABEL: self.exercise}

    def container(self, name: str) -> SeenContainer | None:
        """The container of that name or id."""
        from docker.errors import NotFound

        try:
            return SeenContainer(self.client.api.inspect_container(name))
        except NotFound:
            return None

    def settled(self, name: str) -> SeenContainer | None:
        """The container once it has ended or has lived for a second: what is just starting proves nothing yet."""
        deadline = time.monotonic() + _A_MOMENT
        while (seen := self.container(name)) is not None and seen.running and time.monotonic() < deadline:
            time.sleep(_A_MOMENT / 10)
        return seen

    def image(self, name: str) -> SeenImage | None:
        """The image of that name or id."""
        from docker.errors import NotFound

        try:
            attributes = self.client.api.inspect_image(name)
        except NotFound:
            return None
        snapshots = self._snapshotter()
        rows = [row for row in self._extra(f"images/{attributes['Id']}/layers")["layers"] if not row["empty"]]
        layers = tuple(
            SeenLayer(row["diff_id"], int(row["size"]), row["created_by"], snapshots.layer_path(row["chain_id"]))
            for row in rows
        )
        return SeenImage(attributes, layers)

    def build(self, name: str, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Build an image from files (path to bytes and mode), one of them the Dockerfile. For `start.py`."""
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for path, (data, mode) in files.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(data), mode
                archive.addfile(entry, io.BytesIO(data))
        context.seek(0)
        self.client.images.build(fileobj=context, custom_context=True, tag=name, rm=True)

    def written(self, container: SeenContainer, path: str) -> bytes | None:
        """The file that the container itself has written at `path`, as `docker diff` has it; None where it has none."""
        changes = self.client.api.diff(container.id) or []
        if not any(change["Path"] == path and change["Kind"] in (_MODIFIED, _ADDED) for change in changes):
            return None
        chunks, _ = self.client.api.get_archive(container.id, path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            file = archive.extractfile(archive.next() or tarfile.TarInfo())
            return file.read() if file else None

    def _snapshotter(self) -> Snapshotter:
        return Snapshotter(Paths.of(Path(self._extra("status")["root"])))

    def _extra(self, path: str) -> dict[str, Any]:
        return cast("dict[str, Any]", extra(self.client, path))


def _proc(pid: int, file: str) -> list[str]:
    try:
        data = Path(f"/proc/{pid}/{file}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [part.decode(errors="replace") for part in data.split(b"\0") if part]


def _is_whiteout(place: Path) -> bool:
    """Overlay's whiteout (a character device 0:0) or an archive's (`.wh.name` beside it)."""
    try:
        found = place.lstat()
    except FileNotFoundError:
        return place.with_name(f".wh.{place.name}").exists()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _is_opaque(place: Path) -> bool:
    if (place / ".wh..wh..opq").exists():
        return True
    for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
        try:
            if os.getxattr(place, name) == b"y":
                return True
        except OSError:
            continue
    return False
