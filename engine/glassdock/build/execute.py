"""Carrying out a plan: step by step, from the cache where that is right, until the target is an image.

Interface:
- `Execution(tools, request, plan, observer).run()`: the finished target, as a `State`.
- `Tools`: what the engine lends. `Observer`: who is told what happens. `Runner`: who runs a RUN.

Rules: every step works on a writable layer of its own, which becomes a layer or goes. Whatever ends the build (an
error, a cancelled request), nothing half-made stays. Layers are hashed, never compressed: that is for push.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from glassdock import trace
from glassdock.build import sources, users
from glassdock.build.cache import REMOVED, Cache, Inputs, Looked, Made
from glassdock.build.copying import Copier, make_directories
from glassdock.build.ignore import Matcher
from glassdock.build.instructions import Source
from glassdock.build.mounts import CacheFolders, Mounter, copy_of
from glassdock.build.options import BuildOptions
from glassdock.build.record import StepRecord
from glassdock.build.remote import Remote, fetch
from glassdock.build.sources import Digest, Hidden
from glassdock.build.state import State
from glassdock.build.stubs import remove_stubs
from glassdock.build.volumes import set_aside
from glassdock.build.work import CopyWork, DirectoryWork, MountWork, Plan, RunWork, StagePlan, Step
from glassdock.containers.step import StepRequest
from glassdock.errors import BuildError, GlassdockError, StartFailed, from_oserror
from glassdock.images.model import Image
from glassdock.images.pack import seal
from glassdock.images.store import Lease, Store
from glassdock.oci import digest as digests
from glassdock.paths import Paths
from glassdock.unionfs.mounts import Mount
from glassdock.unionfs.overlay import Snapshotter
from glassdock.unionfs.rooted import in_roots

_SEEN = Hidden(Matcher(()), Matcher(()))


class Runner(Protocol):
    """Who runs a command in a snapshot: `containers.step.Runner`."""

    async def run(self, request: StepRequest) -> int:
        """Run to the end; returns the exit code."""


class Observer(Protocol):
    """Who is told what happens, on the event loop's thread."""

    def begin(self, source: Source, *, trigger: bool) -> None:
        """A step begins."""

    def cached(self) -> None:
        """Its result was there."""

    def running(self, key: str) -> None:
        """A container runs it."""

    def output(self, stream: int, data: bytes) -> None:
        """The container wrote something (1 stdout, 2 stderr)."""

    def removed(self, key: str) -> None:
        """The container is gone."""

    def end(self, image_id: str) -> None:
        """The step is done; what there is now has this id ("" for nothing)."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the engine lends to a build."""

    paths: Paths
    images: Store
    snapshots: Snapshotter
    runner: Runner
    cache: Cache
    caches: CacheFolders


@dataclass(frozen=True, slots=True)
class Request:
    """One build: its context (an unpacked folder), what the context hides, its options, the Dockerfile's name."""

    context: Path
    ignored: Matcher
    options: BuildOptions
    dockerfile: str


