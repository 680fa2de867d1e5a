"""Running a piece of Python in a mount namespace of its own, so that nothing it mounts reaches the machine."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def in_mount_namespace(script: str, *arguments: object) -> str:
    """Run `script` as root with private mounts; returns what it printed."""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
