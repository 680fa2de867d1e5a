"""One run on one axis: the client's spans and the engine's, merged.

Interface:
- `merge(client, engine)`: the `Step`s of a run in the order of the story: parents before children, by start.
- `lines(steps)`: the same as text, for a terminal.

Rules: what the engine made ready before the run (a network, a process from the pool) is `ahead`: it took no time of
this run. All times are of CLOCK_MONOTONIC, which the machine's processes share; a span of the engine that has no
parent there hangs under the client's span in which it began. `actor` is who did it: a process, or inside the daemon
the manager that the course names (images, registry, network, …).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glassdock.trace import Span

_PAUSE = 1_000_000_000
_PROCESSES = ("client", "daemon", "launcher", "shim", "init")
_MANAGERS = ("images", "registry", "network", "unionfs", "volumes", "build")


@dataclass(frozen=True, slots=True)
class Call:
    """A system call: its name, its arguments as text, its result, its duration in nanoseconds."""

    name: str
    arguments: str
    result: str
    duration: int


@dataclass(frozen=True, slots=True)
class Step:
    """A span in its place. `start` is nanoseconds since the run began, 0 if it was `ahead`; `depth` counts from 0."""

    name: str
    actor: str
    depth: int
    start: int
    duration: int
    attributes: Mapping[str, Any]
    file: str
    line: int
    error: str
    syscalls: tuple[Call, ...]
    ahead: bool = False


def merge(client: Sequence[Span], engine: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """The steps of a run; `engine` is what `/glassdock/containers/{id}/trace` tells."""
    ours = [_Node(_facts(span)) for span in client]
    theirs = [_Node(dict(span)) for span in engine]
    roots = _tie(ours)
    for node in _of_the_run(_tie(theirs), roots):
        home = _home(node, ours)
        (home.children if home else roots).append(node)
    if not roots:
        return ()
    first = min(root.start for root in roots)
    return tuple(step for root in sorted(roots, key=lambda n: n.start) for step in root.walk(0, first))


def lines(steps: Iterable[Step]) -> list[str]:
    """A line a step: offset, duration, who, what."""
    return [
        f"{'ahead' if step.ahead else f'{step.start / 1e6:.2f} ms':>12} {step.duration / 1e6:9.2f} ms"
        f"  {step.actor:<9} {'  ' * step.depth}{step.name}" + (f"  ! {step.error}" if step.error else "")
        for step in steps
    ]


class _Node:
    """A span while the tree is tied."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = facts
        self.start, self.end = int(facts["start"]), int(facts["start"]) + int(facts["duration"])
        self.children: list[_Node] = []

    def walk(self, depth: int, first: int) -> Iterator[Step]:
        facts = self.facts
        ahead = bool((facts.get("attributes") or {}).get("prepared")) or self.end < first
        yield Step(
            name=str(facts["name"]),
            actor=_actor(str(facts["process"]), str(facts["name"])),
            depth=depth,
            start=0 if ahead else self.start - first,
            duration=self.end - self.start,
            attributes=dict(facts.get("attributes") or {}),
            file=_place(str(facts.get("file") or "")),
            line=int(facts.get("line") or 0),
            error=str(facts.get("error") or ""),
            syscalls=tuple(
                Call(str(c["name"]), str(c["arguments"]), str(c["result"]), int(c["duration"]))
                for c in facts.get("syscalls") or ()
            ),
            ahead=ahead,
        )
        for child in sorted(self.children, key=_order):
            yield from child.walk(depth + 1, first)


def _order(node: _Node) -> tuple[int, int]:
    """Of processes that work side by side one is told after the other: who is first by a hair says nothing."""
    process = str(node.facts["process"])
    return _PROCESSES.index(process) if process in _PROCESSES else len(_PROCESSES), node.start


def _tie(nodes: Sequence[_Node]) -> list[_Node]:
    """Hang children under parents, the roots."""
    by_id = {node.facts["id"]: node for node in nodes}
    roots: list[_Node] = []
    for node in nodes:
        parent = by_id.get(node.facts["parent"])
        (parent.children if parent else roots).append(node)
    return roots


def _of_the_run(theirs: Sequence[_Node], ours: Sequence[_Node]) -> list[_Node]:
    """The engine's roots that belong to the run: a stop or another start, minutes later, is another story."""
    ordered = sorted(theirs, key=lambda node: node.start)
    if ours:
        end = max(node.end for node in ours)
        return [node for node in ordered if node.start <= end]
    starts = [place for place, node in enumerate(ordered) if node.facts["name"] == "containers.start"]
    last = first = starts[-1] if starts else len(ordered) - 1
    while first > 0 and ordered[first].start - ordered[first - 1].end < _PAUSE:
        first -= 1
    return ordered[max(first, 0) : last + 1]


def _home(node: _Node, ours: Sequence[_Node]) -> _Node | None:
    """The client's innermost span during which `node` began."""
    around = [other for other in ours if other.start <= node.start <= other.end]
    return max(around, key=lambda other: other.start, default=None)


def _actor(process: str, name: str) -> str:
    folder = name.partition(".")[0]
    return folder if process == "daemon" and folder in _MANAGERS else process


def _place(file: str) -> str:
    """A source file below the source root: `glassdock/runtime/launch.py`."""
    _, found, rest = file.rpartition("/glassdock/")
    return f"glassdock/{rest}" if found else file.rpartition("/")[2]


def _facts(span: Span) -> dict[str, Any]:
    calls = [
        {"name": c.name, "arguments": c.arguments, "result": c.result, "duration": c.duration} for c in span.syscalls
    ]
    names = ("id", "parent", "name", "process", "start", "duration", "attributes", "file", "line", "error")
    return {name: getattr(span, name) for name in names} | {"syscalls": calls}