@dataclass(slots=True)
class Execution:
    """A build that is under way. `images` are the base images and those that COPY takes from, by name as written.

    Afterwards `records` says what each step did, `made` holds the chain ids of each stage's layers.
    """

    tools: Tools
    request: Request
    plan: Plan
    images: dict[str, Image]
    observer: Observer
    lease: Lease
    records: list[StepRecord] = field(default_factory=list)
    made: dict[int, list[str]] = field(default_factory=dict)
    _done: dict[int, State] = field(default_factory=dict)
    _fetched: dict[Remote, tuple[Path, tuple[str, ...]]] = field(default_factory=dict)

    async def run(self) -> State:
        """Build every stage of the plan in order; returns the target's state."""
        for source in self.plan.arguments:
            self.observer.begin(source, trigger=False)
            self.observer.end("")
        try:
            for stage in self.plan.stages:
                with trace.span("build.stage", stage=stage.name):
                    self._done[stage.index] = await self._stage(stage)
        finally:
            for folder, _ in self._fetched.values():
                await asyncio.to_thread(shutil.rmtree, folder)
        return self._done[self.plan.target.index]

    async def _stage(self, stage: StagePlan) -> State:
        self.observer.begin(stage.source, trigger=False)
        if isinstance(stage.base, int):
            state = self._done[stage.base].copy()
        elif stage.base in self.images:
            image = self.images[stage.base]
            await asyncio.to_thread(self.tools.images.ensure, image)
            state = State.of(image)
        else:
            state = State.empty()
        self.observer.end(state.image_id)
        for step in stage.steps:
            self.observer.begin(step.source, trigger=step.trigger)
            with trace.span("build.step", line=step.source.start, text=step.source.text):
                await self._step(stage, state, step)
            self.observer.end(state.image_id)
        return state

    async def _step(self, stage: StagePlan, state: State, step: Step) -> None:
        began = time.monotonic()
        with _located(self.request.dockerfile, step.source):
            inputs = await self._inputs(stage, state, step)
            looked = self._look(inputs, state)
            made = looked.made
            if made is None:
                made = await self._make(state, step)
                made = msgspec.structs.replace(made, created=_now(), duration=time.monotonic() - began)
                self.tools.cache.keep(inputs, made)
                state.rebuilt = state.rebuilt or step.work is not None
            else:
                self.observer.cached()
        state.add(step, made)
        if made.chain_id:
            self.lease.held.add(made.chain_id)
            self.made.setdefault(stage.index, []).append(made.chain_id)
        self.records.append(
            StepRecord(
                stage.name, step.source.start, step.source.end, step.source.text, step.created_by,
                looked.made is not None, looked.reason, made.duration, made.diff_id, made.chain_id, made.size,
            )
        )  # fmt: skip

    def _look(self, inputs: Inputs, state: State) -> Looked:
        if self.request.options.no_cache:
            return Looked(None, "the cache was turned off")
        looked = self.tools.cache.look(inputs, rebuilt_above=state.rebuilt)
        if looked.made is not None and looked.made.chain_id:
            self.lease.held.add(looked.made.chain_id)
            if not self.tools.snapshots.has(looked.made.chain_id):  # removed before it was held
                return Looked(None, REMOVED)
        return looked

    async def _inputs(self, stage: StagePlan, state: State, step: Step) -> Inputs:
        """What the step's result depends on."""
        parent = state.chain_id or "scratch"
        place = "\0".join([*self.request.options.tags[:1], self.request.dockerfile, stage.name, step.source.text])
        work = step.work
        if isinstance(work, RunWork):
            volumes = sorted(state.base.config.volumes or ())
            command = (work.argv, work.cwd, work.network, *([work.mounts] if work.mounts or volumes else []))
            command += (volumes,) if volumes else ()
            detail = msgspec.json.encode(command).decode()
            shown = [await self._digest(copy_of(mount)) for mount in work.mounts if mount.depends_on_files]
            content = digests.of("".join(one.whole for one in shown).encode()) if shown else ""
            files = {path: one for found in shown for path, one in found.files.items()}
            return Inputs(parent, "run", place, detail, work.env, work.user, content, files)
        if isinstance(work, DirectoryWork):
            return Inputs(parent, "directory", place, work.path, user=work.user)
        if isinstance(work, CopyWork):
            found = [await self._digest(work)] if work.sources else []
            found += [await self._far_digest(one) for one in work.remotes]
            written = digests.of(msgspec.json.encode(work.documents))
            how = (work.destination, work.chown, work.chmod, work.unpack, work.parents, work.link, written)
            more = ("remote", work.unpack_remotes, len(work.sources)) if work.remotes else ()
            detail = msgspec.json.encode((*how, *more)).decode()
            content = found[0].whole if len(found) == 1 else digests.of("".join(one.whole for one in found).encode())
            files = {path: one for several in found for path, one in several.files.items()}
            return Inputs(parent, "copy", place, detail, content=content, files=files)
        return Inputs(state.image_id, "config", place, step.created_by)

    async def _digest(self, work: CopyWork) -> Digest:
        """The digest of what a COPY would copy."""
        hidden = self._hidden(work)

        def measure(roots: list[int]) -> Digest:
            items = sources.select(roots[0], work, hidden.ignored)
            return sources.digest(roots[0], items, hidden, owners=work.origin is not None)

        if work.origin is None:
            return await asyncio.to_thread(_in_folder, self.request.context, measure)
        chain = self._chain_of(work)
        asked = (chain or "", work.sources, work.excludes, work.parents)
        key = digests.hexdigits(digests.of(msgspec.json.encode(asked)))
        known = self.tools.cache.digest(key)
        if known is None:
            known = await self._in_origin(work, measure)
            self.tools.cache.keep_digest(key, known)
        return known

    async def _fetch(self, remote: Remote) -> tuple[Path, tuple[str, ...]]:
        """The folder that a remote source was brought to, once a build, and the names to copy from it."""
        if remote not in self._fetched:
            folder = Path(tempfile.mkdtemp(prefix="remote-", dir=self.tools.paths.tmp))
            try:
                names = await fetch(remote, folder)
            except BaseException:
                shutil.rmtree(folder)
                raise
            self._fetched[remote] = folder, names
        return self._fetched[remote]

    async def _far_digest(self, remote: Remote) -> Digest:
        folder, names = await self._fetch(remote)
        work = CopyWork(None, names, (), "/")

        def measure(roots: list[int]) -> Digest:
            return sources.digest(roots[0], sources.select(roots[0], work, Matcher(())), _SEEN, owners=False)

        return await asyncio.to_thread(_in_folder, folder, measure)

    def _hidden(self, work: CopyWork) -> Hidden:
        return Hidden(self.request.ignored if work.origin is None else Matcher(()), Matcher(work.excludes))

    def _chain_of(self, work: CopyWork | MountWork) -> str | None:
        if isinstance(work.origin, int):
            return self._done[work.origin].chain_id
        return self.images[str(work.origin)].chain_id

    async def _in_origin(self, work: CopyWork, look: Callable[[list[int]], Digest]) -> Digest:
        chain = self._chain_of(work)
        if isinstance(work.origin, str):
            await asyncio.to_thread(self.tools.images.ensure, self.images[work.origin])
        if chain is None:
            with tempfile.TemporaryDirectory(dir=self.tools.paths.tmp, prefix="empty-") as folder:
                return _in_folder(Path(folder), look)
        return await in_roots([self.tools.snapshots.view(chain)], self.tools.paths.tmp, look)

    # Making layers

    async def _make(self, state: State, step: Step) -> Made:
        work = step.work
        if isinstance(work, RunWork):
            return await self._run(state, work, step.source)
        if isinstance(work, CopyWork):
            return await self._copy(state, work)
        if isinstance(work, DirectoryWork):
            return await self._directory(state, work)
        return Made("")

    @asynccontextmanager
    async def _snapshot(self, state: State) -> AsyncIterator[str]:
        """The key of a writable layer on top of the state; what has not become a layer by the end goes."""
        key = f"build-{secrets.token_hex(16)}"
        self.tools.snapshots.prepare(key, state.chain_id)
        try:
            yield key
        finally:
            if self.tools.snapshots.upper(key).exists():
                await asyncio.to_thread(self.tools.snapshots.remove, key)

    def _mount(self, key: str) -> Mount:
        """Mounted once, and built again if the machine dies meanwhile: nothing has to wait for the disk."""
        return msgspec.structs.replace(self.tools.snapshots.mount_of(key), volatile=True)

    async def _seal(self, state: State, key: str) -> Made:
        with trace.span("build.seal"):
            record = await asyncio.to_thread(seal, self.tools.snapshots, key)
        return Made("", state.chain_with(record.diff_id), record.diff_id, record.size, record.tar_size)

    async def _run(self, state: State, work: RunWork, source: Source) -> Made:
        async with self._snapshot(state) as key:
            name = key.removeprefix("build-")
            where = f"({self.request.dockerfile} line {source.start})"
            self.observer.running(name)
            try:
                code = await self._command(state, work, key)
            except StartFailed as error:
                raise BuildError(
                    f"{error.message} {where}", error.remedy, file=self.request.dockerfile, line=source.start
                ) from error
            if code:
                raise BuildError(
                    f"The command '{' '.join(work.argv)}' returned a non-zero code: {code} {where}",
                    f"Look at line {source.start} of {self.request.dockerfile}: {source.text}",
                    file=self.request.dockerfile,
                    line=source.start,
                    code=code,
                )
            lowers = self.tools.snapshots.chain(state.chain_id) if state.chain_id else ()
            below = [self.tools.snapshots.layer_path(one) for one in lowers]
            places = [mount.target for mount in work.mounts] + [*(state.base.config.volumes or ())]
            remove_stubs(self.tools.snapshots.finish(key), below, places)
            made = await self._seal(state, key)
            self.observer.removed(name)
            return made

    async def _command(self, state: State, work: RunWork, key: str) -> int:
        """Run it on the snapshot, with its mounts and what is a volume by now set aside; returns the exit code."""
        environment = (*work.env, *work.hidden)
        mounter = Mounter(
            self.tools.caches, self.request.context, self.request.ignored, self.tools.paths.tmp, self._view
        )  # fmt: skip
        scratch, view = self.tools.paths.tmp, self.tools.snapshots.view(state.chain_id) if state.chain_id else None
        async with (
            mounter.mounted(work.mounts, self.request.options.host) as mounted,
            set_aside(scratch, view, state.base.config.volumes or (), mounted) as host,
        ):
            request = StepRequest(
                self._mount(key), work.argv, self.observer.output, environment, work.cwd, work.user, work.network, host
            )  # fmt: skip
            return await self.tools.runner.run(request)

    def _view(self, work: MountWork) -> Mount | None:
        chain = self._chain_of(work)
        return self.tools.snapshots.view(chain) if chain else None

    async def _copy(self, state: State, work: CopyWork) -> Made:
        snapshots, scratch = self.tools.snapshots, self.tools.paths.tmp
        hidden = self._hidden(work)
        far = [await self._fetch(remote) for remote in work.remotes]
        async with self._snapshot(state) as key:
            mounts = [self._mount(key)]
            chain = self._chain_of(work) if work.origin is not None else None
            if chain is not None:
                mounts.append(snapshots.view(chain))
            beside = snapshots.beside(key) if work.link else None

            def carry_out(roots: list[int]) -> None:
                source = roots[1] if chain is not None else os.open(self.request.context, os.O_RDONLY | os.O_DIRECTORY)
                # --link writes beside the layers below, not through them: their links do not matter.
                target = os.open(beside, os.O_RDONLY | os.O_DIRECTORY) if beside else roots[0]
                try:
                    with trace.span("build.copy", destination=work.destination):
                        Copier(source, target, work, hidden, scratch, names=roots[0]).run()
                        for folder, names in far:
                            _copy_far(folder, target, replace(work, sources=names), scratch, roots[0])
                finally:
                    for opened in {source, target} - set(roots):
                        os.close(opened)

            await in_roots(mounts, scratch, carry_out)
            return await self._seal(state, key)

    async def _directory(self, state: State, work: DirectoryWork) -> Made:
        async with self._snapshot(state) as key:

            def carry_out(roots: list[int]) -> None:
                owner = users.owner(roots[0], work.user) if work.user else (0, 0)
                os.close(make_directories(roots[0], work.path, 0o755, owner))

            await in_roots([self._mount(key)], self.tools.paths.tmp, carry_out)
            if not os.listdir(self.tools.snapshots.finish(key)):
                return Made("")  # it was there: no layer
            return await self._seal(state, key)


