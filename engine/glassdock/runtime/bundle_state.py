"""The record of a container that the runtime's command line made: a folder with its state.json, and what is true now.

Interface:
- `Record`: what state.json holds: the specification's state, and what is needed to find the container again.
- `Place(root, id)`: the folder of one container: `claim`, `save`, `read`, `remove`, `listen`, `connect`.
- `status(place, record)`: creating, created, running, paused or stopped, as the kernel sees it.
- `state(place, record)`: the specification's state as a document; `places(root)`: all containers.

Rules: a container is its first process: its number and the tick at which it began, so that a number that is used again
is never taken for it. What is written is replaced at once (rename).

Source: https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#state
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from glassdock.errors import Conflict, InvalidParameter, NotFound, StartFailed
from glassdock.oci.runtime import Hooks
from glassdock.paths import atomic_write
from glassdock.runtime import cgroups

_NAME = re.compile(r"[\w+.-]{1,1024}")
_GATE = "start.sock"


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """state.json. `began` is the process' start in ticks since boot; `ready` is true once `create` has ended well."""

    oci_version: str
    id: str
    status: str
    pid: int
    bundle: str
    annotations: dict[str, str]
    rootfs: str
    created: str
    began: int = 0
    ready: bool = False
    cgroup: str = ""
    hooks: Hooks | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one container below the runtime's root."""

    root: Path
    id: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.id) or self.id in (".", ".."):
            raise InvalidParameter(f"invalid container ID format: {self.id!r}")

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.root / self.id

    def claim(self) -> None:
        """Make the folder; raises Conflict where the name is taken."""
        self.root.mkdir(0o700, parents=True, exist_ok=True)
        try:
            self.folder.mkdir(0o700)
        except FileExistsError:
            raise Conflict("container with given ID already exists") from None

    def save(self, record: Record) -> None:
        """Write state.json."""
        atomic_write(self.folder / "state.json", msgspec.json.encode(record), sync=False)

    def read(self) -> Record:
        """The record; raises NotFound in runc's words, which those who drive a runtime look for."""
        try:
            return msgspec.json.decode((self.folder / "state.json").read_bytes(), type=Record)
        except FileNotFoundError:
            raise NotFound("container does not exist") from None

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def listen(self) -> socket.socket:
        """The gate at which the first process waits for `start`."""
        gate = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._short() as short:
            gate.bind(f"{short}/{_GATE}")
        gate.listen(1)
        return gate

    def connect(self) -> socket.socket:
        """Knock at the gate; raises StartFailed where nobody waits behind it."""
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with self._short() as short:
                ours.connect(f"{short}/{_GATE}")
        except OSError as error:
            ours.close()
            raise StartFailed("cannot start an already running container", errno=error.errno or 0) from error
        return ours

    def waits(self) -> bool:
        """True while nobody has opened the gate."""
        return (self.folder / _GATE).exists()

    def open_gate(self) -> None:
        """The container has been started."""
        (self.folder / _GATE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _short(self) -> Any:
        # A socket's path has at most 107 bytes: unix(7).
        folder = os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{folder}"
        finally:
            os.close(folder)


def places(root: Path) -> list[Place]:
    """Those of all containers, by name."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    return [Place(root, name) for name in names if (root / name / "state.json").exists()]


def began(pid: int) -> int:
    """The tick at which a process began; 0 for one that is not there or waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def alive(record: Record) -> bool:
    """True while the container's first process runs."""
    return record.pid > 0 and record.began > 0 and began(record.pid) == record.began


def send(record: Record, number: int) -> None:
    """Send the first process a signal; raises ProcessLookupError when it has ended."""
    descriptor = os.pidfd_open(record.pid)
    try:
        if not alive(record):
            raise ProcessLookupError
        signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)


def status(place: Place, record: Record) -> str:
    """What it is doing now."""
    if not alive(record):
        return "stopped"
    if not record.ready:
        return "creating"
    if record.cgroup and _frozen(record.cgroup):
        return "paused"
    return "created" if place.waits() else "running"


def state(place: Place, record: Record) -> dict[str, Any]:
    """The specification's state; a stopped container has no process."""
    now = status(place, record)
    found = {
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": 0 if now == "stopped" else record.pid,
        "status": now,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "owner": "",
    }
    return found | ({"annotations": record.annotations} if record.annotations else {})


def _frozen(path: str) -> bool:
    layout = cgroups.layout()
    tops = [f"{folder}{path}/freezer.state" for _, folder, controllers in layout.v1 if "freezer" in controllers]
    for file in tops or [f"{layout.unified}{path}/cgroup.freeze"]:
        with contextlib.suppress(FileNotFoundError):
            return Path(file).read_text(encoding="utf-8").strip() in ("FROZEN", "FREEZING", "1")
    return False
