"""Glassdock in Jupyter: `%load_ext glassdock_jupyter`, or the Glassdock kernel, which has it from the start.

Interface:
- `load_ipython_extension(shell)`, `unload_ipython_extension(shell)`: what `%load_ext` and `%unload_ext` call.

Rules: nothing happens at import. Loading registers names; what a magic needs is imported when it is first used, and
unloading takes every name away again.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: Any) -> None:
    """Register the magics and their completion."""
    from glassdock_jupyter.magics import register

    register(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics and their completion away, and close the connection to the engine."""
    from glassdock_jupyter.magics import unregister

    unregister(shell)
