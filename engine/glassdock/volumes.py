"""Volumes: folders that outlive containers, known by name.

Interface:
- `Volumes(paths, events)`: `load()` and `repair(users)` at start; `create`, `get`, `all`, `remove`, `usage`.
- `hold(name, container)` and `leave(container, ...)`: which containers a volume belongs to.
- `mount(name, container)` and `unmount(container)`: who uses it now; a volume with options is mounted meanwhile.

Rules: `volumes/NAME/` holds `volume.json` and the files in `_data`. A volume appears and goes by one rename, so that a
killed daemon leaves a whole one or none; what begins with a dot is half-made, and the next start removes it. Names are
the users', and checked: no slash, no dot in front. What is held by a container is not removed.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Volume
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from glassdock.errors import Conflict, GlassdockError, InvalidParameter, NotFound
from glassdock.events import Bus
from glassdock.linux.mount import MountFlag, UmountFlag, mount, umount2
from glassdock.paths import Paths, atomic_write
from glassdock.unionfs import trees

ANONYMOUS = "com.docker.volume.anonymous"  # the label by which clients know a volume that nobody named
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_OPTIONS = ("type", "o", "device", "size")
_NEEDS = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
_FLAGS = {
    "ro": MountFlag.RDONLY,
    "nosuid": MountFlag.NOSUID,
    "nodev": MountFlag.NODEV,
    "noexec": MountFlag.NOEXEC,
    "sync": MountFlag.SYNCHRONOUS,
    "dirsync": MountFlag.DIRSYNC,
    "noatime": MountFlag.NOATIME,
    "nodiratime": MountFlag.NODIRATIME,
    "relatime": MountFlag.RELATIME,
    "strictatime": MountFlag.STRICTATIME,
    "bind": MountFlag.BIND,
    "rbind": MountFlag.BIND | MountFlag.REC,
}
_NO_FLAGS = ("", "defaults", "rw", "suid", "dev", "exec", "async", "atime")
_SPREAD = {
    f"{deep}{word}": flag | (MountFlag.REC if deep else MountFlag(0))
    for word, flag in (
        ("private", MountFlag.PRIVATE),
        ("slave", MountFlag.SLAVE),
        ("shared", MountFlag.SHARED),
        ("unbindable", MountFlag.UNBINDABLE),
    )
    for deep in ("", "r")
}
_OCTAL = re.compile(rb"\\([0-7]{3})")


class Volume(msgspec.Struct, frozen=True):
    """One volume's record. `creator` is the container that an anonymous one was made for, as long as it holds it."""

    name: str
    created: int
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    creator: str = ""
    driver: str = "local"

    @property
    def anonymous(self) -> bool:
        """Whether nobody gave it a name."""
        return ANONYMOUS in self.labels


