"""The widgets behind the pictures: state for the browser, an ES module and a style sheet each.

Interface:
- `LayerWidget(picture=…)`, `RunWidget(picture=…)`: anywidget classes, or None where anywidget is not installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent

LayerWidget: Any = None
RunWidget: Any = None

try:
    import anywidget
    import traitlets
except ImportError:  # a kernel without the lab's dependencies: the static twins are shown
    pass
else:

    class _LayerWidget(anywidget.AnyWidget):
        """State: `picture` = {name, layers}."""

        _esm = _HERE / "layers.js"
        _css = _HERE / "pictures.css"
        picture = traitlets.Dict().tag(sync=True)

    class _RunWidget(anywidget.AnyWidget):
        """State: `picture` = {name, steps, colours}; times in microseconds."""

        _esm = _HERE / "recorder.js"
        _css = _HERE / "pictures.css"
        picture = traitlets.Dict().tag(sync=True)

    LayerWidget, RunWidget = _LayerWidget, _RunWidget
