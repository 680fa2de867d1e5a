"""The progress of a build as the classic endpoint tells it: JSON lines that `docker build` prints.

Interface:
- `Stream(progress, quiet)`: the observer of an execution; `start` and `finish` frame it.

Rules: the words are the classic builder's. Bytes of a command's output become text whatever they are; a character that
is split over two writes is put together.
Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image/operation/ImageBuild
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from glassdock.build.instructions import Source
from glassdock.build.lines import Finding
from glassdock.build.work import Plan
from glassdock.images.progress import Progress, short


def _decoders() -> dict[int, codecs.IncrementalDecoder]:
    make = codecs.getincrementaldecoder("utf-8")
    return {1: make(errors="replace"), 2: make(errors="replace")}


@dataclass(slots=True)
class Stream:
    """Tells what happens, a line each; with `quiet` only the image's id at the end."""

    progress: Progress
    quiet: bool = False
    _number: int = 0
    _total: int = 0
    _unused: tuple[str, ...] = ()
    _decoders: dict[int, codecs.IncrementalDecoder] = field(default_factory=_decoders)

    def start(self, plan: Plan, name: str, findings: Sequence[Finding]) -> None:
        """The plan is made; warnings about the Dockerfile come first."""
        self._total = plan.length
        self._unused = plan.unused_arguments
        for finding in findings:
            self._say(f"[Warning] {finding.rule}: {finding.message} ({name} line {finding.line})\n")

    def begin(self, source: Source, *, trigger: bool) -> None:
        """`Step 2/5 : RUN make`."""
        if trigger:
            self._say(f"# Executing build trigger\nStep {self._number}/{self._total} : {source.text}\n")
            return
        self._number += 1
        self._say(f"Step {self._number}/{self._total} : {source.text}\n")

    def cached(self) -> None:
        """` ---> Using cache`."""
        self._say(" ---> Using cache\n")

    def running(self, key: str) -> None:
        """` ---> Running in 0123456789ab`."""
        self._say(f" ---> Running in {key[:12]}\n")

    def output(self, stream: int, data: bytes) -> None:
        """What the command wrote."""
        if text := self._decoders[stream].decode(data):
            self._say(text)

    def removed(self, key: str) -> None:
        """`Removing intermediate container 0123456789ab`; an incomplete character is no longer waited for."""
        for stream in self._decoders.values():
            if text := stream.decode(b"", final=True):
                self._say(text)
            stream.reset()
        self._say(f"Removing intermediate container {key[:12]}\n")

    def end(self, image_id: str) -> None:
        """` ---> 0123456789ab`."""
        self._say(f" ---> {short(image_id)}\n")

    def finish(self, image_id: str, names: Sequence[str]) -> None:
        """The image is there."""
        if self.quiet:
            self.progress({"stream": f"{image_id}\n"})
            return
        if self._unused:
            self._say(f"[Warning] One or more build-args [{' '.join(self._unused)}] were not consumed\n")
        self.progress({"aux": {"ID": image_id}})
        self._say(f"Successfully built {short(image_id)}\n")
        for name in names:
            self._say(f"Successfully tagged {name}\n")

    def tell(self, line: dict[str, Any]) -> None:
        """A line of a pull, passed on."""
        if not self.quiet:
            self.progress(line)

    def _say(self, text: str) -> None:
        if not self.quiet:
            self.progress({"stream": text})
