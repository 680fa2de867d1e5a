"""A terminal, or a pipe, as a verb's output and a container's input.

Interface:
- `Terminal()`: a context manager; `.stdin`, `.follow` and the methods of `client.session.Output`.

Rules: results go to stdout, words for the person to stderr. Bars are drawn only on a terminal; else each line that
Docker would print. The terminal's mode and the signals' handlers are put back whatever happens.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Self

from glassdock.client.session import Session
from glassdock.errors import GlassdockError, InvalidParameter

_PROXIED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Terminal:
    """The process's own streams."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    @property
    def stdin(self) -> int:
        """The descriptor that `-i` reads."""
        return sys.stdin.fileno() if sys.stdin else os.open(os.devnull, os.O_RDONLY)

    def out(self, data: bytes) -> None:
        """To stdout, at once."""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def err(self, data: bytes) -> None:
        """To stderr, at once."""
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()

    def note(self, text: str) -> None:
        """A line on stderr."""
        print(text, file=sys.stderr, flush=True)

    def event(self, event: Mapping[str, Any]) -> None:
        """A build's text as it is; a layer's progress as a bar, or as a line when its state changes."""
        if "stream" in event:
            self._end_bars()
            sys.stdout.write(str(event["stream"]))
            sys.stdout.flush()
        elif "status" in event:
            self._status(event)

    def _status(self, event: Mapping[str, Any]) -> None:
        detail, name, status = event.get("progressDetail") or {}, str(event.get("id") or ""), str(event["status"])
        if name and sys.stdout.isatty():
            self._bar(name, status, detail)
        elif not detail.get("current"):
            self._end_bars()
            print(f"{name}: {status}" if name else status, flush=True)

    def _bar(self, name: str, status: str, detail: Mapping[str, Any]) -> None:
        if self._bars is None:
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), DownloadColumn())
            self._bars = Progress(*columns)
            self._bars.start()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None)
        total = detail.get("total")
        shown = {"completed": detail.get("current", 0), "total": total} if total else {}
        if not detail and any(word in status for word in ("omplete", "xists", "ushed", "ounted")):
            shown = {"completed": 1, "total": 1}
        self._bars.update(self._tasks[name], description=f"{name}: {status}", **shown)

    def _end_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._tasks = None, {}

    @contextlib.contextmanager
    def follow(self, session: Session, container: str, has_terminal: bool) -> Iterator[None]:
        """While a container is followed: signals go to it; with a terminal, keys and size too."""
        with contextlib.ExitStack() as stack:
            proxied = _PROXIED[1:] if has_terminal and sys.stdin.isatty() else _PROXIED
            stack.enter_context(_handled(proxied, lambda number: _send(session, container, number)))
            if has_terminal and sys.stdin.isatty():
                stack.enter_context(_raw(sys.stdin.fileno()))
                stack.enter_context(_handled((signal.SIGWINCH,), lambda _: _resize(session.api.resize, container)))
                _resize(session.api.resize, container)
            yield

    @contextlib.contextmanager
    def follow_exec(self, session: Session, identity: str) -> Iterator[None]:
        """While an exec with a terminal is followed: keys and size."""
        with contextlib.ExitStack() as stack:
            if sys.stdin.isatty():
                stack.enter_context(_raw(sys.stdin.fileno()))
                stack.enter_context(_handled((signal.SIGWINCH,), lambda _: _resize(session.api.exec_resize, identity)))
                _resize(session.api.exec_resize, identity)
            yield

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end_bars()


def need_terminal(interactive: bool, terminal: bool) -> None:
    """Raise where `-it` was asked for and stdin is no terminal, in Docker's words."""
    if interactive and terminal and not sys.stdin.isatty():
        raise InvalidParameter("the input device is not a TTY", "Leave -t out.")


def _send(session: Session, container: str, number: int) -> None:
    # The container may end at the same moment: what cannot be delivered any more needs no error.
    with contextlib.suppress(GlassdockError):
        from glassdock.client.containers import Kill

        Kill((container,), signal.Signals(number).name).do(session)


def _resize(resize: Any, name: str) -> None:
    import docker.errors

    size = os.get_terminal_size(sys.stdin.fileno())
    with contextlib.suppress(docker.errors.DockerException):  # it has just ended
        resize(name, height=size.lines, width=size.columns)


@contextlib.contextmanager
def _handled(numbers: tuple[signal.Signals, ...], action: Any) -> Iterator[None]:
    def handler(number: int, _: FrameType | None) -> None:
        action(number)

    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed ahead stays
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
