"""Result objects: what a magic returns, and what can be done with it.

Interface:
- `Container`: `.name`, `.id`, `.exit_code`, `.status`, `.stdout`, `.logs()`, `.stop()`, `.kill()`, `.wait()`, `.rm()`,
  `.exec()`, `.inspect()`, `.trace()`.
- `Image`: `.name`, `.id`, `.history()`, `.layers()`, `.inspect()`, `.rm()`, `.push()`.
- `Table`: rows with their objects behind them; `Document`: inspected JSON; `Done`: names; `Lines`: what an engine
  says of itself; `Doctor`: what the machine allows.
- `present(verb, result, session, cell)`: the object for what a verb returned.

Rules: `str(container)` is what the engine calls it, so `{c}` in a magic's line works; `repr` never shows an id.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glassdock.client import containers, execs, images, run, system
from glassdock.client.session import Session
from glassdock_jupyter.cards import carded
from glassdock_jupyter.execs import Executed, execute
from glassdock_jupyter.output import Cell
from glassdock_jupyter.pictures.layers import LayerExplorer
from glassdock_jupyter.pictures.recorder import RunRecorder
from glassdock_jupyter.show import CODE, SOFT, Shown, escape, table

_EXITED = re.compile(r"^Exited \((\d+)\)")


@dataclass(slots=True, eq=False, repr=False)
class Container(Shown):
    """A container of this session's engine; `exit_code` is None while it runs or if nobody waited for it."""

    session: Session
    id: str
    name: str
    image: str
    named: bool = True
    exit_code: int | None = None
    removed: bool = False
    started: bool = True
    stdout: str = ""
    stderr: str = ""
    _ran: run.Ran | None = None

    def __str__(self) -> str:
        return self.name if self.named and self.name else self.id

    @property
    def status(self) -> str:
        """created, running, exited, … as the engine says now; "removed" once it is gone."""
        if self.removed:
            return "removed"
        return str(self.inspect()["State"]["Status"])

    def logs(self) -> str:
        """What it has written so far, stdout and stderr together as they came."""
        sink = _Collected()
        with _written_to(sink, self.session):
            containers.Logs(str(self)).do(self.session)
        return sink.text()

    def inspect(self) -> Document:
        """Everything the engine knows about it."""
        with carded():
            return Document(str(self), containers.Inspect((str(self),), "container").do(self.session).found[0])

    def stop(self, time: int | None = None) -> Container:
        """Stop signal, `time` seconds, kill."""
        with carded():
            containers.Stop((str(self),), time).do(self.session)
        return self

    def kill(self, signal: str = "KILL") -> Container:
        """Send a signal."""
        with carded():
            containers.Kill((str(self),), signal).do(self.session)
        return self

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        with carded():
            self.exit_code = containers.Wait((str(self),)).do(self.session)[0]
        return self.exit_code

    def rm(self, *, force: bool = False) -> Container:
        """Remove it."""
        with carded():
            containers.Remove((str(self),), force=force).do(self.session)
        self.removed = True
        return self

    def exec(self, command: str | Sequence[str], *, stdin: str | None = None) -> Executed:
        """Run one more program in it, a line or a list of words, and wait."""
        with carded():
            return execute(self.session, str(self), command, stdin=stdin)

    def trace(self) -> RunRecorder:
        """The recording of its run: this client's spans and the engine's."""
        client = self._ran.spans if self._ran else ()
        with carded():
            spans = containers.trace_of(self.session, self.id)
        return RunRecorder.of(self._called, client, spans)

    @property
    def _called(self) -> str:
        return self.name if self.named and self.name else f"of {self.image}"

    def _state(self) -> str:
        living = "running" if self.started else "created"
        return living if self.exit_code is None else f"exited ({self.exit_code})"

    def _text(self) -> str:
        return f"<Container {self._called}: {self._state()}>"

    def _html(self) -> str:
        good = self.exit_code in (None, 0)
        colour = "var(--jp-success-color1,#388e3c)" if good else "var(--jp-error-color1,#d32f2f)"
        return (
            f'<span style="border-left:4px solid {colour};padding-left:8px">Container <b>{escape(self._called)}</b>'
            f' <span style="color:{SOFT}">from {escape(self.image)}</span>: {escape(self._state())}</span>'
        )


