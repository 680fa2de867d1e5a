"""The verbs on images.

Interface:
- `List`, `Pull`, `Push`, `Build`, `Tag`, `Remove`, `History`, `Layers`: frozen dataclasses with `do(session)`.
- `Named(id, name)`: an image as a verb's result.

Rules: pull, push and build deliver each JSON line to `Session.output.event`; an error among them is raised.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glassdock import errors, trace
from glassdock.client.containers import Rows, filter_map
from glassdock.client.extras import extra
from glassdock.client.mapping import from_event, mapped
from glassdock.client.session import Session


@dataclass(frozen=True, slots=True)
class Named:
    """An image by what it was called and what it is; `digest` is the manifest's where one was told."""

    name: str
    id: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class List:
    """`docker images`; `name` narrows to one repository or reference."""

    name: str = ""
    all: bool = False
    filters: tuple[str, ...] = ()

    def do(self, session: Session) -> Rows:
        """The images, newest first."""
        filters = filter_map(self.filters)
        with mapped(session.address):
            rows = session.api.images(name=self.name or None, all=self.all, filters=filters or None)
        return Rows("image", tuple(rows))


@dataclass(frozen=True, slots=True)
class Pull:
    """`docker pull`: bring an image from its registry."""

    name: str
    platform: str = ""
    all_tags: bool = False

    def do(self, session: Session) -> Named:
        """The image. Raises `NotFound`, `Unauthorized`, `Unavailable`."""
        repository, tag = _split(self.name)
        with mapped(session.address):
            events = session.api.pull(
                repository,
                tag=tag or "latest",
                stream=True,
                decode=True,
                platform=self.platform or None,
                all_tags=self.all_tags,
            )
            digest = _deliver(events, session)
            found = session.api.inspect_image(self.name)
        return Named(self.name, found["Id"], digest)


