"""Snapshots: one folder a layer, stacked by a mount of the kernel's overlay filesystem, or copied where it is refused.

Interface:
- `Snapshotter(paths, driver)`: `has`, `unpacking`, `prepare`, `mount_of`, `view`, `commit`, `remove`, `repair`,
  `warm` (writable layers made ahead), `usage`; the folders: `upper`, `layer_path`, `chain`, `parent`, `base`, `keys`;
  what a writable layer has changed, in the form of a layer: `changed`, `finish`, `beside`; all of it: `frozen`.

Rules: see the package's docstring. The state is the folders themselves, there is no index that could disagree:

    layers/chains/<hex>/fs, parent        a layer, and the chain id below it ("" for the lowest)
    layers/active/<key>/fs, work, parent  a writable layer (its driver may keep more there: copy.py)
    layers/driver                         `copy` where roots are copied
    layers/empty                          the lower of a snapshot from scratch
    layers/tmp/                           half-made things

Source: https://docs.kernel.org/filesystems/overlayfs.html
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from glassdock import trace
from glassdock.errors import Conflict, InvalidParameter, NotFound, from_oserror
from glassdock.linux import ids
from glassdock.oci import digest as digests
from glassdock.paths import Paths
from glassdock.unionfs import trees
from glassdock.unionfs.drivers import Driver, Overlay
from glassdock.unionfs.mounts import Mount

_SEARCHABLE = 0o711
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class Snapshotter:
    """The layers and writable layers of one engine. Safe to use from several threads."""

    def __init__(self, paths: Paths, driver: Driver | None = None) -> None:
        self.driver = driver or Overlay()
        self._chains = paths.layers / "chains"
        self._active = paths.layers / "active"
        self._tmp = paths.layers / "tmp"
        self._empty = paths.layers / "empty"
        for folder in (self._chains, self._active, self._tmp, self._empty):
            folder.mkdir(mode=0o711 if folder != self._empty else 0o755, parents=True, exist_ok=True)
        if not ids.initial():
            # The set-id programs of an image belong to the user here: nobody else may start them.
            paths.layers.chmod(0o700)
        self._parents: dict[str, str | None] = {}
        self._ready: deque[str] = deque()

    # What is there

    def has(self, chain_id: str) -> bool:
        """True if this layer and all below it are there."""
        try:
            self.chain(chain_id)
        except NotFound:
            return False
        return True

    def chain(self, chain_id: str) -> tuple[str, ...]:
        """The chain ids from this one down to the lowest; raises NotFound where one is missing."""
        found: list[str] = []
        following: str | None = chain_id
        while following is not None:
            found.append(following)
            following = self.parent(following)
        return tuple(found)

    def parent(self, chain_id: str) -> str | None:
        """The chain id below this one, None for the lowest; raises NotFound."""
        if chain_id not in self._parents:
            try:
                text = (self._folder(chain_id) / "parent").read_text()
            except FileNotFoundError:
                as_root = "Pull the image again: its layers are put back."
                other = "Layers are unpacked where containers can run; this daemon keeps their archives."
                remedy = as_root if os.geteuid() == 0 else other
                raise NotFound(f"the layer {chain_id} is not unpacked here", remedy) from None
            self._parents[chain_id] = text or None
        return self._parents[chain_id]

    def chains(self) -> list[str]:
        """The chain ids of all layers."""
        return [f"sha256:{entry.name}" for entry in os.scandir(self._chains)]

    def keys(self) -> dict[str, str | None]:
        """The keys of all writable layers, with the chain that each stands on."""
        found: dict[str, str | None] = {}
        for entry in os.scandir(self._active):
            found[entry.name] = None  # without the file: prepare() was killed
            with contextlib.suppress(NotFound):
                found[entry.name] = self.base(entry.name)
        return found

    def base(self, key: str) -> str | None:
        """The chain that a writable layer stands on, None for a root from scratch; raises NotFound."""
        try:
            return (self._key(key) / "parent").read_text() or None
        except FileNotFoundError:
            raise NotFound(f"no writable layer {key}") from None

    def layer_path(self, chain_id: str) -> Path:
        """The folder of one layer, in overlay's form (whiteouts are devices); read only."""
        return self._folder(chain_id) / "fs"

    def upper(self, key: str) -> Path:
        """The folder that a container writes in: overlay's upper folder, or its whole root."""
        return self._key(key) / "fs"

    def changed(self, key: str) -> AbstractContextManager[Path]:
        """What a writable layer has changed, as a layer in overlay's form; read only, and good inside the `with`."""
        return self.driver.changed(self._key(key), self._lowers(self.base(key)))

    def finish(self, key: str) -> Path:
        """The same for one that nobody writes to any more, and which is committed next."""
        return self.driver.finish(self._key(key), self._lowers(self.base(key)))

    def beside(self, key: str) -> Path:
        """An empty folder which is all that a new writable layer has changed, when it is finished."""
        return self.driver.beside(self._key(key))

    def usage(self, key: str) -> int:
        """Bytes of the files that a writable layer has changed."""
        return self.driver.usage(self._key(key), self._lowers(self.base(key)))

    # Making layers

    @contextlib.contextmanager
    def unpacking(self, chain_id: str, parent: str | None) -> Iterator[Path]:
        """An empty folder to fill; on leaving it becomes the layer, at once. Left by an error, it is removed.

        `parent` must be there by the time of leaving. Where somebody else made the layer first, theirs stays.
        """
        final = self._folder(chain_id)
        made = Path(tempfile.mkdtemp(prefix="unpack-", dir=self._tmp))
        try:
            (made / "fs").mkdir(mode=0o755)
            (made / "fs").chmod(0o755)
            yield made / "fs"
            self._finish(made, final, parent)
        finally:
            trees.remove(made)

    def prepare(self, key: str, parent: str | None) -> Mount:
        """A new writable layer on top of `parent`; raises NotFound (parent), Conflict (key), StorageFull."""
        lowers, final = self._lowers(parent), str(self._key(key))
        made = ""
        try:
            made = self._take()
            with open(f"{made}/parent", "w") as file:
                file.write(parent or "")
            self.driver.fill(Path(made), lowers)
            os.rename(made, final)
        except OSError as error:
            if made:
                trees.remove(os.fsencode(made))
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise Conflict(f"a writable layer {key} exists already") from None
            raise from_oserror(error, "making the writable layer") from error
        return self.driver.mount(Path(final), lowers)

    def warm(self, count: int = 8) -> None:
        """Keep `count` empty writable layers ready: making inodes can cost ext4 most of a millisecond each."""
        while len(self._ready) < count:
            self._ready.append(self._blank())

    def _take(self) -> str:
        try:
            return self._ready.popleft()
        except IndexError:
            return self._blank()

    def _blank(self) -> str:
        made = tempfile.mkdtemp(prefix="blank-", dir=self._tmp)
        os.mkdir(f"{made}/fs")
        os.mkdir(f"{made}/work", 0o711)
        os.close(os.open(f"{made}/parent", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        os.chmod(made, _SEARCHABLE)
        return made

    def commit(self, key: str, chain_id: str) -> None:
        """Turn a writable layer, mounted nowhere any more, into the layer `chain_id`; nothing is copied."""
        parent = self.base(key)
        with trace.span("unionfs.commit", key=key, chain=chain_id):
            self.driver.settle(self._key(key), self._lowers(parent))
            trees.remove(self._key(key) / "work")
            self._finish(self._key(key), self._folder(chain_id), parent)
            trees.remove(self._key(key))

    def _finish(self, made: Path, final: Path, parent: str | None) -> None:
        if parent is not None:
            self.chain(parent)
        (made / "parent").write_text(parent or "")
        if (final / "parent").exists():
            return
        try:
            os.rename(made, final)
        except OSError:
            if not (final / "parent").exists():
                raise

    # Using them

    def mount_of(self, key: str) -> Mount:
        """The mount of a writable layer; raises NotFound."""
        return self.driver.mount(self._key(key), self._lowers(self.base(key)))

    def frozen(self, key: str) -> Mount:
        """The mount that shows a writable layer and all below it, read-only, whoever writes; raises NotFound."""
        return self.driver.frozen(self._key(key), self._lowers(self.base(key)))

    def view(self, chain_id: str) -> Mount:
        """The mount that shows a chain, read-only; raises NotFound."""
        return self.driver.view(self._lowers(chain_id))

    # Removing them

    def remove(self, key_or_chain: str) -> None:
        """Remove a writable layer or a layer on which nothing stands; a missing one is no error."""
        is_chain = key_or_chain.startswith("sha256:")
        folder = self._folder(key_or_chain) if is_chain else self._key(key_or_chain)
        self._parents.pop(key_or_chain, None)
        with contextlib.ExitStack() as undo:
            # Renamed away first: a daemon that is killed now leaves no half of a layer under its name.
            gone = Path(tempfile.mkdtemp(prefix="remove-", dir=self._tmp))
            undo.callback(trees.remove, gone)
            with contextlib.suppress(FileNotFoundError):
                os.rename(folder, gone / "it")

    def repair(self, live_keys: Iterable[str], live_chains: Iterable[str]) -> None:
        """At start: remove what is half-made, writable layers of nobody, and layers that nothing live stands on."""
        self._ready.clear()
        for entry in list(os.scandir(self._tmp)):
            trees.remove(Path(entry.path))
        kept = set(live_keys)
        for key in self.keys():
            if key not in kept:
                self.remove(key)
        self.sweep(live_chains)

    def sweep(self, live_chains: Iterable[str]) -> list[str]:
        """Remove layers that neither `live_chains` nor a writable layer stands on; returns their chain ids."""
        live: set[str] = set()
        for top in [*live_chains, *filter(None, self.keys().values())]:
            with contextlib.suppress(NotFound):
                live.update(self.chain(top))
        gone = [chain for chain in self.chains() if chain not in live]
        for chain in gone:
            self.remove(chain)
        return gone

    def free(self) -> int:
        """Bytes that may still be written where the layers are."""
        return shutil.disk_usage(self._chains).free

    # Names

    def _lowers(self, parent: str | None) -> tuple[str, ...]:
        if parent is None:
            return (str(self._empty),)
        return tuple(str(self.layer_path(chain)) for chain in self.chain(parent))

    def _folder(self, chain_id: str) -> Path:
        return self._chains / digests.hexdigits(digests.parse(chain_id))

    def _key(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise InvalidParameter(f"invalid name of a writable layer: {key!r}")
        return self._active / key
