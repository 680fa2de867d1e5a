"""Seccomp: which system calls the process may make. A profile, compiled to the kernel's filter.

Interface:
- `compile(profile)`: the BPF bytes, kept in memory; raises NotSupported where libseccomp is missing.
- `flags(profile)`, `listens(profile)`: the flags of seccomp(2); whether an agent decides some calls.
- `InstallSeccomp`: the last step before exec; it only hands bytes to the kernel.

Rules: compiling is the daemon's work, once a profile; the child imports none of it. Names that this libseccomp does not
know are left out, as Docker does, and calls newer than all that the profile names answer ENOSYS (seccomp_stub.py).

Sources: seccomp(2), seccomp_unotify(2), https://github.com/opencontainers/runtime-spec (config-linux.md#seccomp)
"""

from __future__ import annotations

import errno
import functools
import os
from typing import Any

from glassdock.errors import InvalidParameter, NotSupported
from glassdock.linux.capset import NUMBERS, capget, capset
from glassdock.linux.seccomp import FilterFlag, set_mode_filter
from glassdock.oci.runtime import Seccomp, SeccompArg, SeccompRule
from glassdock.runtime import seccomp_stub
from glassdock.runtime.stage import Stage, Step, attempt

_ERRNO, _TRACE, _NOTIFY = "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"
_UNKNOWN = -1
_FEW = 32
_ADMIN = 1 << NUMBERS["CAP_SYS_ADMIN"]


class InstallSeccomp(Step, frozen=True, tag="seccomp"):
    """Give the kernel the filter; every call after this one is subject to it.

    With `lent`, CAP_SYS_ADMIN was kept permitted for this (SetCapabilities.lend), and with `drop` for this alone.
    """

    program: bytes
    flags: int = 0
    lent: bool = False
    drop: bool = False

    def describe(self) -> str:
        return f"install a seccomp filter of {len(self.program) // 8} instructions"

    def apply(self, stage: Stage) -> None:
        with attempt("installing the seccomp filter"):
            if not self.lent:
                set_mode_filter(self.program, FilterFlag(self.flags))
                return
            effective, permitted, inheritable = capget()
            capset(effective | _ADMIN, permitted, inheritable)
            set_mode_filter(self.program, FilterFlag(self.flags))
            capset(effective, permitted & ~_ADMIN if self.drop else permitted, inheritable)


@functools.lru_cache(maxsize=64)
def compile(profile: Seccomp) -> bytes:  # noqa: A001 - the word for it
    """The filter as the kernel takes it. Raises InvalidParameter for words that mean nothing, NotSupported."""
    _check(profile)
    library = _library()
    default = _action(library, profile.default_action, profile.default_errno_ret)
    made = library.SyscallFilter(default)
    if sum(len(rule.names) for rule in profile.syscalls) > _FEW:
        # A binary tree instead of a list: every call that the container makes is looked up in it.
        made.set_attr(library.Attr.CTL_OPTIMIZE, 2)
    architectures = [_member(library.Arch, word, "SCMP_ARCH_") for word in profile.architectures]
    for architecture in architectures:
        if not made.exist_arch(architecture):
            made.add_arch(architecture)
    for rule in profile.syscalls:
        action = _action(library, rule.action, rule.errno_ret)
        if action == default:
            continue  # libseccomp refuses a rule that says what is so anyway
        for arguments in _conditions(library, rule):
            for name in rule.names:
                _add(library, made, action, name, arguments)
    with os.fdopen(os.memfd_create("seccomp", os.MFD_CLOEXEC), "w+b") as file:
        made.export_bpf(file)
        file.seek(0)
        program = file.read()
    return seccomp_stub.prefix(library, profile, architectures) + program


def _check(profile: Seccomp) -> None:
    """What the specification and runc refuse."""
    for rule in profile.syscalls:
        if not rule.names or not all(rule.names):
            raise InvalidParameter("seccomp: a rule must name at least one system call")
        if rule.errno_ret is not None and rule.action not in (_ERRNO, _TRACE):
            raise InvalidParameter(f"seccomp: the action {rule.action} takes no errnoRet")
        if rule.action == _NOTIFY and "write" in rule.names:
            raise InvalidParameter("SCMP_ACT_NOTIFY cannot be used for the write syscall")
    if profile.default_errno_ret is not None and profile.default_action not in (_ERRNO, _TRACE):
        raise InvalidParameter(f"seccomp: the action {profile.default_action} takes no defaultErrnoRet")
    if profile.default_action == _NOTIFY:
        raise InvalidParameter("SCMP_ACT_NOTIFY cannot be used as default action")
    if profile.listener_metadata and not profile.listener_path:
        raise InvalidParameter("seccomp: listenerMetadata needs a listenerPath")
    if listens(profile) and not profile.listener_path.startswith("/"):
        raise InvalidParameter("seccomp: SCMP_ACT_NOTIFY needs an absolute listenerPath")


def listens(profile: Seccomp) -> bool:
    """True where an agent at `listener_path` decides some calls."""
    return any(rule.action == _NOTIFY for rule in profile.syscalls)


def flags(profile: Seccomp) -> FilterFlag:
    """The flags of the profile as seccomp(2)'s; raises InvalidParameter for an unknown one.

    Who names none gets SPEC_ALLOW, as with runc: a filter alone does not slow the processor down. TSYNC says nothing
    to a process of one thread, and cannot be together with a listener.
    """
    if profile.flags is None:
        found = FilterFlag.SPEC_ALLOW
    else:
        found = FilterFlag(0)
        for word in profile.flags:
            try:
                found |= FilterFlag[word.removeprefix("SECCOMP_FILTER_FLAG_")]
            except KeyError:
                raise InvalidParameter(f"seccomp flag {word!r} is not known") from None
    listening = FilterFlag.NEW_LISTENER if listens(profile) else FilterFlag(0)
    return found & ~(FilterFlag.NEW_LISTENER | FilterFlag.TSYNC) | listening


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
        _NOTIFY: library.NOTIFY,
    }
    if word == _ERRNO:
        found = library.ERRNO(errno.EPERM if errno_return is None else errno_return)
    elif word == _TRACE:
        found = library.TRACE(errno.EPERM if errno_return is None else errno_return)
    elif word in names:
        found = names[word]
    else:
        raise InvalidParameter(f"unknown seccomp action {word!r}")
    return int(found)


def _conditions(library: Any, rule: SeccompRule) -> list[list[Any]]:
    """The conditions of a rule; two on the same argument are two rules, as libseccomp was used before it knew how."""
    conditions = [_argument(library, argument) for argument in rule.args]
    indexes = [argument.index for argument in rule.args]
    if any(not 0 <= index <= 5 for index in indexes):
        raise InvalidParameter("seccomp: a system call has the arguments 0 to 5")
    if len(set(indexes)) < len(indexes):
        return [[condition] for condition in conditions]
    return [conditions]


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
