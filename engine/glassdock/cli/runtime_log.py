"""The log that `--log` names.

Interface: `Log(call)`: `write(level, message)`, `note(messages)`, `explain(lines)`.
Rules: JSON lines as runc's, for who drives a runtime reads there why it failed. Without `--log`, what is not the end
of the command goes to standard error.
Source: https://github.com/containerd/go-runc
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from glassdock.cli.runtime_words import Call


class Log:
    """The log that `--log` names, in the words of runc's: who drives a runtime reads errors there."""

    def __init__(self, call: Call) -> None:
        self.path, self.form = str(call.settings.get("log") or ""), call.settings.get("log-format")
        self.debug = bool(call.settings.get("debug"))

    def write(self, level: str, message: str) -> None:
        """One entry."""
        if not self.path and level == "error":
            return  # the command itself says how it ended
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.form == "json":
            line = msgspec.json.encode({"level": level, "msg": message, "time": now}).decode()
        else:
            line = f'time="{now}" level={level} msg={msgspec.json.encode(message).decode()}'
        if not self.path:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
            return
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)

    def note(self, warnings: Sequence[str]) -> None:
        """What did not go as wished, and did not stop anything."""
        for warning in warnings:
            self.write("warning", warning)

    def explain(self, lines: Callable[[], Sequence[str]]) -> None:
        """With `--debug`: what is about to be done."""
        for line in lines() if self.debug else ():
            self.write("debug", line)
