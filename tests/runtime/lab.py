"""A place for runtime tests: a root filesystem of busybox, a launcher, and short ways to start what is wanted.

Interface: `Lab`: `request()`, `start()`, `run()`, `do()`; `Result`.

Rules: real processes in real namespaces and cgroups. The event loop is the lab's own, so that one launcher serves all
tests of the session; it keeps no shims ready, because those would look like leaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from glassdock.linux import ids
from glassdock.oci.runtime import Linux, Pids, Process, Resources, Root, Spec
from glassdock.oci.runtime import Mount as MountEntry
from glassdock.paths import Paths
from glassdock.runtime import capabilities, cgroups, defaults, launch, seccomp_profile
from glassdock.runtime.launch import Attach, ExitStatus, Launcher, LaunchRequest
from glassdock.runtime.remains import settle
from glassdock.unionfs.mounts import Mount

T = TypeVar("T")

PASSWD = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000:Ada:/home/ada:/bin/sh\n"
GROUP = "root:x:0:\nada:x:1000:\nmath:x:2000:ada\npoets:x:2001:ada,bob\n"


@dataclass(frozen=True)
class Result:
    """How a container ended and what it wrote."""

    status: ExitStatus
    out: str
    err: str

    @property
    def code(self) -> int:
        return self.status.code


class Lab:
    """One engine's worth of runtime under `root`."""

    def __init__(self, root: Path, ready: int = 0) -> None:
        self.paths = Paths.of(root)
        self.parent = defaults.cgroup_parent(self.paths)
        self.lower = root / "lower"
        make_root(self.lower)
        self.loop = asyncio.new_event_loop()
        self.launcher = self.do(Launcher.start(self.paths, ready=ready))

    def do(self, what: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the lab's loop; nothing may take longer than half a minute."""
        return self.loop.run_until_complete(asyncio.wait_for(what, 30))

    def close(self) -> None:
        self.do(self.launcher.close())
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """A container's folder, removed afterwards."""
        folder = self.paths.root / uuid.uuid4().hex
        for name in ("run", "upper", "work"):
            (folder / name).mkdir(parents=True)
        try:
            yield folder
        finally:
            settle(folder / "run")
            shutil.rmtree(folder)

    def request(
        self,
        folder: Path,
        *args: str,
        process: dict[str, Any] | None = None,
        linux: dict[str, Any] | None = None,
        mounts: tuple[MountEntry, ...] = (),
        spec: dict[str, Any] | None = None,
        **rest: Any,
    ) -> LaunchRequest:
        """What `docker run` would ask for, with changes; the log is `folder/log`."""
        identity = folder.name * 2
        caps = capabilities.sets(capabilities.DEFAULT)
        body = Process(args=args, env=("PATH=/bin",), cwd="/", capabilities=caps)
        kernel = Linux(
            namespaces=defaults.namespaces(network=False),
            cgroups_path="" if cgroups.unavailable() else f"{self.parent}/{identity}",
            resources=Resources(defaults.device_rules(), pids=None if cgroups.unavailable() else Pids(200)),
            seccomp=seccomp_profile.default_profile(capabilities.DEFAULT),
            masked_paths=defaults.masked_paths(),
            readonly_paths=defaults.readonly_paths(),
        )
        whole = Spec(
            process=msgspec.structs.replace(body, **(process or {})),
            root=Root(),
            hostname="lab",
            mounts=defaults.mounts() + mounts,
            linux=msgspec.structs.replace(kernel, **(linux or {})),
        )
        wanted: dict[str, Any] = {
            "id": identity,
            "run_dir": str(folder / "run"),
            "spec": msgspec.structs.replace(whole, **(spec or {})),
            "root": self.root(folder),
            "log_path": str(folder / "log"),
        }
        return LaunchRequest(**(wanted | rest))

    def root(self, folder: Path) -> Mount:
        """The lab's files with a writable layer in `folder`."""
        return Mount((str(self.lower),), str(folder / "upper"), str(folder / "work"), userxattr=not ids.initial())

    def start(self, request: LaunchRequest, attach: Sequence[Attach] = (), netns: int | None = None) -> launch.Process:
        """Launch it."""
        return self.do(self.launcher.launch(request, netns=netns, attach=attach))

    def run(self, *args: str, **changes: Any) -> Result:
        """Launch, wait, and read the log."""
        with self.folder() as folder:
            process = self.start(self.request(folder, *args, **changes))
            status = self.do(process.wait())
            return Result(status, *read_log(folder / "log"))

    def cgroups(self) -> list[str]:
        """The groups of containers that exist now, in any hierarchy."""
        found = []
        for top in ("/sys/fs/cgroup", *(f"/sys/fs/cgroup/{name}" for name in os.listdir("/sys/fs/cgroup"))):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                paths = [f"{top}{self.parent}/{name}" for name in os.listdir(top + self.parent)]
                found += [path for path in paths if os.path.isdir(path)]
        return found


def parents_left(parent: str) -> list[str]:
    """Where an engine's own group still is, in any hierarchy."""
    tops = ["/sys/fs/cgroup", *(entry.path for entry in os.scandir("/sys/fs/cgroup") if entry.is_dir())]
    return [top + parent for top in tops if os.path.isdir(top + parent)]


def make_root(root: Path) -> None:
    """A root filesystem: busybox under all its names, and two users."""
    for name in ("bin", "etc", "tmp", "root", "home/ada"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    busybox = shutil.which("busybox")
    assert busybox, "these tests need busybox-static"
    shutil.copy(busybox, root / "bin/busybox")
    for name in subprocess.check_output([busybox, "--list"], text=True).split():
        if name != "busybox":
            os.symlink("busybox", root / "bin" / name)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)


def read_log(path: Path) -> tuple[str, str]:
    """(stdout, stderr) of a json-file log."""
    entries = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    out, err = ("".join(row["log"] for row in entries if row["stream"] == name) for name in ("stdout", "stderr"))
    return out, err


def pair() -> tuple[socket.socket, socket.socket]:
    """A stream socketpair: (ours with a timeout, the shim's)."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    return ours, theirs


def read_all(sock: socket.socket) -> bytes:
    """Until the other side closes."""
    found = b""
    while chunk := sock.recv(1 << 16):
        found += chunk
    return found


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Docker's frames: (stream, bytes)."""
    found = []
    while data:
        length = int.from_bytes(data[4:8], "big")
        found.append((data[0], data[8 : 8 + length]))
        data = data[8 + length :]
    return found


def joined(data: bytes, stream: int) -> bytes:
    """All bytes of one stream out of frames."""
    return b"".join(part for number, part in frames(data) if number == stream)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until it holds, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """True for a process that is there and is not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