@dataclass(frozen=True, slots=True)
class Push:
    """`docker push`: send an image to its registry."""

    name: str

    def do(self, session: Session) -> Named:
        """The image with the digest under which the registry keeps it."""
        repository, tag = _split(self.name)
        with mapped(session.address):
            events = session.api.push(repository, tag=tag or "latest", stream=True, decode=True)
            digest = _deliver(events, session)
            found = session.api.inspect_image(self.name)
        return Named(self.name, found["Id"], digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """`docker build`. The Dockerfile is `text` where it is given (a cell), else the file `dockerfile`.

    `context` is a folder, or None for an empty one; a relative `dockerfile` is looked up as Docker does: from the
    working directory, with CONTEXT/Dockerfile as its default.
    """

    context: Path | None
    dockerfile: str = ""
    text: str | None = None
    tags: tuple[str, ...] = ()
    build_args: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    no_cache: bool = False
    pull: bool = False
    network: str = ""
    platform: str = ""

    def do(self, session: Session) -> Named:
        """The image. Raises `BuildError` with file and line, `InvalidParameter` for a bad context."""
        name, archive = self._archive()
        with archive, mapped(session.address):
            events = session.api.build(
                fileobj=archive,
                custom_context=True,
                dockerfile=name,
                tag=self.tags[0] if self.tags else None,
                buildargs=dict(_build_arg(word) for word in self.build_args),
                labels=dict(self.labels) or None,
                target=self.target or None,
                nocache=self.no_cache,
                pull=self.pull,
                network_mode=self.network or None,
                platform=self.platform or None,
                rm=True,
                decode=True,
            )
            image = ""
            for event in events:
                _raise(event)
                session.output.event(event)
                image = (event.get("aux") or {}).get("ID", image) or _built(event) or image
            for tag in self.tags[1:]:
                Tag(image, tag).do(session)
        return Named(self.tags[0] if self.tags else image, image)

    def _archive(self) -> tuple[str, Any]:
        """The Dockerfile's name in the context, and the context as an open tar file."""
        if self.context is not None and not self.context.is_dir():
            raise errors.InvalidParameter(
                f'unable to prepare context: path "{self.context}" not found', "Name a folder, `.` for this one."
            )
        if self.text is not None:
            return self._packed("Dockerfile", self.text)
        assert self.context is not None
        path = Path(self.dockerfile) if self.dockerfile else self.context / "Dockerfile"
        if not path.is_absolute() and not path.exists() and (self.context / path).exists():
            path = self.context / path
        try:
            text = path.read_text()
        except OSError as error:
            raise errors.InvalidParameter(
                f"unable to evaluate symlinks in Dockerfile path: {path}: {error.strerror}",
                "Name it with -f, or write one: FROM busybox.",
            ) from error
        except UnicodeDecodeError as error:
            raise errors.InvalidParameter(f"{path} is not a text file", "A Dockerfile is UTF-8 text.") from error
        inside = os.path.relpath(path.absolute(), self.context.absolute())
        return self._packed(inside, None) if not inside.startswith("..") else self._packed("Dockerfile", text)

    def _packed(self, name: str, text: str | None) -> tuple[str, Any]:
        """The context as a tar; a Dockerfile from outside gets a name that hides no file of the context."""
        if self.context is None:
            return name, _one_file(name, text or "")
        from docker.utils import build as sdk

        patterns: list[str] = []
        ignore = self.context / ".dockerignore"
        if ignore.exists():
            lines = ignore.read_text().splitlines()
            patterns = [line for line in (raw.strip() for raw in lines) if line and not line.startswith("#")]
        if text is not None:
            name = f".dockerfile.{'x' * 8}"
        try:
            archive = sdk.tar(str(self.context), exclude=patterns, dockerfile=(name, text), gzip=False)
        except OSError as error:
            raise errors.InvalidParameter(f"the context {self.context} cannot be read: {error}") from error
        return name, archive


@dataclass(frozen=True, slots=True)
class Tag:
    """`docker tag`: another name for an image."""

    source: str
    target: str

    def do(self, session: Session) -> Named:
        """The image under its new name."""
        repository, tag = _split(self.target)
        with mapped(session.address):
            session.api.tag(self.source, repository, tag=tag or "latest")
            return Named(self.target, session.api.inspect_image(self.target)["Id"])


@dataclass(frozen=True, slots=True)
class Remove:
    """`docker rmi`: take names away, and images that have none left."""

    names: tuple[str, ...]
    force: bool = False
    no_prune: bool = False

    def do(self, session: Session) -> tuple[str, ...]:
        """Docker's lines, "Untagged: …" and "Deleted: …"."""
        lines: list[str] = []
        with mapped(session.address):
            for name in self.names:
                for row in session.api.remove_image(name, force=self.force, noprune=self.no_prune):
                    lines += [f"{what}: {value}" for what, value in row.items()]
        return tuple(lines)


@dataclass(frozen=True, slots=True)
class History:
    """`docker history`: the steps that made an image, newest first."""

    name: str

    def do(self, session: Session) -> Rows:
        """The steps, as the API tells them."""
        with mapped(session.address):
            return Rows("history", tuple(session.api.history(self.name)))


@dataclass(frozen=True, slots=True)
class LayerStack:
    """An image's layers, bottom first, as `/glassdock/images/NAME/layers` tells them."""

    name: str
    id: str
    layers: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Layers:
    """What each instruction of an image added, changed and deleted. Only the bundled engine knows."""

    name: str

    def do(self, session: Session) -> LayerStack:
        """The stack. Raises `NotFound`, or `NotSupported` on another engine."""
        found = extra(session.client, f"images/{self.name}/layers")
        return LayerStack(self.name, found["id"], tuple(found["layers"]))


def _deliver(events: Iterable[Mapping[str, Any]], session: Session) -> str:
    """Pass the lines on; the digest that one of them told. The engine's spans go into this caller's recording."""
    digest = ""
    for event in events:
        _raise(event)
        if spans := (event.get("aux") or {}).get("Spans"):
            import msgspec

            trace.adopt(msgspec.convert(spans, list[trace.Span]))
            continue
        session.output.event(event)
        status = str(event.get("status", ""))
        if status.startswith("Digest: "):
            digest = status.removeprefix("Digest: ")
        digest = str((event.get("aux") or {}).get("Digest", digest))
    return digest


def _raise(event: Mapping[str, Any]) -> None:
    error = from_event(event)
    if error is not None:
        raise error


def _built(event: Mapping[str, Any]) -> str:
    stream = str(event.get("stream", ""))
    return stream.removeprefix("Successfully built ").strip() if stream.startswith("Successfully built ") else ""


def _split(name: str) -> tuple[str, str]:
    """Repository and tag or digest, "" where the name has none."""
    repository, at, digest = name.partition("@")
    if at:
        return repository, digest
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "")


def _build_arg(word: str) -> tuple[str, str | None]:
    """`KEY=VALUE`, or `KEY` with the value from the environment, as Docker does."""
    key, equals, value = word.partition("=")
    return key, value if equals else os.environ.get(key)


def _one_file(name: str, text: str) -> io.BytesIO:
    """A context that holds nothing but the Dockerfile."""
    made = io.BytesIO()
    data = text.encode()
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    made.seek(0)
    return made
