"""`run`, `create`, `start` and `attach`: a container's life as its caller sees it.

Interface:
- `Run(options, ...)`, `Create(options)`, `Start(names, ...)`, `Attach(name, ...)`: verbs with `do(session)`.
- `Ran`: what became of it: name, exit code (None while it runs), the spans that the client recorded.

Rules: attach and wait are asked for before the start, so that neither the first byte nor the exit code of a short
life is lost. A KeyboardInterrupt that reaches `do` stops the container: stop signal, a short grace, kill.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from glassdock import errors, trace
from glassdock.client import create as _create
from glassdock.client.attach import attach, pump
from glassdock.client.containers import trace_of
from glassdock.client.extras import post
from glassdock.client.images import Pull
from glassdock.client.mapping import mapped
from glassdock.client.session import Session
from glassdock.containers import detach

_GRACE = 2
_NO_IMAGE = re.compile(r"No such image", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ran:
    """One run: `exit_code` is None for a container that was left running, or only made (`started` false)."""

    id: str
    name: str
    image: str
    exit_code: int | None = None
    named: bool = False
    removed: bool = False
    started: bool = True
    detached: bool = False
    warnings: tuple[str, ...] = ()
    spans: tuple[trace.Span, ...] = ()
    engine_spans: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Create:
    """`docker create`: make a container, pulling its image if need be."""

    options: _create.Options
    pull: str = "missing"
    replace: bool = False

    def do(self, session: Session) -> Ran:
        """The container, created. Raises `NotFound`, `Conflict`, `InvalidParameter`."""
        options = replace(self.options, labels={**session.labels, **self.options.labels})
        body = _create.body(options)
        if self.replace and options.name:
            with contextlib.suppress(errors.NotFound), mapped(session.address):
                session.api.remove_container(options.name, force=True, v=True)
        if self.pull == "always":
            Pull(options.image).do(session)
        try:
            made = self._post(session, body)
        except errors.NotFound as error:
            if self.pull == "never" or not _NO_IMAGE.search(error.message):
                raise
            session.output.note(f"Unable to find image '{_tagged(options.image)}' locally")
            with trace.span("client.pull", image=options.image):
                Pull(options.image).do(session)
            made = self._post(session, body)
        warnings = tuple(made.get("Warnings") or ())
        named = bool(options.name)
        return Ran(made["Id"], options.name, options.image, named=named, started=False, warnings=warnings)

    def _post(self, session: Session, body: dict[str, Any]) -> Any:
        with trace.span("client.create", image=self.options.image), mapped(session.address):
            return session.api.create_container_from_config(body, name=self.options.name or None)


@dataclass(frozen=True, slots=True)
class Run:
    """`docker run`: create, attach, start, wait.

    `stdin` replaces the session's own; `record` keeps the engine's spans with the client's; `check` makes a
    non-zero exit code an error; `proxy` lets the session pass signals on.
    """

    options: _create.Options
    pull: str = "missing"
    replace: bool = False
    check: bool = False
    record: bool = False
    stdin: bytes | None = None
    proxy: bool = True
    detach_keys: str = ""

    def do(self, session: Session) -> Ran:
        """The run, ended, or left running with `detach`. Raises what the engine says, `GlassdockError` for `check`."""
        _ = session.client  # connecting, and perhaps starting an engine, is no part of the run
        with trace.recording("client") as recorded, trace.span("client.run", image=self.options.image):
            made = Create(self.options, self.pull, self.replace).do(session)
            for warning in made.warnings:
                session.output.note(f"WARNING: {warning}")
            try:
                done = self._start(session, made)
            except errors.GlassdockError:
                _forget(session, made.id, self.options.remove)
                raise
            except KeyboardInterrupt:
                _interrupt(session, made)
                _forget(session, made.id, self.options.remove)
                raise
        done = replace(
            done, started=True, spans=tuple(recorded.spans), engine_spans=self._engine_spans(session, made.id)
        )
        if self.check and done.exit_code:
            raise errors.GlassdockError(
                f"the container ended with exit code {done.exit_code}", "Leave --check out to get the code as a value."
            )
        return done

    def _start(self, session: Session, made: Ran) -> Ran:
        if self.options.detach:
            _start(session, made.id)
            return made
        keys = detach.parse(self.detach_keys) if self.options.tty else b""
        with contextlib.ExitStack() as stack:
            with trace.span("client.attach"):
                wants = self.options.interactive
                stream = stack.enter_context(attach(session, made.id, stdin=wants, keys=self.detach_keys))
            condition = "removed" if self.options.remove else "next-exit"
            waiting = stack.enter_context(_wait(session, made.id, condition))
            _start(session, made.id)
            if session.follow is not None and self.proxy:
                stack.enter_context(session.follow(session, made.id, self.options.tty))
            with trace.span("client.follow"):
                if pump(stream, session.output, framed=not self.options.tty, stdin=self._input(session), keys=keys):
                    return _detached(session, made)
            with trace.span("client.wait"):
                code = _exit_code(session, waiting)
        return replace(made, exit_code=code, removed=self.options.remove)

    def _input(self, session: Session) -> int | bytes | None:
        if not self.options.interactive:
            return None
        return session.stdin if self.stdin is None else self.stdin

    def _engine_spans(self, session: Session, container: str) -> tuple[Mapping[str, Any], ...]:
        """The engine's spans of the run; it keeps those of a removed container for a while."""
        if not self.record:
            return ()
        try:
            return trace_of(session, container)
        except errors.NotSupported:
            return ()  # another engine: the client's own spans remain


