"""The kernel "Glassdock": ipykernel with the magics loaded, so that a chapter needs no `%load_ext`.

Interface:
- `install(prefix=None)`: write the kernelspec `glassdock` below `prefix`, or for the user; returns its folder.

Rules: the kernel runs this interpreter. Installing twice gives the same.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

NAME = "glassdock"


def spec() -> dict[str, Any]:
    """The kernelspec's document."""
    return {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--ext=glassdock_jupyter"],
        "display_name": "Glassdock",
        "language": "python",
        "interrupt_mode": "signal",
        "metadata": {"debugger": True},
    }


def install(prefix: str | None = None) -> Path:
    """Install the kernelspec below `prefix` (an environment), or for this user; the folder that it is in."""
    from jupyter_client.kernelspec import KernelSpecManager

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kernel.json").write_text(json.dumps(spec(), indent=1) + "\n")
        logo = Path(__file__).with_name("logo.svg")
        Path(folder, "logo-svg.svg").write_bytes(logo.read_bytes())
        manager = KernelSpecManager()
        return Path(manager.install_kernel_spec(folder, NAME, user=prefix is None, prefix=prefix))
