"""Two ways to make layers one root: the kernel's overlay filesystem, and copying where it is refused.

Interface:
- `Driver`: what the snapshotter asks of either. `Overlay()`: the kernel's.
- `choose(paths)`: the one that this machine allows for this state folder; `refusal(folder)`: why not overlay.

Rules: found by doing, once when the engine opens: an overlay is mounted where the layers are, written to and looked at.
What was copied once goes on being copied: `layers/driver` says so.

Source: https://docs.kernel.org/filesystems/overlayfs.html
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from glassdock import trace
from glassdock.linux import ids
from glassdock.linux.clone import CloneFlag, unshare
from glassdock.linux.mount import MountFlag, UmountFlag, mount, umount2
from glassdock.paths import Paths, atomic_write
from glassdock.unionfs import marks, trees
from glassdock.unionfs.copy import Copy
from glassdock.unionfs.mounts import Mount


class Driver(Protocol):
    """How a writable layer, a folder that holds `fs`, stands on the folders of the layers below, topmost first."""

    @property
    def name(self) -> str:
        """`overlay` or `copy`."""

    def fill(self, folder: Path, lowers: tuple[str, ...]) -> None:
        """Put into a new writable layer what it begins with."""

    def mount(self, folder: Path, lowers: tuple[str, ...]) -> Mount:
        """The root, to be written."""

    def view(self, lowers: tuple[str, ...]) -> Mount:
        """The layers alone, to be read."""

    def frozen(self, folder: Path, lowers: tuple[str, ...]) -> Mount:
        """The root, to be read."""

    def changed(self, folder: Path, lowers: tuple[str, ...]) -> AbstractContextManager[Path]:
        """What was changed so far, in the form of a layer, to be read."""

    def finish(self, folder: Path, lowers: tuple[str, ...]) -> Path:
        """The same, when nobody writes any more; it may be corrected before it becomes a layer."""

    def beside(self, folder: Path) -> Path:
        """A folder to write the layer into without looking through to those below."""

    def settle(self, folder: Path, lowers: tuple[str, ...]) -> None:
        """Make `fs` what becomes the layer."""

    def usage(self, folder: Path, lowers: tuple[str, ...]) -> int:
        """The bytes in the files that were changed."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A writable layer is `fs`, the upper folder, and `work`."""

    name: str = "overlay"

    def fill(self, folder: Path, lowers: tuple[str, ...]) -> None:
        """Only the facts of the root's own directory, which are those of the upper folder."""
        above, made = os.stat(lowers[0]), f"{folder}/fs"
        os.chmod(made, above.st_mode & 0o7777)
        if (above.st_uid, above.st_gid) != (0, 0) and os.geteuid() == 0:
            os.chown(made, above.st_uid, above.st_gid)

    def mount(self, folder: Path, lowers: tuple[str, ...]) -> Mount:
        """The overlay."""
        return Mount(lowers, f"{folder}/fs", f"{folder}/work", userxattr=not ids.initial())

    def view(self, lowers: tuple[str, ...]) -> Mount:
        """The overlay without an upper folder."""
        return Mount(lowers, readonly=True, userxattr=not ids.initial())

    def frozen(self, folder: Path, lowers: tuple[str, ...]) -> Mount:
        """The upper folder as one layer more: what is mounted in a running container is no part of it."""
        return Mount((f"{folder}/fs", *lowers), readonly=True, userxattr=not ids.initial())

    @contextlib.contextmanager
    def changed(self, folder: Path, lowers: tuple[str, ...]) -> Iterator[Path]:
        """The upper folder."""
        yield folder / "fs"

    def finish(self, folder: Path, lowers: tuple[str, ...]) -> Path:
        """The upper folder."""
        return folder / "fs"

    def beside(self, folder: Path) -> Path:
        """The upper folder."""
        return folder / "fs"

    def settle(self, folder: Path, lowers: tuple[str, ...]) -> None:
        """It is one already."""

    def usage(self, folder: Path, lowers: tuple[str, ...]) -> int:
        """The bytes in the upper folder."""
        return trees.usage(folder / "fs")


def choose(paths: Paths) -> Driver:
    """The driver for the layers of this state folder; raises OSError where nothing can be written."""
    tmp, kept = paths.layers / "tmp", paths.layers / "driver"
    tmp.mkdir(mode=0o711, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if kept.read_text() == Copy(tmp).name:
            return Copy(tmp)
    if os.geteuid() != 0:
        return Overlay()  # nothing can be unpacked or mounted
    with trace.span("unionfs.choose") as span:
        why = refusal(tmp)
        if span is not None:
            span.attributes["refused"] = why
    if not why:
        return Overlay()
    atomic_write(kept, Copy(tmp).name.encode(), mode=0o644)
    return Copy(tmp)


def refusal(folder: Path) -> str:
    """Why no overlay can be mounted and written in `folder`, "" where one can; nobody else sees the mount."""
    told: list[str] = []

    def look() -> None:
        try:
            told.append(_attempt(folder))
        except OSError as error:
            told.append(f"{error.strerror} ({error.filename})")

    # A thread of its own: once it has left the common mount namespace, it can do nothing else.
    thread = threading.Thread(target=look, name="overlay-probe")
    thread.start()
    thread.join()
    return told[0]


def _attempt(folder: Path) -> str:
    made = Path(tempfile.mkdtemp(prefix="probe-", dir=folder))
    try:
        for name in ("lower/sub", "lower2", "fs", "work", "point"):
            (made / name).mkdir(parents=True)
        (made / "lower/file").write_text("below")
        unshare(CloneFlag.NEWNS)
        mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
        Overlay().mount(made, (str(made / "lower"), str(made / "lower2"))).apply(str(made / "point"))
        try:
            (made / "point/file").unlink()
            (made / "point/sub").rmdir()
            (made / "point/sub").mkdir()
        finally:
            umount2(str(made / "point"), UmountFlag.DETACH)
        if not marks.is_opaque(os.fsencode(made / "fs/sub")):
            return "its marks cannot be written there: no extended attributes"
        return ""
    finally:
        trees.remove(made)
