"""What this machine allows: the axes of `glassdock doctor`, each found out by doing.

Interface:
- `probe(root)`: run the attempts in a fresh process and return the `Report`; raises NotSupported off Linux.
- `Report`: `.axes`, `.axis(name)`, `.to_json()`, `.render()`; `Axis`: name, level, ok, errno, cause, remedy.
- `needs(report)`: the capabilities that an exercise can ask for.
- `python -m glassdock.linux.probe [ROOT]` prints the report as JSON: that fresh process.

Rules: imports on any system; what only Linux has is imported inside. An axis is `ok` where the course runs in full on
it; one that is not says the cause and the remedy of the best level's refusal. Nothing is left behind.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from glassdock import paths
from glassdock.errors import GlassdockError, NotSupported

_PATIENCE = 30.0
_PYTHON = (3, 11)
_MORE_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")
# Level by level, best first; the number is how many of them are enough for the whole course.
LEVELS: dict[str, tuple[tuple[str, ...], int]] = {
    "isolation": (("root", "userns-range", "userns-single", "userns-nomount", "emulated", "inspect"), 3),
    "proc": (("fresh", "recursive bind", "none"), 2),
    "store": (("overlay", "overlay on tmpfs", "fuse-overlayfs", "copy"), 3),
    "ids": (("range", "single", "emulated"), 2),
    "net": (("host bridge", "engine bridge", "shared"), 2),
    "limits": (("cgroup v2", "cgroup v1", "rlimits"), 2),
    "seccomp": (("library and kernel", "kernel alone", "none"), 1),
}
# Program → the package of Debian that has it.
PROGRAMS = {
    "busybox": "busybox-static",
    "chromium": "chromium",
    "docker": "docker-cli",
    "fuse-overlayfs": "fuse-overlayfs",
    "newuidmap": "uidmap",
    "proot": "proot",
    "qemu-system-x86_64": "qemu-system-x86",
    "skopeo": "skopeo",
    "strace": "strace",
}


@dataclass(frozen=True, slots=True)
class Axis:
    """One line: how far this machine goes. `errno` is the kernel's name of what it answered to the best level."""

    name: str
    level: str
    ok: bool
    errno: str = ""
    cause: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All axes, and how long it took to find them out."""

    axes: tuple[Axis, ...]
    seconds: float = 0.0

    def axis(self, name: str) -> Axis:
        """The axis of that name; raises KeyError."""
        return {axis.name: axis for axis in self.axes}[name]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON's own types."""
        axes = [dataclasses.asdict(axis) for axis in self.axes]
        return {"axes": axes, "needs": sorted(needs(self)), "seconds": round(self.seconds, 3)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Report:
        """The report that `to_json` described."""
        return cls(tuple(Axis(**axis) for axis in data["axes"]), data["seconds"])

    def render(self) -> str:
        """The report as a table for people."""
        wide = max(len(axis.name) for axis in self.axes)
        lines = []
        for axis in self.axes:
            mark = "ok" if axis.ok else "--"
            lines.append(f"{mark}  {axis.name:{wide}}  {axis.level}")
            if axis.cause:
                answer = f" ({axis.errno})" if axis.errno else ""
                lines.append(f"    {'':{wide}}    because {axis.cause}{answer}")
            if axis.remedy:
                lines.append(f"    {'':{wide}}    remedy  {axis.remedy}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()


def probe(root: str | None = None) -> Report:
    """Find out what this machine allows; `root` is the state folder, by default the one that the engine would use."""
    if not sys.platform.startswith("linux"):
        raise NotSupported(f"containers need Linux, this is {platform.system()}")
    # A process of its own, because it forks: the caller may have threads.
    words = [sys.executable, "-m", "glassdock.linux.probe", str(paths.root_path(root))]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise GlassdockError(f"the probe did not end within {_PATIENCE:.0f} s") from error
    if done.returncode:
        raise GlassdockError(f"the probe ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return Report.from_json(json.loads(done.stdout))


def needs(report: Report) -> frozenset[str]:
    """What an exercise can ask for: `root`, `container`, `overlay`, `netns`, `cgroup-v1`, and so on."""
    levels = {axis.name: axis.level for axis in report.axes}
    isolation = levels["isolation"]
    found = {
        "root": isolation == "root",
        "container": isolation in LEVELS["isolation"][0][:4],
        "userns": isolation.startswith("userns"),
        "mount": isolation in LEVELS["isolation"][0][:3],
        "proc": levels["proc"] == "fresh",
        "overlay": levels["store"].startswith("overlay"),
        "id-range": levels["ids"] == "range",
        "netns": levels["net"] != "shared",
        "bridge": levels["net"] == "host bridge",
        "cgroup": levels["limits"].startswith("cgroup"),
        "cgroup-v1": levels["limits"] == "cgroup v1",
        "cgroup-v2": levels["limits"] == "cgroup v2",
        "seccomp": levels["seccomp"] == "library and kernel",
    }
    programs = levels["programs"].split(", ") if levels["programs"] != "none" else []
    return frozenset({name for name, here in found.items() if here} | set(programs))


def main(root: str) -> Report:
    """The attempts themselves. Forks: only for a process without threads."""
    from glassdock.linux import attempts, refusals, rungs
    from glassdock.linux.attempt import scratch

    began = time.monotonic()
    facts = refusals.Facts.read()
    with scratch():
        isolation = rungs.isolation()
        level = isolation.level
        outcomes = {
            "isolation": isolation,
            "proc": attempts.proc(level),
            "store": attempts.store(level, _existing(root)),
            "ids": attempts.ids(level),
            "net": attempts.net(level),
            "limits": attempts.limits(),
            "seccomp": attempts.seccomp(),
        }
    axes = [_axis(name, outcome.level, outcome, facts) for name, outcome in outcomes.items()]
    return Report((*axes, _python(), _programs()), time.monotonic() - began)


def _axis(name: str, level: str, outcome: Any, facts: Any) -> Axis:
    from glassdock.linux import refusals

    levels, enough = LEVELS[name]
    cause, remedy = refusals.explain(outcome.step, outcome.errno, facts)
    code = errno.errorcode.get(outcome.errno, str(outcome.errno)) if outcome.errno else ""
    return Axis(name, level, level in levels[:enough], code, cause, remedy)


def _existing(folder: str) -> str:
    """The folder, or the nearest one above it that is there: on the same filesystem, most likely."""
    while not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        above = os.path.dirname(folder)
        if above == folder:
            import tempfile

            return tempfile.gettempdir()
        folder = above
    return folder


def _python() -> Axis:
    version = platform.python_version()
    if sys.version_info >= _PYTHON:
        return Axis("python", version, ok=True)
    return Axis("python", version, False, "", "Glassdock is written for Python 3.11", "Install Python 3.11 or newer")


def _programs() -> Axis:
    path = os.pathsep.join([os.environ.get("PATH", ""), *_MORE_PATH])
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    here = ", ".join(name for name in PROGRAMS if name not in missing) or "none"
    if not missing:
        return Axis("programs", here, ok=True)
    packages = " ".join(PROGRAMS[name] for name in missing)
    cause = f"not here: {', '.join(missing)}; what needs them is left out"
    return Axis("programs", here, "busybox" not in missing, "", cause, f"As root: apt-get install {packages}")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:2] or [str(paths.root_path())]).to_json()) + "\n")
