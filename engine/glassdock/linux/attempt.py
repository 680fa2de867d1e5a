"""One attempt: something is tried in a forked child, which then dies with all that it made.

Interface:
- `attempt(work)`: fork, run `work`, return its `Outcome`: a level, or the step that was refused and its errno.
- `step(name)`, `Refused`: how `work` says what it is trying; `in_child(work)`: one more child, same answer.
- `first(tries, rest)`: the best outcome; `folder_in`, `scratch`: folders that do not stay.

Rules: for a process of its own (probe.py), single-threaded, because it forks. Namespaces take their mounts and
interfaces along when the child dies; what does not die with a child is removed by whoever made it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from glassdock.linux import prctl

_PATIENCE = 5.0
Work = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`level` is what works; `step` and `errno` are of what was refused, on the way to it or instead of it."""

    level: str = ""
    step: str = ""
    errno: int = 0


class Refused(Exception):
    """A step was refused; `outcome` says which and why."""

    def __init__(self, step: str, number: int) -> None:
        super().__init__(step)
        self.outcome = Outcome("", step, number)


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Name what is being tried, for the explanation."""
    try:
        yield
    except OSError as error:
        raise Refused(name, error.errno or errno.EIO) from error


def attempt(work: Work) -> Outcome:
    """Run `work` in a forked child. A child that hangs is killed, with ETIMEDOUT as the answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _report(work, writing)
    os.close(writing)
    data = b""
    with os.fdopen(reading, "rb") as pipe:
        # End of file comes when the child and all that it forked are gone.
        while select.select([pipe], [], [], _PATIENCE)[0] and (chunk := os.read(pipe.fileno(), 65536)):
            data += chunk
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        return Outcome(**json.loads(data))
    except ValueError:
        return Outcome("", "an answer from the child", errno.ETIMEDOUT)


def _report(work: Work, writing: int) -> None:
    """The child: never returns."""
    try:
        os.setpgid(0, 0)
        prctl.set_parent_death_signal(signal.SIGKILL)
        try:
            outcome = Outcome(work())
        except Refused as refused:
            outcome = refused.outcome
        except OSError as error:
            outcome = Outcome("", str(error.strerror).partition(":")[0], error.errno or errno.EIO)
        os.write(writing, json.dumps({"level": outcome.level, "step": outcome.step, "errno": outcome.errno}).encode())
    finally:
        os._exit(0)


def in_child(work: Work) -> str:
    """Run `work` in one more child, for what only a child can do (be in a new PID namespace); same answer."""
    outcome = attempt(work)
    if outcome.step:
        raise Refused(outcome.step, outcome.errno)
    return outcome.level


def first(tries: list[Outcome], rest: str) -> Outcome:
    """The first that works, with why the best one does not; `rest` always works."""
    level = next((outcome.level for outcome in tries if outcome.level), rest)
    refused = tries[0] if tries and not tries[0].level else Outcome()
    return Outcome(level, refused.step, refused.errno)


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """Temporary folders of every attempt, also of one that is killed, are removed at the end."""
    before = tempfile.tempdir
    with folder_in(tempfile.gettempdir()) as folder:
        os.chmod(folder, 0o711)
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextlib.contextmanager
def folder_in(parent: str) -> Iterator[str]:
    """A temporary folder under `parent`, removed with all that an attempt left in it."""
    folder = tempfile.mkdtemp(prefix="glassdock-probe-", dir=parent)
    try:
        yield folder
    finally:
        for path, names, _ in os.walk(folder):
            for name in names:
                os.chmod(f"{path}/{name}", 0o700)  # overlay leaves a folder that nobody may enter
        shutil.rmtree(folder)
