"""The layer explorer: an image as a stack, each layer with what its instruction did to the files.

Interface:
- `LayerExplorer.of(stack)`: the picture of a `client.images.LayerStack`; `.layers` are its `Layer`s, bottom first.

Rules: the twin shows instructions, sizes and files, the first 200 of a layer; digests are in the widget only, because
they differ from machine to machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from glassdock.cli.tables import human_size
from glassdock.client.images import LayerStack
from glassdock_jupyter.show import CODE, LINE, SOFT, Shown, escape

_SHOWN = 200
_SIGNS = (
    ("added", "+", "--jp-success-color1,#2e7d32"),
    ("changed", "~", "--jp-warn-color0,#b26a00"),
    ("deleted", "−", "--jp-error-color1,#c62828"),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One instruction: files are (path, bytes); an empty one changed the image's configuration only."""

    instruction: str
    size: int
    empty: bool
    diff_id: str
    added: tuple[tuple[str, int], ...]
    changed: tuple[tuple[str, int], ...]
    deleted: tuple[str, ...]

    @property
    def summary(self) -> str:
        """`3 added, 1 deleted`, or that nothing was."""
        if self.empty:
            return "no files, only the configuration"
        counts = ((len(self.added), "added"), (len(self.changed), "changed"), (len(self.deleted), "deleted"))
        return ", ".join(f"{count} {word}" for count, word in counts if count) or "no files"


@dataclass(frozen=True, slots=True, repr=False)
class LayerExplorer(Shown):
    """The stack of one image."""

    name: str
    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, stack: LayerStack) -> LayerExplorer:
        """The picture of what `/glassdock/images/NAME/layers` tells."""
        return cls(stack.name, tuple(_layer(row) for row in stack.layers))

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __len__(self) -> int:
        return len(self.layers)

    def _text(self) -> str:
        rows = [
            f"  {human_size(layer.size):>8}  {layer.instruction}  ({layer.summary})" for layer in reversed(self.layers)
        ]
        return "\n".join([f"Layers of {self.name}, the topmost first:", *rows])

    def _html(self) -> str:
        most = max((layer.size for layer in self.layers), default=0) or 1
        rows = "".join(_twin(layer, most) for layer in reversed(self.layers))
        return (
            f'<section aria-label="Layers of {escape(self.name)}" style="max-width:960px">'
            f'<b>Layers of {escape(self.name)}</b> <span style="color:{SOFT}">the topmost first</span>{rows}</section>'
        )

    def _widget(self) -> Any:
        from glassdock_jupyter.pictures.widgets import LayerWidget

        if LayerWidget is None:
            return None
        return LayerWidget(picture={"name": self.name, "layers": [_state(layer) for layer in self.layers]})


def _layer(row: Mapping[str, Any]) -> Layer:
    return Layer(
        instruction=_instruction(str(row.get("created_by") or "")),
        size=int(row.get("size") or 0),
        empty=bool(row.get("empty")),
        diff_id=str(row.get("diff_id") or ""),
        added=_files(row.get("added") or ()),
        changed=_files(row.get("changed") or ()),
        deleted=tuple(path for path, _ in _files(row.get("deleted") or ())),
    )


def _files(rows: Iterable[Any]) -> tuple[tuple[str, int], ...]:
    """(path, size) of rows that may be bare paths, sorted by path."""
    pairs = [(row, 0) if isinstance(row, str) else (str(row[0]), int(row[1])) for row in rows]
    return tuple(sorted(pairs))


def _instruction(created_by: str) -> str:
    """What the Dockerfile said, without the builder's `/bin/sh -c #(nop) `."""
    text = " ".join(created_by.split())
    for shell in ("RUN /bin/sh -c ", "/bin/sh -c "):
        if text.startswith(shell):
            rest = text.removeprefix(shell).removesuffix(" # buildkit")
            return rest.removeprefix("#(nop)").strip() if rest.startswith("#(nop)") else f"RUN {rest}"
    return text or "(imported)"


def _twin(layer: Layer, most: int) -> str:
    """One layer of the static twin: a bar for its size, and its files behind a summary."""
    share = 0 if layer.empty else max(100 * layer.size / most, 1)
    bar = f'<div style="height:4px;width:{share:.0f}%;background:var(--jp-brand-color1,#1976d2)"></div>'
    head = (
        f'<code style="{CODE}">{escape(layer.instruction)}</code> <span style="color:{SOFT}">'
        f"{human_size(layer.size)}, {layer.summary}</span>{bar}"
    )
    files = _twin_files(layer)
    # One shorthand: in a notebook that is not trusted, JupyterLab takes it away as a whole.
    line = f"1px {'solid' if files else 'dashed'} {LINE}"
    box = f"border:{line};border-radius:3px;padding:4px 8px;margin-top:3px"
    if not files:
        return f'<div style="{box}">{head}</div>'
    return f'<details style="{box}"><summary>{head}</summary><ul style="{CODE};list-style:none">{files}</ul></details>'


def _twin_files(layer: Layer) -> str:
    groups = {"added": layer.added, "changed": layer.changed, "deleted": [(path, -1) for path in layer.deleted]}
    made = []
    for what, sign, colour in _SIGNS:
        for path, size in groups[what][:_SHOWN]:
            told = f' <span style="color:{SOFT}">{human_size(size)}</span>' if size >= 0 else ""
            made.append(f'<li style="color:var({colour})">{sign} {escape(path)}{told}</li>')
        if len(groups[what]) > _SHOWN:
            made.append(f"<li>… {len(groups[what]) - _SHOWN} more {what}</li>")
    return "".join(made)


def _state(layer: Layer) -> dict[str, Any]:
    return {
        "instruction": layer.instruction,
        "size": layer.size,
        "empty": layer.empty,
        "diff_id": layer.diff_id,
        "summary": layer.summary,
        "added": layer.added,
        "changed": layer.changed,
        "deleted": layer.deleted,
    }
