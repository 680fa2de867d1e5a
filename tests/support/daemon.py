"""A real daemon in a process of its own, for tests.

Interface:
- `Daemon(folder)`: socket and root under `folder`; `start()`, `stop()`, `kill()`, `log()`.
- `.sdk` is a docker SDK client of it, `.docker(...)` runs the official client against it.
- `.get(path)`, `.post(path, body)`, `.request(method, path, body)`: plain HTTP; status and decoded body.

Rules: the folder's path is short (a unix socket's is at most 107 bytes); whoever starts it stops it.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import docker

from glassdock.paths import Paths
from tests.support import leaks


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float = 60) -> None:
        super().__init__("glassdock", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """One `glassdock daemon`, with its own root."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.root = folder / "root"
        self.socket = str(folder / "e.sock")
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None
        self._sdk: Any = None

    @property
    def env(self) -> dict[str, str]:
        """The environment in which every client finds this daemon."""
        return {
            **os.environ,
            "GLASSDOCK_HOST": self.socket,
            "GLASSDOCK_ROOT": str(self.root),
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self.folder / "docker-config"),
            "DOCKER_BUILDKIT": "0",
            "DOCKER_CLI_HINTS": "false",
        }

    @property
    def tag(self) -> str:
        """What the names of its interfaces and cgroups carry."""
        return Paths.of(self.root).tag

    def command(self) -> list[str]:
        """The command line that starts it; a registry port of the kernel's choice."""
        where = ["--socket", self.socket, "--root", str(self.root), "--registry-port", "0"]
        return [sys.executable, "-m", "glassdock", "daemon", *where, *self.arguments]

    def start(self, patience: float = 30) -> Daemon:
        """Start it and wait until it answers; RuntimeError with its log if it does not."""
        with open(self.folder / "daemon.log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.get("/_ping")[0] == 200:
                    return self
            except OSError:
                time.sleep(0.05)
        self.process.kill()
        self.process.wait()
        raise RuntimeError(f"the daemon does not answer; its log:\n{self.log()}")

    def stop(self, patience: float = 30) -> list[str]:
        """SIGTERM, wait for its end; what it left on the machine, one line each."""
        self.close()
        if self.process is None:
            return []
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return [f"the daemon did not stop within {patience} s; its log:\n{self.log()}"]
        left = [] if code == 0 else [f"the daemon ended with code {code}; its log:\n{self.log()}"]
        deadline = time.monotonic() + 3
        while (rest := leaks.of_engine(self.root, self.tag)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left + rest

    def kill(self) -> None:
        """SIGKILL, as a crash would: containers go on."""
        assert self.process is not None
        self.close()
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        """The last of what the daemon printed."""
        return (self.folder / "daemon.log").read_text(errors="replace")[-2000:]

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request: the status, and the body decoded if it is one JSON document, else as text."""
        connection = UnixConnection(self.socket)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            return response.status, _decoded(text)
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, Any]:
        """GET `path`."""
        return self.request("GET", path)

    def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        """POST `body` as JSON to `path`."""
        return self.request("POST", path, body)

    @property
    def sdk(self) -> Any:
        """A docker SDK client (untyped upstream); closed when the daemon is stopped."""
        if self._sdk is None:
            self._sdk = docker.DockerClient(base_url=f"unix://{self.socket}", version="auto", timeout=60)
        return self._sdk

    def close(self) -> None:
        """Close the SDK's connections."""
        if self._sdk is not None:
            self._sdk.close()
            self._sdk = None

    def docker(
        self, *args: str, input: str | None = None, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run the official client (`input` as subprocess.run names it); AssertionError if `check` and it fails."""
        done = subprocess.run(
            ["docker", *args],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            env=self.env,
            timeout=timeout,
            text=True,
            errors="replace",
            check=False,
        )
        if check and done.returncode != 0:
            said = f"{done.stdout}{done.stderr}\n-- daemon --\n{self.log()}"
            raise AssertionError(f"docker {' '.join(args)}: code {done.returncode}\n{said}")
        return done

    def course_images(self) -> None:
        """Assemble the course's images into its registry; AssertionError with what went wrong."""
        status, answer = self.post("/glassdock/course/images")
        lines = answer.splitlines() if isinstance(answer, str) else [json.dumps(answer)]
        failed = [line for line in lines if "error" in json.loads(line)]
        assert status == 200 and not failed, f"{status} {failed or answer}\n-- daemon --\n{self.log()}"

    def containers(self) -> dict[str, str]:
        """Every container's id and name, running or not."""
        rows = self.get("/containers/json?all=1")[1]
        return {row["Id"]: row["Names"][0] for row in rows}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