@dataclass(frozen=True, slots=True)
class Start:
    """`docker start`: start containers that exist; with `attach` follow the only one."""

    names: tuple[str, ...]
    attach: bool = False
    interactive: bool = False
    detach_keys: str = ""

    def do(self, session: Session) -> Ran | tuple[str, ...]:
        """The names, or with `attach` what became of the container."""
        if not (self.attach or self.interactive):
            for name in self.names:
                _start(session, name)
            return self.names
        if len(self.names) != 1:
            raise errors.InvalidParameter("you cannot start and attach multiple containers at once")
        return _followed(session, self.names[0], stdin=self.interactive, starts=True, keys=self.detach_keys)


@dataclass(frozen=True, slots=True)
class Attach:
    """`docker attach`: follow a running container, with its stdin where it has one."""

    name: str
    stdin: bool = True
    proxy: bool = True
    detach_keys: str = ""

    def do(self, session: Session) -> Ran:
        """What became of it. Raises `Conflict` if it does not run."""
        return _followed(session, self.name, stdin=self.stdin, starts=False, proxy=self.proxy, keys=self.detach_keys)


def _detached(session: Session, made: Ran) -> Ran:
    session.output.note("read escape sequence")
    return replace(made, detached=True)


def _followed(session: Session, name: str, *, stdin: bool, starts: bool, proxy: bool = True, keys: str = "") -> Ran:
    pressed = detach.parse(keys)
    with mapped(session.address):
        found = session.api.inspect_container(name)
    if not starts and not found["State"]["Running"]:
        raise errors.Conflict("You cannot attach to a stopped container, start it first", f"`glassdock start {name}`.")
    config = found["Config"]
    wants = stdin and session.stdin is not None and config["OpenStdin"]
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(attach(session, name, stdin=wants, keys=keys))
        waiting = stack.enter_context(_wait(session, name, "next-exit" if starts else "not-running"))
        if starts:
            _start(session, name)
        if session.follow is not None and proxy:
            stack.enter_context(session.follow(session, name, config["Tty"]))
        source, pressed = session.stdin if wants else None, pressed if config["Tty"] else b""
        made = Ran(id=found["Id"], name=found["Name"].lstrip("/"), image=config["Image"], named=True)
        if pump(stream, session.output, framed=not config["Tty"], stdin=source, keys=pressed):
            return _detached(session, made)
        code = _exit_code(session, waiting)
    return replace(made, exit_code=code)


def _start(session: Session, container: str) -> None:
    with trace.span("client.start"), mapped(session.address):
        session.api.start(container)


@contextlib.contextmanager
def _wait(session: Session, container: str, condition: str) -> Iterator[Any]:
    """The response to a wait whose head is here: from now on no exit can be missed."""
    response = post(session.client, f"containers/{container}/wait", {"condition": condition})
    try:
        yield response
    finally:
        response.close()


def _exit_code(session: Session, response: Any) -> int:
    with mapped(session.address):
        answer = response.json()
    failed = answer.get("Error") or {}
    if failed.get("Message"):
        raise errors.GlassdockError(failed["Message"])
    return int(answer["StatusCode"])


def _forget(session: Session, container: str, remove: bool) -> None:
    """After a failed or interrupted start: Docker's client leaves the container, and removes it with --rm."""
    if remove:
        with contextlib.suppress(errors.GlassdockError), mapped(session.address):
            session.api.remove_container(container, force=True, v=True)


def _interrupt(session: Session, made: Ran) -> None:
    """Stop what an interrupt left running. A second interrupt kills at once."""
    name = made.name or made.id[:12]
    try:
        with contextlib.suppress(errors.NotFound), mapped(session.address):
            session.api.stop(made.id, timeout=_GRACE)
        session.output.note(f"Interrupted: the container {name} was stopped.")
    except KeyboardInterrupt:
        with contextlib.suppress(errors.NotFound, errors.Conflict), mapped(session.address):
            session.api.kill(made.id)
        session.output.note(f"Interrupted: the container {name} was killed.")


def _tagged(image: str) -> str:
    last = image.rpartition("/")[2]
    return image if ":" in last or "@" in last else f"{image}:latest"
