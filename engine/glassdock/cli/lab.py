"""`glassdock lab`: from a fresh clone to JupyterLab open on the welcome chapter.

Interface:
- `lab`: the command. Engine on demand, course images, kernelspec, JupyterLab; returns when JupyterLab ends.

Rules: what does not run on this machine is said before the browser opens. Ctrl-C ends JupyterLab and its kernels. An
engine that a lab started ends with the last lab that uses it unless containers run, as they outlive everything but
their own end; an engine that was there before stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket as sockets
import struct
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console

from glassdock import errors, paths

WELCOME = "notebooks/00_welcome.ipynb"
_PATIENCE = 60.0
_console = Console(highlight=False)


@click.command()
@click.option("--no-browser", is_flag=True, help="Print the address and open nothing.")
@click.option("--port", type=click.IntRange(1, 65535), help="JupyterLab's port; default: the first free one from 8888.")
@click.option("--ip", default="127.0.0.1", show_default=True, help="The address that JupyterLab listens on.")
def lab(no_browser: bool, port: int | None, ip: str) -> int:
    """Open the course in JupyterLab: engine, course images, chapter 00.

    Ctrl-C ends it. An engine that this command started ends too, unless containers or another lab use it.
    """
    clone = _clone()
    _check_jupyter()
    with _engine() as client:
        _course_images(client)
        _say_what_runs(client)
        _prepare_jupyter(clone)
        return _jupyter(clone, port, ip, browser=not no_browser)


def _clone() -> Path:
    """The clone that this installation was made from; the chapters are there."""
    clone = Path(__file__).resolve().parents[3]
    if not (clone / WELCOME).is_file():
        raise errors.NotFound(
            f"the chapters are not here: {clone / WELCOME} is missing", "Run `make lab` in a clone of Glassdock."
        )
    return clone


def _check_jupyter() -> None:
    """Raise NotSupported where the course's part of the dependencies is missing."""
    from importlib.util import find_spec

    if find_spec("jupyterlab") is None or find_spec("glassdock_jupyter") is None:
        raise errors.NotSupported("JupyterLab is not installed here", "Run `make lab` in the clone: it installs it.")


@contextlib.contextmanager
def _engine() -> Iterator[Any]:
    """A client of the engine; the last lab ends the engine that a lab started, if nothing runs in it."""
    from glassdock.client import connect, wire

    socket = paths.socket_path()
    there = wire.ping(socket)
    with _console.status("Starting the engine"):
        client = connect()
    _console.print(f"Engine: {'was running' if there else 'started'}, socket {socket}")
    with contextlib.closing(client), open(socket.with_name("labs"), "a+") as labs:  # each lab holds a share of it
        fcntl.flock(labs, fcntl.LOCK_SH)
        if not there:
            labs.truncate(0)
            labs.write(str(_pid_of(socket)))
            labs.flush()
        try:
            yield client
        finally:
            # Asked again: the learner may have ended it meanwhile, and started another.
            if wire.ping(socket) and _is_ours(labs, _pid_of(socket)):
                _end_engine(client, socket)


def _is_ours(labs: TextIO, engine: int) -> bool:
    """True in the last lab of those that share an engine that one of them started."""
    labs.seek(0)
    if labs.read() != str(engine):
        return False
    try:
        fcntl.flock(labs, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _console.print("The engine goes on: another lab uses it.")
        return False
    return True


def _pid_of(socket: Path) -> int:
    """The process that listens on `socket`."""
    with sockets.socket(sockets.AF_UNIX) as peer:
        peer.connect(str(socket))
        pid, _, _ = struct.unpack("3i", peer.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, 12))
    return int(pid)


def _end_engine(client: Any, socket: Path) -> None:
    """SIGTERM to the engine on `socket`, unless containers run in it."""
    from glassdock.client import extra, wire

    if running := extra(client, "status")["running"]:
        _console.print(f"The engine goes on: {running} of its containers run. `glassdock ps` shows them.")
        return
    os.kill(_pid_of(socket), signal.SIGTERM)
    with _console.status("Ending the engine"):
        deadline = time.monotonic() + _PATIENCE
        while wire.ping(socket) and time.monotonic() < deadline:
            time.sleep(0.05)
    _console.print("The engine has ended; images and containers are kept.")


