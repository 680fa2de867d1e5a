"""What a build will do, before it does it: stages as a graph, steps with every variable replaced.

No step changes what a variable means (only ENV and ARG do), so once the configs of the base images are known, the whole
build is data: it can be shown, tested and compared, and nothing has run.

Interface:
- `make_plan(tree, options, resolve)`: the `Plan` of the target stage and of those that it needs.

Rules: what is parsed and cannot be carried out is refused here, before an image is pulled or a step runs. A stage that
the target does not need is not looked at.
Source: https://docs.docker.com/build/building/multi-stage/
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from glassdock.build import flags
from glassdock.build.dockerfile import Dockerfile, Stage, parse_trigger
from glassdock.build.instructions import Copy, Instruction, Run, Source
from glassdock.build.options import BuildOptions
from glassdock.build.place import label_step, place, unsupported
from glassdock.build.scope import GlobalScope, StageScope, architecture
from glassdock.build.work import SCRATCH, Plan, StagePlan, Step
from glassdock.errors import BuildError, GlassdockError, NotSupported
from glassdock.oci.image import ImageConfig

Resolve = Callable[[str], Awaitable[ImageConfig]]


async def make_plan(tree: Dockerfile, options: BuildOptions, resolve: Resolve) -> Plan:
    """Plan the target and what it needs; `resolve(name)` gives an image's config, after a pull where that is needed.

    Raises BuildError with file and line, NotSupported for what is not carried out yet, and what `resolve` raises.
    """
    first = tree.arguments[0].source if tree.arguments else tree.stages[0].from_.source
    with located(tree, first):
        scope = GlobalScope.of(tree, options)
    planner = _Planner(tree, options, resolve, scope, _target(tree, options.target))
    await planner.visit(planner.target)
    stages = tuple(planner.done[index] for index in sorted(planner.done))
    skipped = tuple(stage.name for stage in tree.stages if stage.index not in planner.done)
    unused = tuple(sorted(set(scope.given) - scope.consumed))
    return Plan(stages, tuple(argument.source for argument in tree.arguments), skipped, unused)


@contextlib.contextmanager
def located(tree: Dockerfile, source: Source) -> Iterator[None]:
    """Give a ValueError its file and line."""
    try:
        yield
    except ValueError as error:
        message = f"{tree.name} line {source.start}: {error}"
        raise BuildError(message, file=tree.name, line=source.start) from error


def _target(tree: Dockerfile, name: str) -> int:
    if not name:
        return len(tree.stages) - 1
    index = _stage_of(tree, name, len(tree.stages))
    if index is None:
        hint = flags.nearest(name, [stage.from_.name for stage in tree.stages if stage.from_.name])
        message = f"failed to reach build target {name} in {tree.name}" + (f" ({hint})" if hint else "")
        raise BuildError(message, file=tree.name)
    return index


def _stage_of(tree: Dockerfile, name: str, before: int) -> int | None:
    """The stage that `name` (or a number) means among the first `before`; the last one of that name."""
    named = [stage.index for stage in tree.stages[:before] if stage.from_.name == name.lower()]
    if named:
        return named[-1]
    return int(name) if name.isdigit() and int(name) < before else None


@dataclass(slots=True)
class _Planner:
    tree: Dockerfile
    options: BuildOptions
    resolve: Resolve
    scope: GlobalScope
    target: int
    done: dict[int, StagePlan] = field(default_factory=dict)
    ends: dict[int, StageScope] = field(default_factory=dict)

    async def visit(self, index: int) -> None:
        """Plan a stage, and those that it needs before it."""
        if index in self.done:
            return
        stage = self.tree.stages[index]
        for instruction in stage.instructions:
            self._refuse(instruction)
        base, scope = await self._base(stage)
        steps: list[Step] = []
        for instruction, trigger in self._instructions(stage, scope):
            origins = {name: await self._origin(name, instruction.source, index) for name in _names_from(instruction)}
            with located(self.tree, instruction.source):
                network = self.options.network
                steps.append(place(scope, instruction, origins=origins, network=network, trigger=trigger))
        if index == self.target and self.options.labels:
            steps.append(label_step(scope, self.options.labels, stage.from_.source))
        self.ends[index] = scope
        self.done[index] = StagePlan(index, stage.name, stage.from_.source, base, tuple(steps))

    def _refuse(self, instruction: Instruction) -> None:
        if reason := unsupported(instruction):
            where = f"{self.tree.name} line {instruction.source.start}"
            raise NotSupported(f"{where}: {reason} is understood, and not carried out by this builder yet")

    async def _base(self, stage: Stage) -> tuple[int | str, StageScope]:
        """What the stage begins with, and its scope there."""
        with located(self.tree, stage.from_.source):
            name = self.scope.expand(stage.from_.image)
            platform = self.scope.expand(stage.from_.platform) or self.options.platform
            if not name:
                raise ValueError(f"base name ({stage.from_.image}) should not be blank")
            if platform and platform.split("/")[:2] != ["linux", architecture()]:
                where = f"{self.tree.name} line {stage.from_.source.start}"
                message = f"{where}: steps for {platform} cannot run on this machine"
                raise NotSupported(message, f"Build for linux/{architecture()}.")
        above = next((s.index for s in reversed(self.tree.stages[: stage.index]) if s.from_.name == name.lower()), None)
        if above is not None:
            await self.visit(above)
            return above, self.ends[above].child()
        if name.lower() == SCRATCH:
            return SCRATCH, StageScope.from_image(self.scope, None)
        return name, StageScope.from_image(self.scope, await self._image(name, stage.from_.source))

    async def _image(self, name: str, source: Source) -> ImageConfig:
        """The config of an image; what keeps it away is told with the line that wants it."""
        try:
            return await self.resolve(name)
        except GlassdockError as error:
            message = f"{error.message} ({self.tree.name} line {source.start})"
            raise type(error)(message, error.remedy) from error

    def _instructions(self, stage: Stage, scope: StageScope) -> Iterator[tuple[Instruction, bool]]:
        """The base image's ONBUILD triggers, which are used up, then what is written."""
        triggers = scope.config.on_build or ()
        if triggers:
            scope.change(on_build=None)
        for expression in triggers:
            instruction = parse_trigger(expression, stage.from_.source.start)
            self._refuse(instruction)
            yield instruction, True
        for instruction in stage.instructions:
            yield instruction, False

    async def _origin(self, name: str, source: Source, index: int) -> int | str:
        """What `from=name` means: a stage, which is planned first, or an image."""
        stage = _stage_of(self.tree, name, index)
        if stage is not None:
            await self.visit(stage)
            return stage
        with located(self.tree, source):
            if _stage_of(self.tree, name, len(self.tree.stages)) is not None or name.isdigit():
                reason = "it needs to be defined before current stage"
                raise ValueError(f'cannot copy from stage "{name}", {reason} "{self.tree.stages[index].name}"')
        await self._image(name, source)
        return name


def _names_from(instruction: Instruction) -> tuple[str, ...]:
    """The stages and images that an instruction takes files from, as written."""
    if isinstance(instruction, Copy):
        return (instruction.from_,) if instruction.from_ else ()
    if isinstance(instruction, Run):
        return tuple(mount.fields["from"] for mount in instruction.mounts if mount.fields.get("from"))
    return ()
