"""Seccomp: which system calls the process may make. Docker's allow-list as data, compiled to the kernel's filter.

Interface:
- `default_profile(capabilities)`: the specification's value for Docker's list, as far as these capabilities open it.
- `compile(profile)`: the BPF bytes, kept in memory; raises NotSupported where libseccomp is missing.
- `InstallSeccomp`: the step; it only hands bytes to the kernel.

Rules: compiling is the daemon's work, once a profile; the child imports none of it. Names that this libseccomp does not
know are left out, as Docker does: a call that is not allowed is refused.

Sources: seccomp(2), seccomp_default.json beside this file, https://docs.docker.com/engine/security/seccomp/
"""

from __future__ import annotations

import errno
import functools
import os
import platform
from collections.abc import Iterable
from typing import Any

import msgspec

from glassdock.errors import InvalidParameter, NotSupported
from glassdock.linux.seccomp import FilterFlag, set_mode_filter
from glassdock.oci.runtime import Seccomp, SeccompArg, SeccompRule
from glassdock.runtime.stage import Stage, Step, attempt

_ALLOW = "SCMP_ACT_ALLOW"
_UNKNOWN = -1
_MACHINES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
}


class InstallSeccomp(Step, frozen=True, tag="seccomp"):
    """Give the kernel the filter; every call after this one is subject to it."""

    program: bytes
    flags: int = 0

    def describe(self) -> str:
        return f"install a seccomp filter of {len(self.program) // 8} instructions"

    def apply(self, stage: Stage) -> None:
        with attempt("installing the seccomp filter"):
            set_mode_filter(self.program, FilterFlag(self.flags))


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


@functools.lru_cache(maxsize=64)
def compile(profile: Seccomp) -> bytes:  # noqa: A001 - the word for it
    """The filter as the kernel takes it. Raises InvalidParameter for words that mean nothing, NotSupported."""
    library = _library()
    made = library.SyscallFilter(_action(library, profile.default_action, profile.default_errno_ret))
    # A binary tree instead of a list: every call that the container makes is looked up in it.
    made.set_attr(library.Attr.CTL_OPTIMIZE, 2)
    for word in profile.architectures:
        architecture = _member(library.Arch, word, "SCMP_ARCH_")
        if not made.exist_arch(architecture):
            made.add_arch(architecture)
    for rule in profile.syscalls:
        action = _action(library, rule.action, rule.errno_ret)
        if action == _action(library, profile.default_action, profile.default_errno_ret):
            continue  # libseccomp refuses a rule that says what is so anyway
        arguments = [_argument(library, argument) for argument in rule.args]
        for name in rule.names:
            _add(library, made, action, name, arguments)
    with os.fdopen(os.memfd_create("seccomp", os.MFD_CLOEXEC), "w+b") as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def flags(profile: Seccomp) -> FilterFlag:
    """The flags of the profile as seccomp(2)'s; raises InvalidParameter for an unknown one."""
    found = FilterFlag(0)
    for word in profile.flags:
        try:
            found |= FilterFlag[word.removeprefix("SECCOMP_FILTER_FLAG_")]
        except KeyError:
            raise InvalidParameter(f"unknown seccomp flag {word!r}") from None
    return found & ~FilterFlag.NEW_LISTENER


@functools.cache
def _data() -> dict[str, Any]:
    # Beside this file: reading it so keeps importlib.resources and what it needs out of the launcher.
    with open(os.path.join(os.path.dirname(__file__), "seccomp_default.json"), "rb") as file:
        found: dict[str, Any] = msgspec.json.decode(file.read())
    return found


def _library() -> Any:
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise NotSupported(
            f"seccomp filters cannot be compiled: {error}",
            "Install libseccomp (Debian: libseccomp2), or run with --security-opt seccomp=unconfined.",
        ) from error
    return pyseccomp


def _add(library: Any, made: Any, action: int, name: str, arguments: list[Any]) -> None:
    number = library.resolve_syscall(library.Arch.NATIVE, name)
    # -1: unknown to this libseccomp. Other negative numbers stand for calls that only other architectures have.
    if number != _UNKNOWN:
        made.add_rule(action, number, *arguments)


def _action(library: Any, word: str, errno_return: int | None) -> int:
    names = {
        "SCMP_ACT_KILL": library.KILL,
        "SCMP_ACT_KILL_THREAD": library.KILL,
        "SCMP_ACT_KILL_PROCESS": library.KILL_PROCESS,
        "SCMP_ACT_TRAP": library.TRAP,
        "SCMP_ACT_LOG": library.LOG,
        "SCMP_ACT_ALLOW": library.ALLOW,
    }
    if word == "SCMP_ACT_ERRNO":
        found = library.ERRNO(errno.EPERM if errno_return is None else errno_return)
    elif word == "SCMP_ACT_TRACE":
        found = library.TRACE(errno.EPERM if errno_return is None else errno_return)
    elif word in names:
        found = names[word]
    else:
        raise InvalidParameter(f"unknown seccomp action {word!r}")
    return int(found)


def _argument(library: Any, argument: SeccompArg) -> Any:
    operator = _member(library, argument.op, "SCMP_CMP_")
    if argument.op == "SCMP_CMP_MASKED_EQ":
        return library.Arg(argument.index, operator, argument.value, argument.value_two)
    return library.Arg(argument.index, operator, argument.value)


def _member(owner: Any, word: str, prefix: str) -> Any:
    found = getattr(owner, word.removeprefix(prefix), None) if word.startswith(prefix) else None
    if found is None:
        raise InvalidParameter(f"unknown seccomp word {word!r}")
    return found
