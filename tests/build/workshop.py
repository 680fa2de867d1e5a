"""What the tests of the build run on: a store with a base image, and a runner that is a chroot in a subprocess.

The runner is the last resort of these tests only: it stands in for `containers.step.Runner`, has a real root from the
real mount and runs real programs, without a network or namespaces. tests/daemon builds with the engine's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from glassdock.build.builder import Builder
from glassdock.build.options import BuildOptions
from glassdock.containers.step import StepRequest
from glassdock.images.model import Image
from glassdock.images.pack import seal
from glassdock.images.store import Store
from glassdock.oci.image import ContainerConfig, History, ImageConfig, RootFS
from glassdock.oci.reference import Reference
from glassdock.paths import Paths
from glassdock.registry.client import Client
from glassdock.unionfs.overlay import Snapshotter
from tests.support import modes

_CHILD = """
import json, msgspec, os, sys, tempfile
from glassdock.linux.clone import CloneFlag, unshare
from glassdock.linux.mount import MountFlag, mount
from glassdock.unionfs.mounts import Mount
given = json.loads(sys.argv[1])
unshare(CloneFlag.NEWNS)
mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
msgspec.convert(given["root"], Mount).apply(given["point"])
os.chroot(given["point"])
os.chdir(given["cwd"])
if given["user"]:
    os.setuid(int(given["user"]))
os.execvpe(given["argv"][0], given["argv"], dict(item.split("=", 1) for item in given["env"]))
"""

APPLETS = ("sh", "cat", "cp", "echo", "env", "false", "id", "ls", "mkdir", "mv", "pwd", "rm", "sleep", "stat", "touch")


@dataclass(slots=True)
class ChrootRunner:
    """Runs a step as root of this machine, changed into the step's root."""

    folder: Path
    requests: list[StepRequest] = field(default_factory=list)

    async def run(self, request: StepRequest) -> int:
        """Run to the end; output comes as it does from the engine."""
        self.requests.append(request)
        point = self.folder / "point"
        point.mkdir()
        given = {
            "root": msgspec.to_builtins(request.root), "cwd": request.cwd, "user": request.user,
            "argv": request.argv, "env": request.env, "point": str(point),
        }  # fmt: skip
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CHILD, json.dumps(given), stdout=-1, stderr=-1, stdin=asyncio.subprocess.DEVNULL
        )
        try:
            out, err = await child.communicate()
        except asyncio.CancelledError:
            child.kill()
            await child.wait()
            raise
        finally:
            point.rmdir()
        request.on_output(1, out)
        request.on_output(2, err)
        return child.returncode or 0


@dataclass(slots=True)
class Workshop:
    """A builder, what it works with, and what it said."""

    paths: Paths
    snapshots: Snapshotter
    store: Store
    runner: ChrootRunner
    registry: Client
    builder: Builder
    said: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> Workshop:
        """Everything under `folder`."""
        paths = Paths.of(folder / "state")
        paths.make()
        snapshots = Snapshotter(paths, modes.driver(paths))
        store = Store(paths, snapshots)
        runner = ChrootRunner(folder)
        registry = Client(mirrors={})
        return cls(paths, snapshots, store, runner, registry, Builder(paths, store, snapshots, registry, runner))

    def image(self, name: str, files: dict[str, str], config: ContainerConfig | None = None) -> Image:
        """An image with static busybox and these files (path to content; a path that ends in / is a directory)."""
        self.snapshots.prepare("making", None)
        root = self.snapshots.upper("making")
        for folder in ("bin", "etc", "tmp", "dev"):
            (root / folder).mkdir()
        shutil.copy("/usr/bin/busybox", root / "bin/busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        for path, content in files.items():
            write(root / path.lstrip("/"), content)
        record = seal(self.snapshots, "making")
        made = "2026-01-01T00:00:00Z"
        history = (History(made, "ADD rootfs.tar /"),)
        document = ImageConfig("amd64", "linux", RootFS((record.diff_id,)), made, config=config or ContainerConfig())
        document = ImageConfig(
            document.architecture, document.os, document.rootfs, made, config=document.config, history=history
        )
        return self.store.create(document, [record], [Reference.parse(name)])

    async def build(self, context: Path, **options: Any) -> Image:
        """Build; what was said is in `said`."""
        self.said.clear()
        return self.store.get(await self.builder.build(context, BuildOptions(**options), self.said.append))

    @property
    def text(self) -> str:
        """The stream as `docker build` prints it."""
        return "".join(line.get("stream", "") for line in self.said)

    def files(self, image: Image) -> dict[str, str]:
        """What the image's layers show, bottom to top, without busybox: path to content, link or kind."""
        shown: dict[str, str] = {}
        for layer in image.layers:
            folder = self.snapshots.layer_path(layer.chain_id)
            for path in sorted(folder.rglob("*")):
                name = "/" + str(path.relative_to(folder))
                status = path.lstat()
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    shown = {
                        key: value for key, value in shown.items() if key != name and not key.startswith(name + "/")
                    }
                elif not name.startswith("/bin"):
                    shown[name] = _content(path, status)
        return shown

    def status(self, image: Image, path: str) -> os.stat_result:
        """The status of a path in the topmost layer that has it, with the owner that the layer says."""
        for layer in reversed(image.layers):
            found = self.snapshots.layer_path(layer.chain_id) / path.lstrip("/")
            if found.is_symlink() or found.exists():
                return modes.status(found)
        raise FileNotFoundError(path)


def _content(path: Path, status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return f"-> {path.readlink()}"
    if stat.S_ISDIR(status.st_mode):
        return "dir"
    return path.read_text() if stat.S_ISREG(status.st_mode) else "special"


def write(path: Path, content: str) -> None:
    """Make a file, a directory (trailing slash in `content`'s place: "dir"), or a link ("-> target")."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if content == "dir":
        path.mkdir()
    elif content.startswith("-> "):
        path.symlink_to(content[3:])
    else:
        path.write_text(content)


def context(folder: Path, dockerfile: str, **files: str) -> Path:
    """A context folder; `files` by name, with `__` for a slash and `_` kept."""
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    for name, content in files.items():
        write(folder / name.replace("__", "/").replace("_dot_", "."), content)
    return folder