def _course_images(client: Any) -> None:
    """Put the course's images into the course's registry, with progress; an error is told and does not stop the lab."""
    from glassdock.client.extras import post

    answer = post(client, "glassdock/course/images", {})
    with contextlib.closing(answer), _console.status("Course images") as status:
        for line in answer.iter_lines():
            event: Mapping[str, Any] = json.loads(line)
            if event.get("error"):
                _console.print(f"[red]Course images:[/red] {event['error']}")
                return
            step = " ".join(filter(None, (str(event.get("id", "")), str(event.get("status", "")), _share(event))))
            status.update(f"Course images: {step}")
    from glassdock.client import extra

    _console.print(f"Course images: in the course registry, {extra(client, 'status')['registry']}")


def _share(event: Mapping[str, Any]) -> str:
    detail = event.get("progressDetail") or {}
    return f"{100 * detail.get('current', 0) // detail['total']} %" if detail.get("total") else ""


def _say_what_runs(client: Any) -> None:
    """One line for each thing that this machine, or this user, does not get."""
    from glassdock.client import extra

    status = extra(client, "status")
    for warning in status["warnings"]:
        _console.print(f"[yellow]Note:[/yellow] {warning}")
    if not status["can_run"]:
        _console.print(
            "  You can read every chapter, pull and push images, and look into them.\n"
            "  `glassdock doctor` shows what this machine allows, axis by axis, and what would help."
        )


def _prepare_jupyter(clone: Path) -> None:
    """Kernelspec and settings, in this environment and nowhere else."""
    from glassdock_jupyter import kernelspec

    kernelspec.install(sys.prefix)
    settings = Path(sys.prefix, "share/jupyter/lab/settings/overrides.json")
    if not settings.exists():
        settings.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clone / "binder/overrides.json", settings)


def _jupyter(clone: Path, port: int | None, ip: str, *, browser: bool) -> int:
    """Run JupyterLab on the clone until it ends or is interrupted; its exit code."""
    log = paths.socket_path().with_name(f"lab-{os.getpid()}.log")
    command = [
        *(sys.executable, "-m", "jupyterlab"),
        *(f"--ServerApp.root_dir={clone}", f"--ServerApp.ip={ip}", "--ServerApp.open_browser=False"),
        *("--ServerApp.answer_yes=True", f"--LabApp.default_url=/lab/tree/{WELCOME}"),
        *([f"--ServerApp.port={port}", "--ServerApp.port_retries=0"] if port else []),
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    with open(log, "wb") as out:
        # A session of its own: Ctrl-C reaches the lab alone, which ends JupyterLab in order.
        server = subprocess.Popen(
            command, cwd=clone, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    before = signal.signal(signal.SIGTERM, _interrupted), signal.signal(signal.SIGHUP, _interrupted)
    try:
        with _console.status("Opening JupyterLab"):
            address = _address(server, log)
        _console.print(f"JupyterLab: {address}", soft_wrap=True)
        _console.print(f"Ctrl-C ends it. Its log is {log}.", soft_wrap=True)
        if browser and _has_screen():
            webbrowser.open(address)
        return server.wait()
    except KeyboardInterrupt:
        _console.print("Ending JupyterLab and its kernels")
        log.unlink()  # it is of use where something went wrong
        return 0
    finally:
        _end(server)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])


def _interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    """The address with its token, once the server listens. Raises Unavailable with its last words if it ends."""
    from jupyter_server.serverapp import list_running_servers

    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for found in list_running_servers(log=None):
            # Its file is written a moment before it listens.
            if found["pid"] == server.pid and _listens(found["hostname"], found["port"]):
                return f"{found['url']}lab/tree/{WELCOME}?token={found['token']}"
        if server.poll() is not None:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise errors.Unavailable(f"JupyterLab did not start: {lines[-1] if lines else ''}", f"Its log is {log}.")
        time.sleep(0.1)
    raise errors.Unavailable(f"JupyterLab did not answer within {_PATIENCE:.0f} seconds", f"Its log is {log}.")


def _listens(host: str, port: int) -> bool:
    with sockets.socket(sockets.AF_INET6 if ":" in host else sockets.AF_INET) as probe:
        return probe.connect_ex((host, port)) == 0


def _has_screen() -> bool:
    """True where opening a browser shows a window, and does not take over this terminal."""
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME"))


def _end(server: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL after ten seconds; kernels go with it."""
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
