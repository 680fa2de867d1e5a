"""A stage while it is built: the layers so far, and the image that they would be.

Interface:
- `State.empty()`, `State.of(image)`, `State.copy()`: the beginnings of a stage.
- `State.add(step, made)`: one step further.
- `State.document()`: the image's config; `State.image_id`: its digest, before any image is made of it.

Rules: the same steps with the same results give the same document, to the byte: times come from the steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec

from glassdock.build.cache import Made
from glassdock.build.scope import DEFAULT_PATH, architecture
from glassdock.build.work import Step
from glassdock.images.model import Image, LayerRecord
from glassdock.oci import digest as digests
from glassdock.oci.image import ContainerConfig, History, ImageConfig, RootFS, encode

COMMENT = "glassdock.dockerfile"


@dataclass(slots=True)
class State:
    """`image` is set while nothing has been added to it. `rebuilt`: a layer here did not come from the cache."""

    base: ImageConfig
    layers: list[LayerRecord] = field(default_factory=list)
    chain_id: str | None = None
    image: Image | None = None
    image_id: str = ""
    rebuilt: bool = False

    @classmethod
    def empty(cls) -> State:
        """FROM scratch."""
        config = ContainerConfig(env=(f"PATH={DEFAULT_PATH}",))
        return cls(ImageConfig(architecture(), "linux", RootFS(()), config=config))

    @classmethod
    def of(cls, image: Image) -> State:
        """FROM an image."""
        layers = [layer.record() for layer in image.layers]
        return cls(image.config, layers, image.chain_id, image, image.id)

    def copy(self) -> State:
        """FROM a stage."""
        return replace(self, layers=list(self.layers))

    def chain_with(self, diff_id: str) -> str:
        """The chain id of the layers so far and one more."""
        return digests.of(f"{self.chain_id} {diff_id}".encode()) if self.chain_id else diff_id

    def add(self, step: Step, made: Made) -> None:
        """One step further: its layer, if it made one, its config, its line in the history."""
        entry = History(made.created, step.created_by, comment=COMMENT, empty_layer=not made.diff_id)
        if made.diff_id:
            self.layers.append(LayerRecord(made.diff_id, made.size, None, made.tar_size))
            self.chain_id = made.chain_id
        self.base = msgspec.structs.replace(
            self.base,
            rootfs=RootFS(tuple(layer.diff_id for layer in self.layers)),
            created=made.created,
            author=step.author,
            config=step.config,
            history=(*self.base.history, entry),
        )
        self.image = None
        self.image_id = digests.of(encode(self.base))

    def document(self) -> ImageConfig:
        """The config of the image that this is."""
        return self.base
