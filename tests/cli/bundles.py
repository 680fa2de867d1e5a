"""A bundle, and `glassdock-runtime` with a root of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.runtime.lab import make_root


class Runtime:
    """A bundle, and the command line with a root of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.log = folder, folder / "state", folder / "log.json"
        make_root(folder / "rootfs")
        self("spec", "-b", str(folder))
        self.change(lambda spec: spec["process"].update(terminal=False, env=["PATH=/bin"]))
        self.change(self._own_cgroup_root)
        # A path of its own: without one it is the container's name, and another run of the tests has that too.
        self.cgroup = f"/gdt-{uuid.uuid4().hex[:12]}"
        self.change(lambda spec: spec["linux"].update(cgroupsPath=self.cgroup))

    @staticmethod
    def _own_cgroup_root(spec: dict[str, Any]) -> None:
        """The example has this namespace with version 2 alone."""
        kinds = [one["type"] for one in spec["linux"]["namespaces"]]
        spec["linux"]["namespaces"] += [] if "cgroup" in kinds else [{"type": "cgroup"}]

    def command(self, *arguments: str) -> list[str]:
        program = Path(sys.executable).parent / "glassdock-runtime"
        return [str(program), "--root", str(self.root), "--log", str(self.log), "--log-format", "json", *arguments]

    def __call__(self, *arguments: str, check: bool = True, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments)
        # Files, not pipes: a created container keeps the streams of its maker.
        (self.folder / "in").write_bytes(stdin)
        names = [self.folder / name for name in ("in", "out", "err")]
        with open(names[0], "rb") as into, open(names[1], "w+") as out, open(names[2], "w+") as err:
            streams: dict[str, Any] = {"stdin": into, "stdout": out, "stderr": err}
            code = subprocess.run(command, cwd=self.folder, timeout=30, check=False, **streams).returncode
            told = [Path(file.name).read_text() for file in (out, err)]
        done = subprocess.CompletedProcess(command, code, *told)
        assert code == 0 or not check, done
        return done

    def change(self, how: Callable[[dict[str, Any]], object]) -> None:
        path = self.folder / "config.json"
        spec = json.loads(path.read_text())
        how(spec)
        path.write_text(json.dumps(spec))

    def program(self, script: str) -> None:
        self.change(lambda spec: spec["process"].update(args=["sh", "-c", script]))

    def hooks(self, **lines: str) -> None:
        """One hook a kind: a shell line that has the state in $state."""
        self.change(
            lambda spec: spec.update(
                hooks={
                    kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"read -r state; {line}"], "timeout": 5}]
                    for kind, line in lines.items()
                }
            )
        )

    def state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("state", name).stdout)
        return found

    def begin(self, name: str = "one", script: str = "sleep 100") -> int:
        """A container that runs; returns its first process."""
        self.program(script)
        self("run", "--detach", name)
        pid: int = self.state(name)["pid"]
        return pid

    def last_error(self) -> str:
        entry = json.loads(self.log.read_text().splitlines()[-1])
        assert entry["level"] == "error"
        message: str = entry["msg"]
        return message
