"""The plan of a build as values: stages, steps, and what each step does.

Interface:
- `RunWork`, `CopyWork`, `DirectoryWork`: what makes a layer; `Step.work` is one of them, or None.
- `Step`, `StagePlan`, `Plan`: each with `describe()`.

Rules: frozen, every variable replaced, no file opened. `plan.py` makes them, `execute.py` carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass

from glassdock.build.instructions import Source
from glassdock.build.remote import Remote
from glassdock.oci.image import ContainerConfig

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class MountWork:
    """A mount of a RUN: `kind` is bind, cache, tmpfs, secret, ssh, or document (`content` at `target`).

    `source` is absolute in its origin (None: the context; for a cache: an empty folder). `size` in bytes, 0: no limit.
    """

    kind: str
    target: str
    source: str = "/"
    origin: int | str | None = None
    writable: bool = False
    id: str = ""
    sharing: str = "shared"
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int = 0
    required: bool = False
    content: bytes = b""

    @property
    def depends_on_files(self) -> bool:
        """Whether the step's result depends on what is there: caches and secrets do not count."""
        return self.kind == "bind"

    def describe(self) -> str:
        """What is there, in words."""
        where = {type(None): "the context", int: f"stage {self.origin}", str: f"image {self.origin}"}[type(self.origin)]
        what = f"{self.source} of {where}" if self.kind == "bind" else self.id
        return f"{self.kind} {what} at {self.target}"


@dataclass(frozen=True, slots=True)
class RunWork:
    """A command in a container on top of the layers so far. `hidden` is in the environment, not in cache or history."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    network: str
    hidden: tuple[str, ...] = ()
    mounts: tuple[MountWork, ...] = ()

    def describe(self) -> str:
        """What happens, in words."""
        who = f" as {self.user}" if self.user else ""
        mounts = "".join(f", with {mount.describe()}" for mount in self.mounts)
        return f"runs {' '.join(self.argv)!r} in {self.cwd}{who}, network {self.network}{mounts}"


@dataclass(frozen=True, slots=True)
class CopyWork:
    """Files from the context (origin None), a stage (its index) or an image (its name) to an absolute path.

    `destination` keeps its trailing slash. `documents` are (name, content) given in the Dockerfile itself. `bind` says
    that nobody wrote COPY: it is the source of a mount. `remotes` are fetched, and unpacked only if `unpack_remotes`.
    """

    origin: int | str | None
    sources: tuple[str, ...]
    documents: tuple[tuple[str, bytes], ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    excludes: tuple[str, ...] = ()
    unpack: bool = False
    parents: bool = False
    link: bool = False
    bind: bool = False
    remotes: tuple[Remote, ...] = ()
    unpack_remotes: bool = False

    def describe(self) -> str:
        """What happens, in words."""
        where = {type(None): "the context", int: f"stage {self.origin}", str: f"image {self.origin}"}[type(self.origin)]
        what = ", ".join(
            [*self.sources, *(one.url for one in self.remotes), *(f"<<{name}" for name, _ in self.documents)]
        )
        return f"copies {what} from {where} to {self.destination}"


@dataclass(frozen=True, slots=True)
class DirectoryWork:
    """WORKDIR makes its directory, for the user of the image."""

    path: str
    user: str

    def describe(self) -> str:
        """What happens, in words."""
        return f"makes the directory {self.path} where it is missing"


Work = RunWork | CopyWork | DirectoryWork


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction, ready to be carried out. `config` and `author` are the image's after it."""

    source: Source
    created_by: str
    config: ContainerConfig
    author: str = ""
    work: Work | None = None
    trigger: bool = False

    def describe(self) -> str:
        """The step as one line of the plan."""
        doing = self.work.describe() if self.work else "changes the image's config, makes no layer"
        return f"line {self.source.start}: {self.source.text} -- {doing}"


@dataclass(frozen=True, slots=True)
class StagePlan:
    """The steps of one stage on top of `base`: a stage's index, an image's name, or SCRATCH."""

    index: int
    name: str
    source: Source
    base: int | str
    steps: tuple[Step, ...]

    def needs(self) -> frozenset[int]:
        """The stages that come before this one."""
        origins = [step.work.origin for step in self.steps if isinstance(step.work, CopyWork)]
        runs = [step.work for step in self.steps if isinstance(step.work, RunWork)]
        origins += [mount.origin for run in runs for mount in run.mounts]
        return frozenset(origin for origin in (self.base, *origins) if isinstance(origin, int))


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages to build, each after those it needs; the last is the target. `skipped` stages are not needed."""

    stages: tuple[StagePlan, ...]
    arguments: tuple[Source, ...]
    skipped: tuple[str, ...] = ()
    unused_arguments: tuple[str, ...] = ()

    @property
    def target(self) -> StagePlan:
        """The stage that becomes the image."""
        return self.stages[-1]

    @property
    def length(self) -> int:
        """How many steps the classic builder counts: ONBUILD triggers belong to their FROM."""
        own = sum(1 for stage in self.stages for step in stage.steps if not step.trigger)
        return len(self.arguments) + len(self.stages) + own

    def describe(self) -> str:
        """The plan, a line a step."""
        lines: list[str] = []
        for stage in self.stages:
            base = f"stage {stage.base}" if isinstance(stage.base, int) else stage.base
            lines.append(f"stage {stage.name} from {base}")
            lines += [f"  {step.describe()}" for step in stage.steps]
        return "\n".join([*lines, *(f"stage {name} is not needed" for name in self.skipped)])