@contextmanager
def _located(name: str, source: Source) -> Iterator[None]:
    """Give what goes wrong in a step its file and line."""
    try:
        yield
    except BuildError as error:
        if error.line:
            raise
        message = f"{error.message} ({name} line {source.start})"
        raise BuildError(message, error.remedy, file=name, line=source.start) from error
    except ValueError as error:
        raise BuildError(f"{error} ({name} line {source.start})", file=name, line=source.start) from error
    except OSError as error:
        known = from_oserror(error, f"{source.keyword} ({name} line {source.start})")
        if type(known) is not GlassdockError:
            raise known from error
        message = f"{source.keyword} failed: {error.strerror}: {error.filename} ({name} line {source.start})"
        raise BuildError(message, file=name, line=source.start) from error


def _copy_far(folder: Path, target: int, work: CopyWork, scratch: Path, names: int) -> None:
    """Copy what was fetched: nothing of it is ignored, and an archive is a file unless the ADD says otherwise."""
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        only = replace(work, documents=(), remotes=(), unpack=work.unpack_remotes)
        Copier(root, target, only, Hidden(Matcher(()), Matcher(work.excludes)), scratch, names=names).run()
    finally:
        os.close(root)


def _in_folder(folder: Path, look: Callable[[list[int]], Digest]) -> Digest:
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return look([root])
    finally:
        os.close(root)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
