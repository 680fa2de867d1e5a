"""`exec`: one more program in a container that runs.

Interface:
- `Exec(name, argv, ...)`: a verb with `do(session)`; `Executed`: what became of it.

Rules: the exit code is asked for after the stream has ended. An interrupt ends the watching, not the program, as with
Docker's client without a terminal.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass

from glassdock import trace
from glassdock.client import wire
from glassdock.client.attach import pump
from glassdock.client.mapping import mapped
from glassdock.client.session import Session
from glassdock.containers import detach


@dataclass(frozen=True, slots=True)
class Executed:
    """One exec: `exit_code` is None where nobody waited for it."""

    id: str
    container: str
    argv: tuple[str, ...]
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Exec:
    """`docker exec`; `stdin` are bytes that replace the session's own."""

    name: str
    argv: tuple[str, ...]
    detach: bool = False
    interactive: bool = False
    tty: bool = False
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    privileged: bool = False
    stdin: bytes | None = None
    detach_keys: str = ""

    def do(self, session: Session) -> Executed:
        """Run it and wait for its end. Raises `NotFound`, `Conflict` where the container does not run."""
        attached = not self.detach
        keys = detach.parse(self.detach_keys) if self.tty else b""
        with trace.span("client.exec"), mapped(session.address):
            made = session.api.exec_create(
                self.name,
                list(self.argv),
                stdin=self.interactive and attached,
                stdout=attached,
                stderr=attached,
                tty=self.tty,
                privileged=self.privileged,
                user=self.user,
                environment=list(self.env),
                workdir=self.workdir or None,
                detach_keys=self.detach_keys or None,
            )["Id"]
            if self.detach:
                session.api.exec_start(made, detach=True)
                return Executed(made, self.name, self.argv)
        body = json.dumps({"Detach": False, "Tty": self.tty}).encode()
        path = f"/v{session.api.api_version}/exec/{made}/start"
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(wire.upgrade(session.address, path, body=body))
            if session.follow_exec is not None and self.tty:
                stack.enter_context(session.follow_exec(session, made))
            source = session.stdin if self.stdin is None else self.stdin
            source = source if self.interactive else None
            if pump(stream, session.output, framed=not self.tty, stdin=source, keys=keys):
                session.output.note("read escape sequence")
                return Executed(made, self.name, self.argv)
        with mapped(session.address):
            code = session.api.exec_inspect(made)["ExitCode"]
        return Executed(made, self.name, self.argv, code)
