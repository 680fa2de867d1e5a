"""RUN --mount: what a step sees besides its layers, and what never becomes part of one.

Interface:
- `read(mount, expand, place, origin)`: the flag with its variables replaced, as a `MountWork`; raises ValueError.
- `CacheFolders(folder)`: the folders of `type=cache`, one an engine: `folder(work)` lends one, `prune()` removes them.
- `Mounter(...).mounted(works)`: the mounts of a step, ready for the runtime, for as long as it runs.

Rules: a read-only bind of the context is the context itself; every other bind is a copy of its own, because what a step
writes into it is thrown away, and because the layers of a stage are mounted nowhere (decision 0055). Sources are
resolved inside their root, whatever links are in it (2024-23651). Secrets and SSH agents come with a BuildKit session,
which the classic endpoint does not have: they are absent, and `required` says so.
Source: https://docs.docker.com/reference/dockerfile/#run---mount
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from glassdock.build import flags
from glassdock.build.copying import Copier
from glassdock.build.ignore import Matcher
from glassdock.build.sources import Hidden
from glassdock.build.work import CopyWork, MountWork
from glassdock.containers.config import HostConfig, MountPoint
from glassdock.linux.openat2 import open_in_root
from glassdock.oci import digest as digests
from glassdock.unionfs import ownership
from glassdock.unionfs.mounts import Mount
from glassdock.unionfs.rooted import in_roots

PIPES = "/dev/pipes/"  # where BuildKit puts a heredoc that is a script of its own

_SHARING = ("shared", "private", "locked")
_OWNED = ("secret", "ssh", "cache")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)


def read(
    mount: flags.Mount, expand: Callable[[str], str], place: Callable[[str], str], origin: int | str | None
) -> MountWork:
    """What the flag asks for; `place` makes a target absolute. Raises ValueError in BuildKit's words."""
    given = {name: expand(value) for name, value in mount.fields.items()}
    kind = expand(mount.type).lower()
    if kind not in flags.MOUNT_TYPES:
        raise flags.FlagError(f'unsupported mount type "{kind}"', flags.nearest(kind, flags.MOUNT_TYPES))
    _check(kind, given)
    identity = given.get("id") or (given.get("source", "") if kind == "secret" else "")
    if kind == "secret":
        identity = identity or posixpath.basename(given["target"])
        target = given.get("target") or ("" if "env" in given else f"/run/secrets/{posixpath.basename(identity)}")
    else:
        target = given.get("target", "")
    where = place(target).rstrip("/") if target or kind not in ("secret", "ssh") else ""
    if not where and kind in ("bind", "cache", "tmpfs"):
        raise ValueError('invalid mount target "/"')
    writable = not _switch(given, "readonly") if "readonly" in given else _switch(given, "readwrite")
    return MountWork(
        kind,
        where,
        source=posixpath.normpath("/" + given.get("source", "")),
        origin=origin,
        writable=writable or (kind in ("cache", "tmpfs") and "readonly" not in given),
        id=identity or (posixpath.normpath(given.get("target", "")) if kind == "cache" else ""),
        sharing=given.get("sharing", "shared").lower(),
        mode=_number(given, "mode", 8),
        uid=_number(given, "uid", 10),
        gid=_number(given, "gid", 10),
        size=_bytes(given.get("size", "0")),
        required=_switch(given, "required"),
    )


def _check(kind: str, given: Mapping[str, str]) -> None:
    """Raise ValueError where fields do not go with the type."""
    for name in ("mode", "uid", "gid"):
        if name in given and kind not in _OWNED:
            raise ValueError(f'{name} not allowed for "{kind}" type mounts')
    if "required" in given and kind not in ("secret", "ssh"):
        raise ValueError(f"unexpected key 'required' for mount type '{kind}'")
    if "size" in given and kind != "tmpfs":
        raise ValueError(f"unexpected key 'size' for mount type '{kind}'")
    if "sharing" in given and kind != "cache":
        raise ValueError(f"invalid cache sharing set for {kind} mount")
    if given.get("sharing", "shared").lower() not in _SHARING:
        hint = flags.nearest(given["sharing"], _SHARING)
        raise flags.FlagError(f'unsupported sharing value "{given["sharing"]}"', hint)
    if kind == "secret":
        if "from" in given:
            raise ValueError("secret mount should not have a from")
        if not any(given.get(name) for name in ("source", "target", "id")):
            raise ValueError("invalid secret mount. one of source, target required")
        if given.get("source") and given.get("id"):
            raise ValueError("both source and id can't be set")


def _switch(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "false").lower()
    if value not in ("true", "false", "1", "0", "t", "f"):
        raise ValueError(f"invalid value for {name}: {given[name]}")
    return value in ("true", "1", "t")


def _number(given: Mapping[str, str], name: str, base: int) -> int | None:
    if name not in given:
        return None
    try:
        return int(given[name], base)
    except ValueError:
        raise ValueError(f"invalid value {given[name]} for {name}") from None


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"invalid value for size: {text}")
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))


