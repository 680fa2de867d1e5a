"""The builder: a context and options in, an image out.

Interface:
- `Builder(paths, images, snapshots, registry, runner)`: one an engine.
- `.build(context, options, progress)`: build; returns the image's id. `progress` gets Docker's JSON lines.
- `.receive(chunks, folder)`: the client's tar becomes the context; `.fetch(url, folder)`: what is at a URL does.
- `.record(image_id)`: which line made which layer. `.spans(image_id)`: the spans of the build, of the last 50 builds.
- `.prune()`: forget the cache.

Rules: nothing is tagged before everything is there. What goes wrong is raised, before the first line of progress or
after it; whoever serves the stream makes its last line of it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glassdock import trace
from glassdock.build import context as contexts
from glassdock.build.cache import Cache
from glassdock.build.checks import checks
from glassdock.build.checks import options as check_options
from glassdock.build.classic import Stream
from glassdock.build.dockerfile import Dockerfile, parse
from glassdock.build.execute import Execution, Request, Runner, Tools
from glassdock.build.lines import Finding
from glassdock.build.mounts import CacheFolders
from glassdock.build.options import BuildOptions
from glassdock.build.plan import make_plan
from glassdock.build.record import BuildRecord, Records
from glassdock.build.state import State
from glassdock.build.work import Plan
from glassdock.errors import BuildError, InvalidParameter, NotFound
from glassdock.images.model import Image
from glassdock.images.progress import Progress
from glassdock.images.pull import pull
from glassdock.images.store import Lease, Store
from glassdock.oci.image import ImageConfig
from glassdock.oci.reference import Reference
from glassdock.paths import Paths
from glassdock.registry.client import Client
from glassdock.unionfs.overlay import Snapshotter

_TRACES = 50


class Builder:
    """The builds of one engine."""

    def __init__(self, paths: Paths, images: Store, snapshots: Snapshotter, registry: Client, runner: Runner) -> None:
        """Make it before the store or the snapshotter clean up: the cache holds layers of its own."""
        self.cache = Cache(paths, snapshots)
        self.records = Records(paths)
        self._tools = Tools(paths, images, snapshots, runner, self.cache, CacheFolders(paths.build / "mounts"))
        self._registry = registry
        self._spans: dict[str, list[trace.Span]] = {}
        images.keep(self.cache.chains)

    async def receive(self, chunks: AsyncIterable[bytes], folder: Path) -> None:
        """Unpack the client's tar into the empty `folder`. Raises InvalidParameter, Corrupt, StorageFull."""
        await contexts.receive(chunks, folder)

    async def fetch(self, url: str, folder: Path) -> None:
        """Make the empty `folder` the context that is at `url`; raises InvalidParameter, Unavailable, BuildError."""
        await contexts.fetch(url, folder)

    def record(self, image_id: str) -> BuildRecord | None:
        """How the image was built, None if it was not built here."""
        return self.records.of(image_id)

    def spans(self, image_id: str) -> list[trace.Span]:
        """What the last build of the image did, and when; empty where that is no longer known."""
        return self._spans.get(image_id, [])

    def prune(self) -> None:
        """Forget the cache; the layers that only it held go with the store's next sweep."""
        self.cache.prune()
        self._tools.caches.prune()

    async def build(self, context: Path, options: BuildOptions, progress: Progress) -> str:
        """Build the folder `context`. Raises BuildError with file and line, NotSupported, and what a pull raises."""
        with trace.recording("daemon") as recorded:
            image_id = await self._build(context, options, progress)
        self._spans.pop(image_id, None)
        self._spans[image_id] = recorded.spans
        while len(self._spans) > _TRACES:
            del self._spans[next(iter(self._spans))]
        return image_id

    async def _build(self, context: Path, options: BuildOptions, progress: Progress) -> str:
        began = time.monotonic()
        tags = [_tag(tag) for tag in options.tags]
        text = contexts.dockerfile(context, options.dockerfile)
        with trace.span("build.parse", dockerfile=options.dockerfile):
            tree = parse(text, options.dockerfile)
        stream = Stream(progress, quiet=options.quiet)
        with self._tools.images.lease() as lease:
            found = _Images(self._tools.images, self._registry, options, stream.tell, lease)
            with trace.span("build.plan"):
                plan = await make_plan(tree, options, found.resolve)
            ignored = contexts.ignored(context, options.dockerfile)
            findings = checks(tree, found.bases(tree, plan), ignored)
            stream.start(plan, tree.name, findings)
            _refuse(tree, findings)
            request = Request(context, ignored, options, options.dockerfile)
            execution = Execution(self._tools, request, plan, found.images, stream, lease)
            state = await execution.run()
            with trace.span("build.image"):
                image = self._finish(state, tags)
        if not state.image:
            self.cache.release(chain for index in _lineage(plan) for chain in execution.made.get(index, ()))
            warnings = tuple(f"{finding.rule}: {finding.message} (line {finding.line})" for finding in findings)
            self._remember(image, execution, plan, warnings, text, time.monotonic() - began)
        stream.finish(image.id, [tag.familiar() for tag in tags])
        return image.id

    def _finish(self, state: State, tags: list[Reference]) -> Image:
        if state.image is None:
            return self._tools.images.create(state.document(), state.layers, tags)
        for tag in tags:
            self._tools.images.tag(state.image, tag)
        return state.image

    def _remember(
        self, image: Image, execution: Execution, plan: Plan, warnings: tuple[str, ...], text: str, duration: float
    ) -> None:
        steps = tuple(execution.records)
        created = image.config.created
        self.records.keep(
            BuildRecord(image.id, execution.request.dockerfile, text, created, duration, steps, plan.skipped, warnings)
        )