class Volumes:
    """Every volume of the engine."""

    def __init__(self, paths: Paths, events: Bus) -> None:
        self._root = paths.volumes
        self._events = events
        self._found: dict[str, Volume] = {}
        self._holders: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}

    # ---- looking

    def get(self, name: str) -> Volume:
        """The record; raises NotFound in Docker's words."""
        if name not in self._found:
            raise NotFound(f"get {name}: no such volume", "`volume ls` lists the volumes there are.")
        return self._found[name]

    def all(self) -> list[Volume]:
        """All of them, by name."""
        return [self._found[name] for name in sorted(self._found)]

    def data(self, name: str) -> Path:
        """The folder with the files: what a container gets to see."""
        return self._root / name / "_data"

    def holders(self, name: str) -> list[str]:
        """The containers that it belongs to, running or not."""
        return sorted(self._holders.get(name, ()))

    def usage(self, name: str) -> int:
        """The bytes of its files; -1 for one whose files are elsewhere and not mounted now."""
        if self._found[name].options and not _mounts_below(self.data(name)):
            return -1
        try:
            return trees.usage(self.data(name))
        except FileNotFoundError:
            return 0  # it goes while we look

    # ---- making and removing

    def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        creator: str = "",
    ) -> Volume:
        """Make one, or find the one of that name. Raises InvalidParameter, NotFound (driver), Conflict."""
        if driver not in ("", "default", "local"):
            raise NotFound(
                f'error looking up volume plugin {driver}: plugin "{driver}" not found', "There is only `local`."
            )
        if name in self._found:
            return self._found[name]
        labels = dict(labels or {})
        if not name:
            name = secrets.token_hex(32)
            labels.setdefault(ANONYMOUS, "")
        _check_name(name)
        _check_options(options or {})
        made = Volume(name, time.time_ns(), labels, dict(options or {}), creator)
        folder = self._root / f".new-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o711)
        try:
            (folder / "_data").mkdir()
            (folder / "_data").chmod(0o755)
            self._write(folder, made)
            os.rename(folder, self._root / name)
        except BaseException:
            trees.remove(folder)
            raise
        if not creator:
            _sync(self._root)
        self._found[name] = made
        self._events.publish("volume", "create", name, {"driver": made.driver})
        return made

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it and its files. Raises NotFound (not with `force`), Conflict where a container has it."""
        if force and name not in self._found:
            return
        self.get(name)
        if holders := self.holders(name):
            raise Conflict(
                f"remove {name}: volume is in use - [{', '.join(holders)}]", "Remove these containers first."
            )
        await asyncio.to_thread(self.erase, self._take_away(name))

    def _take_away(self, name: str) -> Path:
        """From now on there is no such volume; returns the folder to erase."""
        while _mounts_below(self.data(name)):
            umount2(str(self.data(name)), UmountFlag.DETACH)
        gone = self._root / f".gone-{secrets.token_hex(8)}"
        os.rename(self._root / name, gone)
        volume = self._found.pop(name)
        self._holders.pop(name, None)
        self._events.publish("volume", "destroy", name, {"driver": volume.driver})
        return gone

    def erase(self, folder: Path) -> None:
        """Remove the files of a volume that is gone; what is mounted in there keeps its own."""
        for place in reversed(_mounts_below(folder)):
            umount2(place, UmountFlag.DETACH)
        trees.remove(folder)

    # ---- whose they are

    def hold(self, name: str, container: str) -> None:
        """From now on the volume belongs to the container as well."""
        self._holders.setdefault(name, set()).add(container)

    def leave(self, container: str, anonymous: Collection[str] = (), *, remove: bool) -> list[Path]:
        """The container goes. Those of `anonymous` that nobody else has go too with `remove`; returns what to erase."""
        gone = []
        for name in [name for name, holders in self._holders.items() if container in holders]:
            self._holders[name].discard(container)
            volume = self._found.get(name)
            if volume is None or self._holders[name]:
                continue
            if remove and name in anonymous:
                gone.append(self._take_away(name))
            elif volume.creator:
                # Somebody wants to keep it: it is no leftover of a container that was half made.
                self._found[name] = msgspec.structs.replace(volume, creator="")
                self._write(self._root / name, self._found[name])
        return gone

    # ---- who uses them

    async def mount(self, name: str, container: str, attributes: Mapping[str, str] | None = None) -> Path:
        """Make the files reachable for a container that starts; returns where they are. Raises GlassdockError."""
        volume = self.get(name)
        if volume.options and not self._users.get(name) and not _mounts_below(self.data(name)):
            await asyncio.to_thread(_attach, volume.options, self.data(name))
        self._users.setdefault(name, set()).add(container)
        if attributes is not None:
            told = {"driver": volume.driver, "container": container, **attributes}
            self._events.publish("volume", "mount", name, told)
        return self.data(name)

    def unmount(self, container: str, *, quiet: bool = False) -> None:
        """The container does not use its volumes any more; the last one lets them be unmounted."""
        for name in [name for name, users in self._users.items() if container in users]:
            self._users[name].discard(container)
            if not self._users[name]:
                del self._users[name]
                self._detach(name)
            if not quiet:
                told = {"driver": "local", "container": container}
                self._events.publish("volume", "unmount", name, told)

    def resume(self, name: str, container: str) -> None:
        """A container of an earlier daemon uses it still."""
        self._users.setdefault(name, set()).add(container)

    def _detach(self, name: str) -> None:
        volume = self._found.get(name)
        while volume is not None and volume.options and str(self.data(name)) in _mounts_below(self.data(name)):
            umount2(str(self.data(name)), UmountFlag.DETACH)

    # ---- after the daemon's own death

    def load(self) -> None:
        """Read all records; half-made and half-removed ones go."""
        for folder in self._root.iterdir():
            try:
                volume = msgspec.json.decode((folder / "volume.json").read_bytes(), type=Volume)
            except FileNotFoundError:
                if folder.name.startswith("."):
                    self.erase(folder)
                continue
            if folder.name.startswith("."):
                self.erase(folder)
                continue
            for left in folder.glob(".*"):
                trees.remove(left)
            self._found[volume.name] = volume

    def repair(self, users: Mapping[str, Collection[str]]) -> None:
        """Containers and their volumes, by the containers' records; what was made for one that is not there goes."""
        for container, names in users.items():
            for name in names:
                self.hold(name, container)
        for volume in self.all():
            if volume.creator and volume.creator not in users and not self.holders(volume.name):
                self.erase(self._take_away(volume.name))

    def settle(self) -> None:
        """Once it is known which containers run: unmount what was mounted for others."""
        for volume in self.all():
            if not self._users.get(volume.name):
                self._detach(volume.name)

    def _write(self, folder: Path, volume: Volume) -> None:
        # An anonymous one dies with its container, of which the record is not synced either.
        atomic_write(folder / "volume.json", msgspec.json.encode(volume), sync=not volume.creator)


