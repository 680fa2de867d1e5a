"""Which of an index's images this machine runs.

Interface:
- `local()`: this machine's platform. `parse(text)`: `os[/architecture[/variant]]` as docker's `--platform` takes it.
- `choose(descriptors, wanted)`: the best of an index. `matches(platform, wanted)`: is it good enough?

Rules: an image without a variant is for every variant; arm64 also runs 32-bit arm images, amd64 also 386 ones, in this
order. Entries without a platform, and those for "unknown" (attestations), are nobody's.

Source: containerd, `platforms/compare.go`
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from glassdock.errors import InvalidParameter, NotFound
from glassdock.oci.image import Descriptor, Platform

_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}
_SAME = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}
_DEFAULTS = {"arm64": "v8", "arm": "v7"}
_ARM = ("v8", "v7", "v6", "v5")


def local() -> Platform:
    """This machine's platform."""
    architecture, variant = _MACHINES.get(os.uname().machine, (os.uname().machine, ""))
    return Platform(architecture, "linux", variant)


def parse(text: str) -> Platform:
    """The platform that a user asks for; raises InvalidParameter."""
    parts = text.lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(part.replace("-", "").replace("_", "").isalnum() for part in parts):
        raise InvalidParameter(f'"{text}" is an invalid platform', "Write it as linux/amd64 or linux/arm/v7.")
    if len(parts) == 1:
        known = {architecture for architecture, _ in _MACHINES.values()} | set(_SAME)
        if parts[0] in known:
            return Platform(_SAME.get(parts[0], parts[0]), "linux")
        return Platform(local().architecture, parts[0], local().variant)
    return Platform(_SAME.get(parts[1], parts[1]), parts[0], parts[2] if len(parts) == 3 else "")


def show(platform: Platform) -> str:
    """`linux/arm/v7`."""
    return "/".join(filter(None, (platform.os, platform.architecture, platform.variant)))


def choose(descriptors: Sequence[Descriptor], wanted: Platform) -> Descriptor:
    """The manifest of an index for a platform; raises NotFound in Docker's words, naming what there is."""
    for candidate in _candidates(wanted):
        for descriptor in descriptors:
            if descriptor.platform is not None and _equal(descriptor.platform, candidate):
                return descriptor
    there = sorted({show(one.platform) for one in descriptors if one.platform and one.platform.os != "unknown"})
    raise NotFound(
        f"no matching manifest for {show(wanted)} in the manifest list entries",
        f"It is there for {', '.join(there)}." if there else "The list has no platforms at all.",
    )


def matches(platform: Platform, wanted: Platform) -> bool:
    """True if an image for `platform` is one that was asked for."""
    return any(_equal(platform, candidate) for candidate in _candidates(wanted))


def _candidates(wanted: Platform) -> list[Platform]:
    """What runs where `wanted` runs, best first."""
    found = [wanted]
    if wanted.architecture == "arm64":
        found += [Platform("arm", wanted.os, variant) for variant in _ARM]
    elif wanted.architecture == "arm":
        own = wanted.variant or _DEFAULTS["arm"]
        found += [Platform("arm", wanted.os, variant) for variant in _ARM if variant <= own]
    elif wanted.architecture == "amd64":
        found.append(Platform("386", wanted.os))
    return found


def _equal(platform: Platform, candidate: Platform) -> bool:
    if (platform.os, platform.architecture) != (candidate.os, candidate.architecture):
        return False
    default = _DEFAULTS.get(platform.architecture, "")
    return (platform.variant or default) == (candidate.variant or default)
