"""Seccomp profiles: Docker's default as data, and profiles in Docker's format, as values of the specification.

Interface:
- `default_profile(capabilities)`: Docker's list, as far as these capabilities and this machine open it.
- `load(text, capabilities)`: a profile as `--security-opt seccomp=FILE` brings it; None where it filters nothing.

Rules: Docker's format is the specification's with conditions: `archMap`, and `includes` and `excludes` a rule (caps,
arches, minKernel). They are decided here, so the runtime sees plain rules.

Sources: https://docs.docker.com/engine/security/seccomp/, https://github.com/moby/profiles (for the format)
"""

from __future__ import annotations

import errno
import functools
import os
import platform
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from glassdock.errors import InvalidParameter
from glassdock.oci.runtime import Seccomp, SeccompArg, SeccompRule

_ALLOW = "SCMP_ACT_ALLOW"
_MACHINES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
}
# Docker's word for a machine, and libseccomp's.
_NATIVE = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i686": ("x86", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "loongarch64": ("loongarch64", "SCMP_ARCH_LOONGARCH64"),
}
_LARGEST = 1 << 20


class _Filter(msgspec.Struct, rename="camel"):
    """When a rule holds."""

    caps: tuple[str, ...] | None = None
    arches: tuple[str, ...] | None = None
    min_kernel: str = ""


class _Call(msgspec.Struct, rename="camel"):
    """A rule with its conditions; `name` is the old form of `names`."""

    action: str
    names: tuple[str, ...] | None = None
    name: str = ""
    errno_ret: int | None = None
    args: tuple[SeccompArg, ...] | None = None
    includes: _Filter | None = None
    excludes: _Filter | None = None


class _Architecture(msgspec.Struct, rename="camel"):
    """A machine and those whose programs it runs too."""

    architecture: str
    sub_architectures: tuple[str, ...] | None = None


class _Profile(msgspec.Struct, rename="camel"):
    """Docker's format."""

    default_action: str = ""
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] | None = None
    arch_map: tuple[_Architecture, ...] | None = None
    flags: tuple[str, ...] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[_Call, ...] | None = None


def default_profile(capabilities: Iterable[str], machine: str | None = None) -> Seccomp:
    """Docker's default for a process with these capabilities on this kind of machine."""
    return _default_profile(frozenset(capabilities), machine or platform.machine())


def architectures(machine: str | None = None) -> tuple[str, ...]:
    """The specification's words for what this kind of machine executes."""
    return _MACHINES.get(machine or platform.machine(), ())


@functools.lru_cache(maxsize=64)
def _default_profile(capabilities: frozenset[str], machine: str) -> Seccomp:
    data = _data()
    allowed = {name for group in data["allow"].values() for name in group}
    allowed |= set(data["by_machine"].get(machine, ()))
    for capability, names in data["by_capability"].items():
        if capability in capabilities:
            allowed |= set(names)
    rules = [SeccompRule(tuple(sorted(allowed)), _ALLOW)]
    for rule in data["allow_if"]:
        index, operator, value = rule["argument"]
        argument = SeccompArg(index=index, value=value, op=f"SCMP_CMP_{operator}")
        rules.append(SeccompRule(tuple(rule["names"]), _ALLOW, args=(argument,)))
    if "CAP_SYS_ADMIN" not in capabilities:
        refused = data["without_sys_admin"]
        flags = SeccompArg(1 if machine == "s390x" else 0, refused["clone"]["mask"], "SCMP_CMP_MASKED_EQ", 0)
        rules.append(SeccompRule(("clone",), _ALLOW, args=(flags,)))
        rules.append(SeccompRule(("clone3",), "SCMP_ACT_ERRNO", errno_ret=refused["clone3"]["errno"]))
    return Seccomp("SCMP_ACT_ERRNO", errno.EPERM, architectures(machine), syscalls=tuple(rules))


def load(
    text: str, capabilities: Iterable[str], machine: str | None = None, kernel: str | None = None
) -> Seccomp | None:
    """The profile for a process with these capabilities. Raises InvalidParameter in Docker's words."""
    return _load(text, frozenset(capabilities), machine or platform.machine(), kernel or platform.release())


@functools.lru_cache(maxsize=32)
def _load(text: str, capabilities: frozenset[str], machine: str, kernel: str) -> Seccomp | None:
    if len(text) > _LARGEST:
        raise InvalidParameter(f"Decoding seccomp profile failed: more than {_LARGEST} bytes")
    try:
        found = msgspec.json.decode(text, type=_Profile)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError) as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from error
    if not found.default_action and not found.syscalls:
        return None
    if found.architectures and found.arch_map:
        raise InvalidParameter(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or "
            "'archMap'"
        )
    word, architecture = _NATIVE.get(machine, (machine, ""))
    machines = found.architectures or ()
    for entry in found.arch_map or ():
        if entry.architecture == architecture:
            machines = (architecture, *(entry.sub_architectures or ()))
    rules = [_rule(call) for call in found.syscalls or () if _holds(call, word, capabilities, kernel)]
    return Seccomp(
        default_action=found.default_action,
        default_errno_ret=found.default_errno_ret,
        architectures=machines,
        flags=found.flags,
        listener_path=found.listener_path,
        listener_metadata=found.listener_metadata,
        syscalls=tuple(rules),
    )


def _rule(call: _Call) -> SeccompRule:
    if call.name and call.names:
        raise InvalidParameter(
            "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
        )
    names = (call.name,) if call.name else call.names or ()
    return SeccompRule(names, call.action, call.errno_ret, call.args or ())


def _holds(call: _Call, machine: str, capabilities: frozenset[str], kernel: str) -> bool:
    """Excluded by any of its conditions, included by all of them."""
    if no := call.excludes:
        if machine in (no.arches or ()) or capabilities & set(no.caps or ()):
            return False
        if no.min_kernel and _at_least(kernel, no.min_kernel):
            return False
    if yes := call.includes:
        if (yes.arches and machine not in yes.arches) or set(yes.caps or ()) - capabilities:
            return False
        if yes.min_kernel and not _at_least(kernel, yes.min_kernel):
            return False
    return True


def _at_least(kernel: str, wanted: str) -> bool:
    parts = re.fullmatch(r"(\d+)\.(\d+)", wanted)
    if not parts or wanted == "0.0":
        raise InvalidParameter(f'invalid kernel version: {wanted}, expected "<kernel>.<major>"')
    running = re.match(r"(\d+)\.(\d+)", kernel)
    return running is not None and tuple(map(int, running.groups())) >= tuple(map(int, parts.groups()))


@functools.cache
def _data() -> dict[str, Any]:
    # Beside this file: reading it so keeps importlib.resources and what it needs out of the launcher.
    with open(os.path.join(os.path.dirname(__file__), "seccomp_default.json"), "rb") as file:
        found: dict[str, Any] = msgspec.json.decode(file.read())
    return found