@dataclass(slots=True, eq=False, repr=False)
class Image(Shown):
    """An image of this session's engine."""

    session: Session
    name: str
    id: str
    digest: str = ""

    def __str__(self) -> str:
        return self.name

    def history(self) -> Table:
        """The steps that made it, newest first."""
        with carded():
            return _rows(images.History(self.name).do(self.session), self.session)

    def layers(self) -> LayerExplorer:
        """What each instruction added, changed and deleted."""
        with carded():
            return LayerExplorer.of(images.Layers(self.name).do(self.session))

    def inspect(self) -> Document:
        """Everything the engine knows about it."""
        with carded():
            return Document(self.name, containers.Inspect((self.name,), "image").do(self.session).found[0])

    def push(self) -> Image:
        """Send it to its registry; the result knows the digest there."""
        with carded():
            self.digest = images.Push(self.name).do(self.session).digest
        return self

    def rm(self, *, force: bool = False) -> Done:
        """Take its name away, and the image if that was its last."""
        with carded():
            return Done("removed", images.Remove((self.name,), force=force).do(self.session))

    def _text(self) -> str:
        return f"<Image {_tagged(self.name)}>"

    def _html(self) -> str:
        return (
            '<span style="border-left:4px solid var(--jp-info-color1,#0288d1);padding-left:8px">'
            f"Image <b>{escape(_tagged(self.name))}</b></span>"
        )


@dataclass(slots=True, repr=False)
class Table(Shown):
    """A list. `items` are the objects behind the rows; `table["web"]` finds by first column, `table[0]` by place."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    items: tuple[Any, ...] = field(default=(), repr=False)
    empty: str = "nothing"

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, int):
            return self.items[key]
        for row, item in zip(self.rows, self.items, strict=True):
            if key in (row[0], ":".join(row[:2])):
                return item
        raise KeyError(key)

    def _text(self) -> str:
        from glassdock.cli.tables import lay_out

        return "\n".join(lay_out(self.header, self.rows)) if self.rows else self.empty

    def _html(self) -> str:
        return table(self.header, self.rows) if self.rows else f"<i>{escape(self.empty)}</i>"


class Document(Shown, Mapping[str, Any]):
    """Inspected JSON: a mapping, shown as a tree that opens."""

    __slots__ = ("_facts", "name")

    def __init__(self, name: str, facts: Mapping[str, Any]) -> None:
        self.name = name
        self._facts = facts

    def __getitem__(self, key: str) -> Any:
        return self._facts[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def _text(self) -> str:
        return json.dumps(self._facts, indent=2, ensure_ascii=False)

    def _html(self) -> str:
        return f'<div style="{CODE}"><b>{escape(self.name)}</b>{_tree(self._facts)}</div>'


@dataclass(slots=True, repr=False)
class Done(Shown):
    """What a verb on names did."""

    what: str
    names: tuple[str, ...]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def _text(self) -> str:
        return f"{self.what}: {', '.join(self.names)}" if self.names else f"{self.what}: nothing"

    def _html(self) -> str:
        return escape(self._text())


@dataclass(slots=True, repr=False)
class Lines(Shown):
    """A few lines that an engine says of itself; `facts` is all that it said."""

    lines: tuple[str, ...]
    facts: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.facts[key]

    def _text(self) -> str:
        return "\n".join(self.lines)


@dataclass(slots=True, repr=False)
class Doctor(Shown):
    """What this machine allows; `report` is the probe's, `doctor["net"]` one axis of it."""

    report: Any

    def __getitem__(self, axis: str) -> Any:
        return self.report.axis(axis)

    def _text(self) -> str:
        return str(self.report)

    def _html(self) -> str:
        rows = [
            ("✓" if axis.ok else "✗", axis.name, axis.level, f"{axis.cause} {axis.errno}".strip(), axis.remedy)
            for axis in self.report.axes
        ]
        return table(("", "axis", "this machine has", "because", "what would help"), rows)


