"""A cell as a verb's output.

Interface:
- `Cell()`: implements `glassdock.client.session.Output`; `finish()` before the magic returns.
- `.stdout`, `.stderr`: what the container wrote, as text, up to the cap.

Rules: stdout and stderr apart, line by line, capped with a pointer to the log. Everything is written by the thread
that runs the cell, so nothing lands in the next one. Progress is one line that is overwritten and ends as a plain
line; it appears only if the work takes a while, so that short work always looks the same.
"""

from __future__ import annotations

import codecs
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

_CAP_LINES, _CAP_CHARACTERS = 1000, 512 * 1024
_PATIENCE, _PERIOD = 1.0, 0.2
_STEP = re.compile(r"^Step (\d+)/(\d+) : (.*)", re.DOTALL)
_NOISE = re.compile(r"^( ---> |Removing intermediate container|Successfully (built|tagged) )")
_DONE = re.compile(r"^Status: (.*)")
_ENDS = {
    "Pull complete": "downloaded",
    "Already exists": "already here",
    "Pushed": "sent",
    "Layer already exists": "already there",
}


class _Lines:
    """One stream of a container: decoded, whole lines at once, capped."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._lines = self._characters = 0
        self.kept: list[str] = []
        self.cut = False

    def write(self, data: bytes, *, final: bool = False) -> None:
        """Write the whole lines in `data`; the rest with the next, or now if it is the last."""
        text = self._rest + self._decoder.decode(data, final)
        at = len(text) if final else max(text.rfind("\n"), text.rfind("\r")) + 1
        whole, self._rest = text[:at], text[at:]
        if not whole:
            return
        room = _CAP_CHARACTERS - self._characters
        if self._lines >= _CAP_LINES or room <= 0:
            self.cut = True
            return
        lines = whole.splitlines(keepends=True)
        shown = "".join(lines[: _CAP_LINES - self._lines])[:room]
        self.cut = self.cut or len(shown) < len(whole)
        self._lines += len(lines)
        self._characters += len(shown)
        self.kept.append(shown)
        stream: TextIO = getattr(sys, self._target)
        stream.write(shown)
        stream.flush()


class Cell:
    """The output of the cell that runs now."""

    def __init__(self) -> None:
        self._out, self._err = _Lines("stdout"), _Lines("stderr")
        self._began = self._last = time.monotonic()
        self._layers: dict[str, tuple[int, int]] = {}
        self._ends: dict[str, str] = {}
        self._bar = 0
        self._step = ""

    @property
    def stdout(self) -> str:
        """What was shown of the container's stdout."""
        return "".join(self._out.kept)

    @property
    def stderr(self) -> str:
        """What was shown of the container's stderr."""
        return "".join(self._err.kept)

    def out(self, data: bytes) -> None:
        """A container's stdout."""
        self._end_bar()
        self._out.write(data)

    def err(self, data: bytes) -> None:
        """A container's stderr."""
        self._end_bar()
        self._err.write(data)

    def note(self, text: str) -> None:
        """A line from us: on stderr, as the command line does it."""
        self._end_bar()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def event(self, event: Mapping[str, Any]) -> None:
        """A line of pull, push or build, shortened to what a reader of the notebook wants."""
        if "stream" in event:
            self._build(str(event["stream"]))
        elif "status" in event:
            self._progress(event)

    def finish(self, container: str = "") -> None:
        """Write what is left. `container` is named where the output was cut."""
        self._end_bar()
        self._flush_step()
        self._tell_layers()
        for lines in (self._out, self._err):
            lines.write(b"", final=True)
        if self._out.cut or self._err.cut:
            where = f": %container logs {container}" if container else "."
            self.note(f"… the rest is not shown; the log has all of it{where}")

    def _build(self, text: str) -> None:
        """Docker's classic build lines as BuildKit's short ones: `[2/4] RUN make (cached)`."""
        for line in text.splitlines(keepends=True):
            step = _STEP.match(line)
            if step:
                self._flush_step()
                self._step = f"[{step[1]}/{step[2]}] {step[3].strip()}"
            elif line.startswith(" ---> Using cache"):
                self._step += " (cached)"
            elif line.startswith(" ---> Running in"):
                self._flush_step()
            elif line.strip() and not _NOISE.match(line):
                self._flush_step()
                self._out.write(f"      {line}".encode())

    def _flush_step(self) -> None:
        if self._step:
            step, self._step = self._step, ""
            self._say(step)

    def _progress(self, event: Mapping[str, Any]) -> None:
        name, detail = str(event.get("id") or ""), event.get("progressDetail") or {}
        if detail.get("total"):
            self._layers[name] = (int(detail.get("current") or 0), int(detail["total"]))
            now = time.monotonic()
            if now - self._began > _PATIENCE and now - self._last > _PERIOD:
                self._last = now
                done, total = (sum(column) for column in zip(*self._layers.values(), strict=True))
                self._draw(f"{len(self._layers)} layers: {done / 1e6:.1f} of {total / 1e6:.1f} MB")
            return
        status = str(event["status"])
        end = "already there" if status.startswith("Mounted from") else _ENDS.get(status)
        if end and name:
            self._ends[name] = end
        told = _DONE.match(status)
        if told:
            self._say(told[1])
            self._tell_layers()

    def _tell_layers(self) -> None:
        """The last state of a pull or push: what went over the wire, and what did not have to."""
        counts = [(list(self._ends.values()).count(end), end) for end in dict.fromkeys(_ENDS.values())]
        told = ", ".join(f"{count} {end}" for count, end in counts if count)
        self._ends = {}
        if told:
            self._say(f"Layers: {told}")

    def _say(self, text: str) -> None:
        """A line of ours: on the cell's stdout, and no part of the container's."""
        self._end_bar()
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def _draw(self, text: str) -> None:
        sys.stdout.write("\r" + text.ljust(self._bar))
        sys.stdout.flush()
        self._bar = len(text)

    def _end_bar(self) -> None:
        if self._bar:
            self._draw("")
            sys.stdout.write("\r")
            self._bar = 0
