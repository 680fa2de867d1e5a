"""Archives, images and a registry for the tests of images.

Interface:
- `member(...)`, `archive(*members)`: a tar with whatever a hostile writer would put into it.
- `Maker(store)`: images with random files, built without a Dockerfile.
- `Lines`: a Progress that remembers.
"""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from glassdock.images import below, layer, pack
from glassdock.images.model import Image, LayerRecord, chain_ids
from glassdock.images.store import Store
from glassdock.oci.image import ContainerConfig, History, ImageConfig, RootFS
from glassdock.oci.reference import Reference


@dataclass(slots=True)
class Member:
    info: tarfile.TarInfo
    content: bytes = b""


def member(
    name: str,
    content: bytes | str = b"",
    *,
    kind: bytes | None = None,
    link: str = "",
    mode: int | None = None,
    pax: dict[str, str] | None = None,
    **more: Any,
) -> Member:
    """A member of an archive: a directory where the name ends in a slash, a symlink where there is a link."""
    info = tarfile.TarInfo(name)
    data = content.encode() if isinstance(content, str) else content
    info.type = kind or (tarfile.DIRTYPE if name.endswith("/") else tarfile.SYMTYPE if link else tarfile.REGTYPE)
    info.mode = mode if mode is not None else (0o755 if info.type == tarfile.DIRTYPE else 0o644)
    info.linkname = link
    info.size = len(data)
    info.mtime = 1_700_000_000
    info.pax_headers = pax or {}
    for key, value in more.items():
        setattr(info, key, value)
    return Member(info, data)


def hard_link(name: str, target: str, **more: Any) -> Member:
    return member(name, kind=tarfile.LNKTYPE, link=target, **more)


def archive(*members: Member) -> bytes:
    """The members as an uncompressed tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        for one in members:
            file.addfile(one.info, io.BytesIO(one.content))
    return out.getvalue()


@dataclass(slots=True)
class Lines:
    """What a pull or push told."""

    all: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, line: dict[str, Any]) -> None:
        self.all.append(line)

    def of(self, status: str) -> int:
        return sum(line.get("status") == status for line in self.all)

    @property
    def statuses(self) -> list[str]:
        return [line["status"] for line in self.all if "status" in line]


@dataclass(slots=True)
class Maker:
    """Images with random files, the same for the same seed."""

    store: Store
    seed: int = 0

    def layer(self, data: bytes, parent: str | None = None) -> LayerRecord:
        """A layer of the snapshotter with an archive's content, as if it had been built here."""
        snapshotter = self.store.snapshotter
        key = f"layer{self.seed}"
        self.seed += 1
        snapshotter.prepare(key, parent)
        made = snapshotter.beside(key)
        found = layer.unpack([data], made)
        lowers = [snapshotter.layer_path(one) for one in snapshotter.chain(parent)] if parent else []
        below.settle(made, found.implied, found.links, lowers)
        return pack.seal(snapshotter, key)

    def image(self, *tags: str, layers: int = 2, files: int = 3, size: int = 1000) -> Image:
        """An image of random layers."""
        chance = random.Random(self.seed)
        self.seed += 1
        records: list[LayerRecord] = []
        for number in range(layers):
            names = [f"layer{number}/file{index}" for index in range(files)]
            data = archive(*(member(name, chance.randbytes(size)) for name in names))
            parents = chain_ids(record.diff_id for record in records)
            records.append(self.layer(data, parents[-1] if parents else None))
        return self.of(records, tags)

    def on(self, base: Image, *tags: str, files: dict[str, bytes]) -> Image:
        """An image with one layer more, made as a build makes it."""
        key = f"step{self.seed}"
        self.seed += 1
        self.store.snapshotter.prepare(key, base.chain_id)
        for name, content in files.items():
            path = self.store.snapshotter.upper(key) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return self.of([*(one.record() for one in base.layers), pack.seal(self.store.snapshotter, key)], tags)

    def of(self, records: Iterable[LayerRecord], tags: Iterable[str]) -> Image:
        layers = list(records)
        config = ImageConfig(
            "amd64",
            "linux",
            RootFS(tuple(record.diff_id for record in layers)),
            created="2026-01-01T00:00:00Z",
            config=ContainerConfig(cmd=("sh",), labels={"seed": str(self.seed)}),
            history=tuple(History("2026-01-01T00:00:00Z", f"COPY {number}") for number in range(len(layers))),
        )
        return self.store.create(config, layers, [Reference.parse(tag) for tag in tags])


def changed(config: ImageConfig, **values: Any) -> bytes:
    """The document with other values."""
    return msgspec.json.encode(msgspec.structs.replace(config, **values))