class CacheFolders:
    """The folders of `type=cache`: by id, kept from build to build until they are pruned."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, asyncio.Lock] = {}
        self._used: dict[Path, int] = {}
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)

    @contextlib.asynccontextmanager
    async def lent(self, work: MountWork) -> AsyncIterator[tuple[Path, bool]]:
        """The folder of a cache mount, and whether it is new; `locked` waits until nobody else has it."""
        key = digests.hexdigits(digests.of(f"{work.id}\0{work.origin}\0{work.source}".encode()))
        async with contextlib.AsyncExitStack() as held:
            if work.sharing == "locked":
                await held.enter_async_context(self._locks.setdefault(key, asyncio.Lock()))
            number = 0
            while work.sharing == "private" and self._used.get(self._folder / f"{key}-{number}"):
                number += 1
            folder = self._folder / f"{key}-{number}"
            self._used[folder] = self._used.get(folder, 0) + 1
            held.callback(self._give_back, folder)
            yield folder, not folder.exists()

    def prune(self) -> None:
        """Remove the folders that no build uses."""
        for folder in self._folder.iterdir():
            if not self._used.get(folder):
                shutil.rmtree(folder)

    def _give_back(self, folder: Path) -> None:
        self._used[folder] -= 1
        if not self._used[folder]:
            del self._used[folder]


@dataclass(slots=True)
class Mounter:
    """The mounts of one build: `view` gives the layers that a work's origin is (None for an empty stage)."""

    caches: CacheFolders
    context: Path
    ignored: Matcher
    scratch: Path
    view: Callable[[MountWork], Mount | None]

    @contextlib.asynccontextmanager
    async def mounted(self, works: Iterable[MountWork], host: HostConfig) -> AsyncIterator[HostConfig]:
        """`host` with what the runtime is to mount; copies go afterwards, caches stay."""
        points: list[MountPoint] = []
        tmpfs: dict[str, str] = {}
        async with contextlib.AsyncExitStack() as held:
            for work in works:
                if work.kind == "tmpfs":
                    size = [f"size={work.size}"] if work.size else []
                    tmpfs[work.target] = ",".join(["exec", *size, *([] if work.writable else ["ro"])])
                elif work.kind in ("secret", "ssh"):
                    _absent(work)
                else:
                    source = await self._source(work, held)
                    points.append(MountPoint("bind", work.target, source, read_only=not work.writable))
            yield msgspec.structs.replace(host, mounts=tuple(points), tmpfs=tmpfs)

    async def _source(self, work: MountWork, held: contextlib.AsyncExitStack) -> str:
        """The folder or file to bind."""
        if work.kind == "cache":
            return await self._cache(work, held)
        if work.kind == "bind" and work.origin is None and not work.writable and not self.ignored:
            root = os.open(self.context, os.O_PATH | os.O_DIRECTORY)
            held.callback(os.close, root)
            try:
                found = open_in_root(root, work.source, os.O_PATH)
            except (FileNotFoundError, NotADirectoryError):
                raise ValueError(f'"{work.source}": not found') from None
            held.callback(os.close, found)
            return f"/proc/{os.getpid()}/fd/{found}"  # the shim opens it
        folder = Path(tempfile.mkdtemp(prefix="mount-", dir=self.scratch))
        held.push_async_callback(asyncio.to_thread, shutil.rmtree, folder)
        if work.kind == "document":
            script = folder / posixpath.basename(work.target)
            script.write_bytes(work.content)
            script.chmod(0o755)
            return str(script)
        await self._copied(work, folder)
        return str(folder / "copy")

    async def _cache(self, work: MountWork, held: contextlib.AsyncExitStack) -> str:
        folder, new = await held.enter_async_context(self.caches.lent(work))
        if new:
            made = Path(tempfile.mkdtemp(prefix="mount-", dir=self.scratch))
            held.callback(shutil.rmtree, made, ignore_errors=True)  # where it did not become the cache's
            if work.origin is not None:
                await self._copied(work, made)
            else:
                (made / "copy").mkdir()
                fd = os.open(made / "copy", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                held.callback(os.close, fd)
                ownership.give(fd, work.uid or 0, work.gid or 0)
                os.chmod(fd, 0o755 if work.mode is None else work.mode)
            with contextlib.suppress(FileExistsError):  # another step was first
                (made / "copy").rename(folder)
        return str(folder)

    async def _copied(self, work: MountWork, folder: Path) -> None:
        """Copy the source, a file or what is in a directory, to `copy` in the folder."""

        def carry_out(roots: list[int]) -> None:
            source = roots[0] if roots else os.open(self.context, os.O_RDONLY | os.O_DIRECTORY)
            target = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                hidden = Hidden(self.ignored if work.origin is None else Matcher(()), Matcher(()))
                Copier(source, target, copy_of(work), hidden, self.scratch, names=target).run()
            finally:
                os.close(target)
                if not roots:
                    os.close(source)

        view = self.view(work) if work.origin is not None else None
        if work.origin is not None and view is None:
            raise ValueError(f'"{work.source}": not found')
        await in_roots([view] if view else [], self.scratch, carry_out)


def copy_of(work: MountWork) -> CopyWork:
    """The COPY that brings what a mount shows: its digest is what the step depends on."""
    literal = re.sub(r"([*?\[\\])", r"\\\1", work.source)
    return CopyWork(work.origin, (literal,), (), "/copy", bind=True)


def _absent(work: MountWork) -> None:
    """Raise ValueError where a step cannot do without; else the mount is not there, as BuildKit has it."""
    if not work.required:
        return
    if work.kind == "secret":
        raise ValueError(f"secret {work.id}: not found (secrets come with a BuildKit session, which is not here)")
    raise ValueError(f"no SSH agent {work.id or 'default'} was forwarded (it comes with a BuildKit session)")