def _check_name(name: str) -> None:
    if len(name) == 1:
        raise InvalidParameter("volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise InvalidParameter(
            f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
            "allowed. If you intended to pass a host directory, use absolute path"
        )


def _check_options(options: Mapping[str, str]) -> None:
    for option in options:
        if option not in _OPTIONS:
            raise InvalidParameter(f'invalid option: "{option}"', "There are type, o, device.")
        if option == "size":
            raise InvalidParameter("quota size requested but no quota support", "A tmpfs takes o=size=64m.")
        for needed in _NEEDS[option]:
            if needed not in options:
                raise InvalidParameter(f'missing required option: "{needed}"')


def _attach(options: Mapping[str, str], target: Path) -> None:
    """mount(8) on the volume's folder. Raises GlassdockError in Docker's words."""
    device, kind = options.get("device", ""), options.get("type", "")
    flags, spread, data = MountFlag(0), MountFlag(0), []
    for word in options.get("o", "").split(","):
        if word in _SPREAD:
            spread |= _SPREAD[word]
        elif word in _FLAGS:
            flags |= _FLAGS[word]
        elif word not in _NO_FLAGS:
            data.append(_resolved(word) if kind in ("nfs", "nfs4", "cifs") else word)
    text = ",".join(data)
    try:
        mount(device, str(target), kind, flags, text)
        if spread:
            mount(None, str(target), None, spread)
        if MountFlag.BIND in flags and MountFlag.RDONLY in flags:
            mount(None, str(target), None, flags | MountFlag.REMOUNT)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        words = f"mount {device}:{target}, flags: {int(flags):#x}" + (f", data: {text}" if text else "")
        raise GlassdockError(
            f"error while mounting volume '{target}': failed to mount local volume: {words}: "
            f"{reason[:1].lower()}{reason[1:]}",
            "`volume inspect` shows the options; this user has to be allowed to mount it by hand as well.",
        ) from error


def _resolved(word: str) -> str:
    """`addr=HOST` with the address: the kernel asks no name service."""
    key, _, host = word.partition("=")
    if key != "addr":
        return word
    try:
        return f"addr={socket.getaddrinfo(host, None)[0][4][0]}"
    except OSError as error:
        raise GlassdockError(f"error resolving passed in network volume address: {host}: {error}") from error


def _mounts_below(folder: Path) -> list[str]:
    """Where something is mounted on the folder or below it, in the order in which it was mounted."""
    top = os.fsencode(folder)
    with open("/proc/self/mountinfo", "rb") as file:
        places = [_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), line.split(b" ")[4]) for line in file]
    return [os.fsdecode(place) for place in places if place == top or place.startswith(top + b"/")]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
