"""The work that is timed inside a container and outside: this file runs by itself, as `python -c`, in both.

Interface: `work.py MODE [ADDRESS]`: `local` prints ms of each kind of work as JSON; `sink` prints the MiB that it
took in a second of its clock; `source ADDRESS` sends to a sink.

Rules: nothing but the standard library; every piece of work is long against the clock and short against a test.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable

PORT = 7007
_CHUNK = b"x" * (1 << 18)


def computing() -> None:
    """Arithmetic and memory: no system call."""
    total = 0
    for number in range(1_500_000):
        total += number * number % 7


def large_file() -> None:
    """96 MiB written and read."""
    name = "glassdock-bench.tmp"
    with open(name, "wb") as file:
        file.writelines(_CHUNK for _ in range(384))
    with open(name, "rb") as file:
        while file.read(1 << 18):
            pass
    os.unlink(name)


def small_files() -> None:
    """2,000 files made, written, read and removed."""
    for number in range(2000):
        name = f"glassdock-bench{number % 16}.tmp"
        with open(name, "wb") as file:
            file.write(_CHUNK[:4096])
        with open(name, "rb") as file:
            file.read()
        os.unlink(name)


def loopback() -> None:
    """512 MiB over 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        if os.fork() == 0:
            with socket.create_connection(server.getsockname()) as out:
                for _ in range(2048):
                    out.sendall(_CHUNK)
            os._exit(0)
        taken, _ = server.accept()
        with taken:
            while taken.recv(1 << 18):
                pass
        os.wait()


def sink() -> None:
    """Take from one sender until it stops; MiB a second."""
    with socket.create_server(("0.0.0.0", PORT)) as server:
        print("ready", flush=True)
        taken, _ = server.accept()
        began, amount = time.perf_counter(), 0
        with taken:
            while data := taken.recv(1 << 18):
                amount += len(data)
        print(json.dumps(amount / (1 << 20) / (time.perf_counter() - began)), flush=True)


def source(address: str) -> None:
    """Send 512 MiB to a sink."""
    with socket.create_connection((address, PORT)) as out:
        for _ in range(2048):
            out.sendall(_CHUNK)


def timed(work: Callable[[], None]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["local"]:
            kinds = (computing, large_file, small_files, loopback)
            print(json.dumps({work.__name__: timed(work) for work in kinds}))
        case ["sink"]:
            sink()
        case ["source", address]:
            source(address)
