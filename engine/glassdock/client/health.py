"""`--health-cmd` and its kin: what they mean to the API.

Interface: `healthcheck(options)` → the API's `Healthcheck`, None where nothing is said; `duration(text, option)`.

Rules: durations are written as Go writes them (1m30s, 500ms) and sent in nanoseconds.

Source: https://docs.docker.com/reference/cli/docker/container/run/, and docker/cli's words for what is wrong.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

from glassdock.errors import InvalidParameter

_UNITS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)")


class Flags(Protocol):
    """The flags of `run` that are about health."""

    @property
    def health_cmd(self) -> str:
        """The command, for the image's shell."""

    @property
    def health_interval(self) -> str:
        """How long between two checks."""

    @property
    def health_timeout(self) -> str:
        """How long one may take."""

    @property
    def health_start_period(self) -> str:
        """How long failures do not count."""

    @property
    def health_start_interval(self) -> str:
        """How long between two checks in the start period."""

    @property
    def health_retries(self) -> int:
        """How many failures in a row make it unhealthy."""

    @property
    def no_healthcheck(self) -> bool:
        """No check, whatever the image says."""


def healthcheck(options: Flags) -> dict[str, Any] | None:
    """The API's `Healthcheck`. Raises `InvalidParameter`."""
    made: dict[str, Any] = {}
    for name in ("interval", "timeout", "start_period", "start_interval"):
        if text := getattr(options, f"health_{name}"):
            key = "".join(word.capitalize() for word in name.split("_"))
            made[key] = duration(text, f"--health-{name.replace('_', '-')}")
    if options.health_retries < 0:
        raise InvalidParameter("--health-retries cannot be negative")
    if options.health_retries:
        made["Retries"] = options.health_retries
    if options.health_cmd:
        made["Test"] = ["CMD-SHELL", options.health_cmd]
    if options.no_healthcheck:
        if made:
            raise InvalidParameter("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    return made or None


def duration(text: str, option: str) -> int:
    """Nanoseconds of Go's notation. Raises `InvalidParameter`."""
    if text.startswith("-"):
        raise InvalidParameter(f"{option} cannot be negative")
    parts = _PART.findall(text)
    if text != "0" and "".join(number + unit for number, unit in parts) != text:
        raise InvalidParameter(
            f'invalid argument "{text}" for "{option}" flag: time: invalid duration "{text}"',
            "Write 30s, 1m30s, 500ms.",
        )
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))
