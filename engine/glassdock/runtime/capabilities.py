"""Capabilities: root's power in 41 pieces, and which of them a container keeps.

Interface:
- `DEFAULT`: Docker's fourteen. `ALL`: every one that has a name.
- `resolve(add, drop, privileged)`: Docker's --cap-add and --cap-drop applied to the defaults.
- `sets(names)`: the five sets that Docker gives for them. `available()`: what this machine can hand out.
- `DropBounding` and `SetCapabilities`: the steps.

Rules: what is not in the machine's own bounding set cannot be given: it is left out with a warning, never in silence.
Inheritable stays empty (2022-29162), so nothing but a setuid or file capability of the image raises anything.

Source: capabilities(7), https://docs.docker.com/engine/security/#linux-kernel-capabilities
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from glassdock.errors import InvalidParameter
from glassdock.linux import prctl
from glassdock.linux.capset import NUMBERS, capset
from glassdock.oci.runtime import Capabilities
from glassdock.runtime.stage import Stage, Step, attempt, reason

ALL = tuple(NUMBERS)
DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)


@functools.cache
def available() -> frozenset[str]:
    """The capabilities in this process' bounding set: what can be handed out at all."""
    found = set()
    for name, number in NUMBERS.items():
        try:
            if prctl.in_bounding_set(number):
                found.add(name)
        except OSError:  # EINVAL: this kernel is older than the capability
            continue
    return frozenset(found)


@functools.cache
def known() -> frozenset[str]:
    """The capabilities that this kernel knows: what a new user namespace has."""
    found = set()
    for name, number in NUMBERS.items():
        try:
            prctl.in_bounding_set(number)
            found.add(name)
        except OSError:  # EINVAL
            continue
    return frozenset(found)


def normalize(name: str) -> str:
    """`net_admin` → `CAP_NET_ADMIN`; raises InvalidParameter for a name that is not one."""
    full = name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}"
    if full not in NUMBERS:
        raise InvalidParameter(f"invalid capability: {name!r}", "`man capabilities` lists them.")
    return full


def resolve(add: Iterable[str] = (), drop: Iterable[str] = (), *, privileged: bool = False) -> tuple[str, ...]:
    """The names that a container keeps; ALL may be added and dropped, as with Docker."""
    every = ("ALL", "CAP_ALL")
    adding = {name if name.upper() not in every else "ALL" for name in add}
    dropping = {name if name.upper() not in every else "ALL" for name in drop}
    kept = set(ALL) if privileged or "ALL" in adding else set(() if "ALL" in dropping else DEFAULT)
    kept |= {normalize(name) for name in adding - {"ALL"}}
    kept -= {normalize(name) for name in dropping - {"ALL"}}
    return tuple(name for name in ALL if name in kept)


def sets(names: Iterable[str]) -> Capabilities:
    """Bounding, effective and permitted alike; inheritable and ambient empty."""
    kept = tuple(names)
    return Capabilities(effective=kept, bounding=kept, permitted=kept)


def mask(names: Iterable[str]) -> int:
    """The names as the kernel's bits."""
    return functools.reduce(lambda bits, name: bits | 1 << NUMBERS[name], names, 0)


class DropBounding(Step, frozen=True, tag="drop_capabilities"):
    """Take all but these out of the bounding set: no exec can ever bring them back.

    A user namespace of its own (`own_user`) begins with a full set, whatever the machine's is.
    """

    keep: tuple[str, ...]
    own_user: bool = False

    def describe(self) -> str:
        return f"limit capabilities to {len(self.keep)}: " + " ".join(name[4:].lower() for name in self.keep)

    def apply(self, stage: Stage) -> None:
        with attempt("dropping capabilities from the bounding set"):
            there = known() if self.own_user else available()
            for name in sorted(there - set(self.keep)):
                prctl.drop_from_bounding_set(NUMBERS[name])


class SetCapabilities(Step, frozen=True, tag="capabilities"):
    """Set effective, permitted, inheritable and ambient; for another user than 0 exec leaves only the ambient.

    With `lend`, CAP_SYS_ADMIN stays permitted until the seccomp filter is installed, which takes it away.
    """

    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()
    lend: bool = False

    def describe(self) -> str:
        return f"set {len(self.effective)} effective, {len(self.permitted)} permitted, {len(self.ambient)} ambient"

    def apply(self, stage: Stage) -> None:
        with attempt("setting capabilities"):
            prctl.clear_ambient()
            lent = mask(("CAP_SYS_ADMIN",)) if self.lend else 0
            capset(mask(self.effective), mask(self.permitted) | lent, mask(self.inheritable))
            for name in self.ambient:
                try:
                    prctl.raise_ambient(NUMBERS[name])
                except OSError as error:  # not permitted or not inheritable as well
                    stage.warnings.append(f"can't raise ambient capability {name}: {reason(error)}")
