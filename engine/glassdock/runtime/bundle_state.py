"""The record of a container that the runtime's command line made: a folder with its state.json, and what is true now.

Interface:
- `Record`: what state.json holds: the specification's state, and what is needed to find the container again.
- `Place(root, id)`: one container's folder: `claim`, `save`, `read`, `keep`, `kept`, `remove`, `listen`, `connect`.
- `status(place, record)`: creating, created, running, paused or stopped, as the kernel sees it.
- `state(place, record)`: the specification's state as a document; `places(root)`: all containers.

Rules: a container is its first process: its number and the tick at which it began, so that a number that is used again
is never taken for it. What is written is replaced at once (rename).

Source: https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#state
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from dataclasses import dataclass
from typing import Any

import msgspec

from glassdock.errors import Conflict, InvalidParameter, NotFound, StartFailed
from glassdock.oci.runtime import Hooks
from glassdock.runtime import cgroups

_LONGEST_NAME = 1024
_GATE = "start.sock"
_CONFIG = "config.json"


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """state.json. `began` is the process' start in ticks since boot; `ready` is true once `create` has ended well.

    With `own_pids` the end of the first process is that of all.
    """

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
    own_pids: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one container below the runtime's root."""

    root: str
    id: str

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidParameter("container id cannot be empty")
        plain = all(letter.isalnum() or letter in "_+.-" for letter in self.id)
        if not plain or len(self.id) > _LONGEST_NAME or self.id in (".", ".."):
            raise InvalidParameter(f"invalid container ID format: {self.id!r}")

    @property
    def folder(self) -> str:
        """Where it is."""
        return f"{self.root}/{self.id}"

    def claim(self) -> None:
        """Make the folder; raises Conflict where the name is taken."""
        os.makedirs(self.root, 0o700, exist_ok=True)
        try:
            os.mkdir(self.folder, 0o700)
        except FileExistsError:
            raise Conflict("container with given ID already exists") from None

    def save(self, record: Record) -> None:
        """Write state.json."""
        write_at_once(f"{self.folder}/state.json", msgspec.json.encode(record))

    def read(self) -> Record:
        """The record; raises NotFound in runc's words, which those who drive a runtime look for."""
        try:
            with open(f"{self.folder}/state.json", "rb") as file:
                return msgspec.json.decode(file.read(), type=Record)
        except FileNotFoundError:
            raise NotFound("container does not exist") from None

    def keep(self, config: bytes) -> None:
        """The bundle's config.json as it is now: what is changed there later does not concern this container."""
        write_at_once(f"{self.folder}/{_CONFIG}", config)

    def kept(self) -> bytes:
        """The config.json that the container was made from."""
        with open(f"{self.folder}/{_CONFIG}", "rb") as file:
            return file.read()

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        for name in ("state.json", _CONFIG, _GATE):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.folder}/{name}")
        try:
            os.rmdir(self.folder)
        except FileNotFoundError:
            return
        except OSError:  # something else was left in it
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
        return os.path.exists(f"{self.folder}/{_GATE}")

    def open_gate(self) -> None:
        """The container has been started."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.folder}/{_GATE}")

    @contextlib.contextmanager
    def _short(self) -> Any:
        # A socket's path has at most 107 bytes: unix(7).
        folder = os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{folder}"
        finally:
            os.close(folder)


def write_at_once(path: str, data: bytes) -> None:
    """Write a file through a neighbour that takes its place, so that nobody reads half of it."""
    neighbour = f"{path}.{os.getpid()}"
    file = os.open(neighbour, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, data)
    finally:
        os.close(file)
    os.rename(neighbour, path)


def places(root: str) -> list[Place]:
    """Those of all containers, by name."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    return [Place(root, name) for name in names if os.path.exists(f"{root}/{name}/state.json")]


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
    if record.cgroup and cgroups.frozen(record.cgroup):
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
