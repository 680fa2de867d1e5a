"""How values look in a notebook: text that is the same every time, HTML, and a widget where one helps.

Interface:
- `Shown`: base of result objects; `_text()`, `_html()` and, for pictures, `_widget()`.
- `table(header, rows, ...)`: the HTML of a table; `escape(text)`.

Rules: no ids, no times, nothing random in text or HTML. Colours are JupyterLab's variables with a fallback, so a
dark theme works; nothing is loaded from anywhere.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

LINE = "var(--jp-border-color2,#bbb)"
SOFT = "var(--jp-ui-font-color2,#666)"
CODE = "font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px)"


class Shown:
    """A result: `repr` is its text, a notebook shows its HTML or its picture."""

    __slots__ = ()

    def _text(self) -> str:
        """One or several lines, the same every time."""
        raise NotImplementedError

    def _html(self) -> str:
        """The static twin: what nbconvert, GitHub and nbval see."""
        return f"<pre>{escape(self._text())}</pre>"

    def _widget(self) -> Any:
        """The picture's widget, or None."""
        return None

    def __repr__(self) -> str:
        return self._text()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": self._text(), "text/html": self._html()}
        widget = self._widget()
        if widget is not None:
            bundle |= {
                "application/vnd.jupyter.widget-view+json": {
                    "version_major": 2,
                    "version_minor": 1,
                    "model_id": widget.model_id,
                }
            }
        return bundle


def escape(text: object) -> str:
    """`text` for HTML."""
    return html.escape(str(text), quote=True)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
    """An HTML table; cells are escaped, the first column is the row's heading."""
    head = "".join(f'<th scope="col" style="text-align:left">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row" style="text-align:left;font-weight:600">{escape(row[0])}</th>'
        + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    label = f'<caption style="text-align:left;color:{SOFT}">{escape(caption)}</caption>' if caption else ""
    return f"<table>{label}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
