"""Where things are: the daemon's socket, its state, and the names derived from them.

Interface:
- `socket_path(option)`: `--socket`, else `$GLASSDOCK_HOST`, else the runtime folder of the user.
- `Paths.of(root)`: the state folder and everything in it; `Paths.make()` creates the folders.
- `atomic_write(path, data)`: all of it or nothing, on disk when it returns. `forget_halves(folder)`: remove what one
  that was killed left there.

Rules: nobody else composes a path under the state folder; names come from digests and ids, never from users.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ROOT = Path("/var/lib/glassdock")
_HALF = re.compile(r"\..+\.[a-z0-9_]{8}")  # what `atomic_write` calls a file that is not complete


def socket_path(option: str | None = None) -> Path:
    """The daemon's socket, by option, environment, user (design, section 2)."""
    value = option or os.environ.get("GLASSDOCK_HOST")
    if value:
        return Path(value.removeprefix("unix://")).absolute()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.geteuid() != 0:
        return Path(runtime) / "glassdock" / "engine.sock"
    if os.geteuid() == 0:
        return Path("/run/glassdock/engine.sock")
    return Path(tempfile.gettempdir()) / f"glassdock-{os.geteuid()}" / "engine.sock"


def root_path(option: str | None = None) -> Path:
    """The state folder, by option, environment, user (design, section 2)."""
    value = option or os.environ.get("GLASSDOCK_ROOT")
    if value:
        return Path(value).absolute()
    return DEFAULT_ROOT if os.geteuid() == 0 else Path.home() / ".local/share/glassdock"


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders of one engine. `tag` is "" for the default root, else eight hex digits of the root's path."""

    root: Path

    @classmethod
    def of(cls, root: Path) -> Paths:
        """The folders under `root`, which need not exist yet."""
        return cls(root.absolute())

    @property
    def tag(self) -> str:
        """What sets this engine's bridges and cgroups apart from those of another root."""
        return "" if self.root == DEFAULT_ROOT else hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]

    @property
    def images(self) -> Path:
        """Blobs, image records and tags: owned by `images/`."""
        return self.root / "images"

    @property
    def layers(self) -> Path:
        """Unpacked layers and containers' writable layers: owned by `unionfs/`."""
        return self.root / "layers"

    @property
    def registry(self) -> Path:
        """The course registry's storage: owned by `registry/`."""
        return self.root / "registry"

    @property
    def containers(self) -> Path:
        """A folder a container, named by its id: owned by `containers/`; `run/` inside it by the shim."""
        return self.root / "containers"

    @property
    def networks(self) -> Path:
        """Networks and their address leases: owned by `network/`."""
        return self.root / "networks"

    @property
    def volumes(self) -> Path:
        """Named volumes: owned by `volumes.py`."""
        return self.root / "volumes"

    @property
    def build(self) -> Path:
        """The build cache: owned by `build/`."""
        return self.root / "build"

    @property
    def tmp(self) -> Path:
        """Half-made things; emptied at start."""
        return self.root / "tmp"

    @property
    def isolation(self) -> Path:
        """How the first daemon of an ordinary user could own the files in here: range or single."""
        return self.root / "isolation"

    def make(self) -> None:
        """Create the folders (0710 for the root: image users must not list it)."""
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        for folder in (self.images, self.layers, self.registry, self.containers, self.networks):
            folder.mkdir(mode=0o711, exist_ok=True)
        for folder in (self.volumes, self.build, self.tmp):
            folder.mkdir(mode=0o711, exist_ok=True)


def atomic_write(path: Path, data: bytes, *, mode: int = 0o600, sync: bool = True) -> None:
    """Write `data` to `path` through a temporary neighbour, fsync and rename.

    Raises OSError; the old content is then untouched. `sync=False` where a crash of the machine may lose it.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.rename(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def forget_halves(folder: Path) -> None:
    """Remove what an `atomic_write` that was killed left; nobody writes there meanwhile."""
    for name in os.listdir(folder):
        if _HALF.fullmatch(name):
            (folder / name).unlink(missing_ok=True)