@dataclass(slots=True)
class _Images:
    """The images that a Dockerfile names, pulled where they are not here (or always, with --pull)."""

    store: Store
    registry: Client
    options: BuildOptions
    progress: Progress
    lease: Lease
    images: dict[str, Image] = field(default_factory=dict)

    async def resolve(self, name: str) -> ImageConfig:
        """The config of the image that `name` means."""
        if name not in self.images:
            self.images[name] = image = await self._find(name)
            self.lease.held |= {image.id, image.manifest_digest, image.chain_id or image.id}
        return self.images[name].config

    def bases(self, tree: Dockerfile, plan: Plan) -> dict[str, ImageConfig]:
        """The configs of the images that the stages stand on, by what FROM says."""
        bases = {tree.stages[stage.index].from_.image: stage.base for stage in plan.stages}
        return {written: self.images[base].config for written, base in bases.items() if base in self.images}

    async def _find(self, name: str) -> Image:
        if not self.options.pull:
            try:
                return self.store.get(name)
            except NotFound:
                pass  # not here: pulled below
        reference = Reference.parse(name)
        with trace.span("build.pull", reference=name):
            credentials = self.options.credentials.get(reference.domain)
            return await pull(self.store, self.registry, reference, progress=self.progress, credentials=credentials)


def _refuse(tree: Dockerfile, findings: Sequence[Finding]) -> None:
    """Raise BuildError where the file wants its warnings to be errors (`# check=error=true`)."""
    if findings and check_options(tree.directives.get("check", "")).error:
        rules = ", ".join(sorted({finding.rule for finding in findings}))
        message = f"lint violation found for rules: {rules}"
        raise BuildError(message, "Mend them, or leave them out with `# check=skip=NAME`.", file=tree.name)


def _tag(text: str) -> Reference:
    reference = Reference.parse(text)
    if reference.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference", "Give a name and a tag.")
    return reference


def _lineage(plan: Plan) -> list[int]:
    """The target, and the stages that it stands on."""
    stages = {stage.index: stage for stage in plan.stages}
    found = [plan.target.index]
    while isinstance(base := stages[found[-1]].base, int):
        found.append(base)
    return found