class _Collected:
    """An output that is kept."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def out(self, data: bytes) -> None:
        self._parts.append(data)

    err = out

    def event(self, event: Mapping[str, Any]) -> None:
        """Not part of a log."""

    def note(self, text: str) -> None:
        """Not part of a log."""

    def text(self) -> str:
        return b"".join(self._parts).decode(errors="replace")


@contextlib.contextmanager
def _written_to(sink: _Collected, session: Session) -> Iterator[None]:
    """The session with another output, and errors as cards, for a while."""
    before, session.output = session.output, sink
    try:
        with carded():
            yield
    finally:
        session.output = before


def present(verb: Any, result: Any, session: Session, cell: Cell) -> Any:
    """The object for what `verb` returned; None where the output was everything."""
    match result:
        case run.Ran():
            return Container(
                session=session,
                id=result.id,
                name=result.name,
                image=result.image,
                named=result.named,
                exit_code=result.exit_code,
                removed=result.removed,
                started=result.started,
                stdout=cell.stdout,
                stderr=cell.stderr,
                _ran=result,
            )
        case execs.Executed():
            return Executed.of(result, cell.stdout, cell.stderr)
        case containers.Rows():
            return _rows(result, session)
        case containers.Objects():
            documents = [Document(n, found) for n, found in zip(verb.names, result.found, strict=True)]
            return documents[0] if len(documents) == 1 else tuple(documents)
        case images.Named():
            return Image(session, result.name, result.id, result.digest)
        case images.LayerStack():
            return LayerExplorer.of(result)
        case system.Facts():
            return _facts(result)
    return Doctor(result) if isinstance(verb, system.Doctor) else _done(verb, result)


def _done(verb: Any, result: Any) -> Any:
    words = {
        containers.Stop: "stopped",
        containers.Kill: "signalled",
        containers.Remove: "removed",
        run.Start: "started",
    }
    if isinstance(verb, containers.Wait):
        return result[0] if len(result) == 1 else result
    if isinstance(verb, images.Remove):
        return Done("removed", tuple(line.partition(": ")[2] for line in result if line.startswith("Untagged")))
    return Done(words[type(verb)], result) if type(verb) in words else result


def _rows(found: containers.Rows, session: Session) -> Table:
    from glassdock.cli import tables

    if found.kind == "container":
        items = tuple(_listed(row, session) for row in found.rows)
        header = ("NAME", "IMAGE", "COMMAND", "STATUS", "PORTS")
        rows = [
            (item.name, item.image, str(row.get("Command", "")), _status(row), _ports(row))
            for item, row in zip(items, found.rows, strict=True)
        ]
        return Table(header, tuple(rows), items, "no containers")
    columns = {
        "image": (("REPOSITORY", "Repository"), ("TAG", "Tag"), ("SIZE", "Size")),
        "history": (("CREATED BY", "CreatedBy"), ("SIZE", "Size"), ("COMMENT", "Comment")),
        "network": (("NAME", "Name"), ("DRIVER", "Driver"), ("SCOPE", "Scope")),
        "volume": (("NAME", "Name"), ("DRIVER", "Driver"), ("MOUNTPOINT", "Mountpoint")),
    }[found.kind]
    fields = [(row, field) for row in found.rows for field in tables.fields(found.kind, row, whole=True)]
    cells = tuple(tuple(field[name] for _, name in columns) for _, field in fields)
    made = tuple(_item(found.kind, row, field, session) for row, field in fields)
    return Table(tuple(header for header, _ in columns), cells, made, f"no {found.kind}s")


def _item(kind: str, row: Mapping[str, Any], fields: Mapping[str, str], session: Session) -> Any:
    if kind != "image":
        return Document(fields.get("Name", fields.get("CreatedBy", "")), row)
    named = fields["Repository"] != "<none>"
    return Image(session, f"{fields['Repository']}:{fields['Tag']}" if named else fields["ID"], fields["ID"])


def _listed(row: Mapping[str, Any], session: Session) -> Container:
    exited = _EXITED.match(row.get("Status", ""))
    name = next((name.lstrip("/") for name in row.get("Names") or () if name.count("/") <= 1), row["Id"][:12])
    code = int(exited[1]) if exited else None
    return Container(session=session, id=row["Id"], name=name, image=row.get("Image", ""), exit_code=code)


def _ports(row: Mapping[str, Any]) -> str:
    from glassdock.cli.tables import ports_text

    return ports_text(row.get("Ports") or ())


def _status(row: Mapping[str, Any]) -> str:
    """The state without its age: running, exited (0), created."""
    exited = _EXITED.match(row.get("Status", ""))
    return f"exited ({exited[1]})" if exited else str(row.get("State", ""))


def _facts(found: system.Facts) -> Lines:
    from glassdock.cli.engine import status_lines

    facts = found.facts
    if found.kind == "status":
        return Lines(tuple(status_lines(facts)), facts)
    if found.kind == "registry":
        rows = [f"  {name}: {', '.join(sorted(tags))}" for name, tags in sorted(facts["repositories"].items())]
        return Lines((facts["address"], *rows), facts)
    if found.kind == "version":
        sides = [f"{side}: {facts[side].get('Version', '')}, API {facts[side].get('ApiVersion', '')}" for side in facts]
        return Lines(tuple(sides), facts)
    shown = ("ServerVersion", "Containers", "ContainersRunning", "Images", "Driver", "CgroupVersion", "OperatingSystem")
    return Lines(tuple(f"{key}: {facts[key]}" for key in shown if key in facts), facts)


def _tree(value: Any) -> str:
    """JSON as a tree of `<details>`: scalars stay on their line, short lists too."""
    pairs: Sequence[tuple[Any, Any]]
    pairs = list(value.items()) if isinstance(value, Mapping) else list(enumerate(value))
    made = []
    for key, item in pairs:
        if isinstance(item, Mapping | list) and item and len(json.dumps(item)) > 60:
            made.append(f"<details><summary>{escape(key)}</summary>{_tree(item)}</details>")
        else:
            text = escape(json.dumps(item, ensure_ascii=False))
            made.append(f'<div><span style="color:{SOFT}">{escape(key)}:</span> {text}</div>')
    return f'<div style="margin-left:1.5em">{"".join(made)}</div>'


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] or name.startswith("sha256:") else f"{name}:latest"
