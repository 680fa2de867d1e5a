"""What was built before, and why a step could not be taken from there.

Interface:
- `Cache(paths, snapshotter)`: `look(inputs)` gives a `Hit` or the reason of the miss; `keep(inputs, made)` remembers.
- `Inputs`: everything that a step's result depends on, part by part; its `key` is the digest of all of them.
- `Cache.chains()`: the layers that only the cache holds; `release(chains)` once an image has them; `prune()`.
- `Cache.digest(key)`, `keep_digest`: what was hashed in a chain of layers, which never changes.

Rules: the key is content: the chain below, the command and its environment, or the digest of the copied files. Nothing
is guessed from times or inode numbers. An entry counts only while its layer is there. An entry is one file that is
replaced at once, so a killed daemon leaves an old one or a new one; it is not synced, because a lost entry is a miss.
A second file by instruction remembers the inputs of the last time: that is what a reason is told from.
Source: https://docs.docker.com/build/cache/invalidation/
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from glassdock.build.sources import Digest
from glassdock.oci import digest as digests
from glassdock.paths import Paths, atomic_write
from glassdock.unionfs.overlay import Snapshotter

REMOVED = "its layer was removed"
_TOLD = 3
_FILES_KEPT = 50_000


class Inputs(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step depends on. `files` only explain `content`; `step` is the instruction as written, with its place."""

    parent: str
    kind: str
    step: str
    detail: str
    environment: tuple[str, ...] = ()
    user: str = ""
    content: str = ""
    files: dict[str, str] = {}

    @property
    def key(self) -> str:
        """The digest of all that the result depends on."""
        parts = (self.parent, self.kind, self.detail, self.environment, self.user, self.content)
        return digests.hexdigits(digests.of(msgspec.json.encode(parts)))


class Made(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step made: its layer, or none where `diff_id` is empty; `chain_id` is the stack with it."""

    created: str
    chain_id: str = ""
    diff_id: str = ""
    size: int = 0
    tar_size: int = -1
    duration: float = 0.0


class _Entry(msgspec.Struct, frozen=True):
    inputs: Inputs
    made: Made


@dataclass(frozen=True, slots=True)
class Looked:
    """A hit (`made`) or a miss with its reason."""

    made: Made | None
    reason: str


class Cache:
    """The steps that were built under one state folder."""

    def __init__(self, paths: Paths, snapshotter: Snapshotter) -> None:
        self._entries = paths.build / "cache"
        self._last = paths.build / "last"
        self._digests = paths.build / "digests"
        self._held = paths.build / "held"
        self._snapshotter = snapshotter
        for folder in (self._entries, self._last, self._digests, self._held):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)

    def look(self, inputs: Inputs, *, rebuilt_above: bool = False) -> Looked:
        """The step's result of an earlier time, or why there is none."""
        entry = _read(self._entries / inputs.key)
        if entry is not None and entry.made.chain_id and not self._snapshotter.has(entry.made.chain_id):
            return Looked(None, REMOVED)
        if entry is not None:
            return Looked(entry.made, "")
        last = _read(self._last / _name(inputs.step))
        return Looked(None, _reason(last.inputs if last else None, inputs, rebuilt_above=rebuilt_above))

    def keep(self, inputs: Inputs, made: Made) -> None:
        """Remember what a step made."""
        if made.chain_id:  # before the entry: a layer that an entry speaks of is held
            (self._held / digests.hexdigits(made.chain_id)).touch()
        plain = msgspec.structs.replace(inputs, files={})
        told = inputs if len(inputs.files) <= _FILES_KEPT else plain
        atomic_write(self._entries / inputs.key, msgspec.json.encode(_Entry(plain, made)), sync=False)
        atomic_write(self._last / _name(inputs.step), msgspec.json.encode(_Entry(told, made)), sync=False)

    def release(self, chains: Iterable[str]) -> None:
        """An image has these layers now: it keeps them, and takes them with it when it is removed."""
        for chain in chains:
            (self._held / digests.hexdigits(chain)).unlink(missing_ok=True)

    def chains(self) -> set[str]:
        """The chain ids of the layers that no image has: of stages that were left behind, and of failed builds."""
        return {f"sha256:{name}" for name in os.listdir(self._held)}

    def digest(self, key: str) -> Digest | None:
        """What `keep_digest` kept under the key (hex digits)."""
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            return msgspec.json.decode((self._digests / key).read_bytes(), type=Digest)
        return None

    def keep_digest(self, key: str, digest: Digest) -> None:
        """Remember a digest of files in a chain of layers."""
        atomic_write(self._digests / key, msgspec.json.encode(digest), sync=False)

    def prune(self) -> None:
        """Forget everything; the layers go with the next sweep."""
        for folder in (self._entries, self._last, self._digests, self._held):
            for entry in list(os.scandir(folder)):
                os.unlink(entry.path)


def _read(path: Path) -> _Entry | None:
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):  # unreadable is a miss, and is replaced
        return msgspec.json.decode(path.read_bytes(), type=_Entry)
    return None


def _name(step: str) -> str:
    return hashlib.sha256(step.encode("utf-8", "surrogateescape")).hexdigest()


def _reason(last: Inputs | None, now: Inputs, *, rebuilt_above: bool) -> str:
    """Why `now` is not what was there `last` time, the first cause first."""
    if last is None:
        return "new, or written differently"
    if last.content != now.content:
        return _changed_files(last.files, now.files)
    if last.parent != now.parent:
        return "a step before it was built again" if rebuilt_above else "what it stands on changed"
    if last.environment != now.environment:
        return f"environment changed: {_names(_changed_names(last.environment, now.environment))}"
    if last.user != now.user:
        return f"user changed: {last.user or 'root'} to {now.user or 'root'}"
    if last.detail != now.detail:
        return "its variables have other values"
    return "not in the cache any more"


def _changed_names(before: Iterable[str], after: Iterable[str]) -> list[str]:
    changed = set(before) ^ set(after)
    return sorted({item.partition("=")[0] for item in changed}) or ["the order"]


def _changed_files(before: dict[str, str], after: dict[str, str]) -> str:
    if not before or not after:
        return "content changed"
    changed = sorted(path for path in before.keys() & after.keys() if before[path] != after[path])
    # A directory's own line says only its mode; files say more, so they are told where there are any.
    for words, paths in (("changed", changed), ("new", after.keys() - before), ("gone", before.keys() - after)):
        if paths:
            return f"content changed: {_names(sorted(paths))} {words if words != 'changed' else ''}".rstrip()
    return "content changed"


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + more
