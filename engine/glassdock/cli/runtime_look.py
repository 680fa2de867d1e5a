"""The verbs of `glassdock-runtime` that only look: list, ps, features, spec; and those that are refused.

Interface: one function a verb; it takes the `Call`, and returns the exit code.
Source: runc(8)
"""

from __future__ import annotations

import os
import sys

import msgspec

from glassdock.cli.runtime_life import place_of, show
from glassdock.cli.runtime_verbs import ROOT
from glassdock.cli.runtime_words import Call
from glassdock.errors import InvalidParameter, NotFound, NotSupported
from glassdock.runtime import bundle_state, cgroups


def list_(call: Call) -> int:
    """Show all containers."""
    form = _form(call)
    root = os.path.abspath(str(call.settings["root"]))
    if root != ROOT and not os.path.isdir(root):
        raise NotFound(f"open {root}: no such file or directory")
    places = bundle_state.places(root)
    found = [bundle_state.state(place, place.read()) | {"owner": _owner(place.folder)} for place in places]
    if call.options["quiet"]:
        sys.stdout.write("".join(f"{row['id']}\n" for row in found))
    elif form == "json":
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        names = ("id", "pid", "status", "bundle", "created", "owner")
        rows = [[name.upper() for name in names], *([str(row[name]) for name in names] for row in found)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            sys.stdout.write("   ".join(cells).rstrip() + "\n")
    return 0


def ps(call: Call) -> int:
    """Show the processes of a container."""
    form = _form(call)
    pids = sorted(cgroups.open_cgroup(place_of(call).read().cgroup).pids())
    if form == "json":
        sys.stdout.write(msgspec.json.encode(pids).decode() + "\n")
        return 0
    import subprocess

    arguments = call.arguments[1:] or ["-ef"]
    done = subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InvalidParameter(f"ps {' '.join(arguments)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    first, *rows = done.stdout.splitlines()
    if "PID" not in first.split():
        raise InvalidParameter("couldn't find PID field in ps output")
    column = first.split().index("PID")
    sys.stdout.write("".join(f"{row}\n" for row in [first, *(row for row in rows if int(row.split()[column]) in pids)]))
    return 0


def spec(call: Call) -> int:
    """Write a config.json to begin with."""
    from glassdock.cli.runtime_facts import example

    target = os.path.join(str(call.options["bundle"]) or ".", "config.json")
    if os.path.exists(target):
        raise InvalidParameter(f"File {target} exists. Remove it first")
    document = msgspec.json.format(msgspec.json.encode(example(rootless=bool(call.options["rootless"]))), indent=2)
    with open(target, "wb") as file:
        file.write(document + b"\n")
    return 0


def features(_: Call) -> int:
    """Show what this runtime can do."""
    from glassdock.cli.runtime_facts import features as found

    show(found())
    return 0


def no_criu(call: Call) -> int:
    """Say that nothing is checkpointed."""
    raise NotSupported(
        f"{call.verb} is not supported: this runtime does not drive criu, so no container is checkpointed"
    )


def _form(call: Call) -> str:
    form = str(call.options["format"])
    if form not in ("table", "json"):
        raise InvalidParameter("invalid format option")
    return form


def _owner(folder: str) -> str:
    """Who made it."""
    import pwd

    number = os.stat(folder).st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
