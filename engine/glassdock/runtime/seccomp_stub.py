"""What a filter answers for system calls that nobody had heard of when its profile was written: ENOSYS.

Interface: `prefix(library, profile, architectures)`: instructions to put before a compiled filter, maybe none.

Rules: a program that gets EPERM for a new call gives up; one that gets ENOSYS uses the old call. So where the default
action refuses, calls with a higher number than the profile's highest answer ENOSYS, as with runc. The rest of the
filter is not changed: jumps of BPF are relative.

Sources: seccomp(2), bpf(4), https://github.com/opencontainers/runc/pull/2750 (for the idea)
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from glassdock.oci.runtime import Seccomp

_LOAD, _EQUAL, _GREATER, _AT_LEAST, _JUMP, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x05, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_ERRNO = 0x00050000
_X32 = 0x40000000
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
# linux/audit.h
_AUDIT = {
    "X86": 0x40000003,
    "X86_64": 0xC000003E,
    "X32": 0xC000003E,
    "ARM": 0x40000028,
    "AARCH64": 0xC00000B7,
    "PPC64LE": 0xC0000015,
    "S390": 0x00000016,
    "S390X": 0x80000016,
    "RISCV64": 0xC00000F3,
}
ARCHITECTURES = tuple(_AUDIT)


def prefix(library: Any, profile: Seccomp, architectures: list[Any]) -> bytes:
    """The instructions; none where the default allows, or says ENOSYS itself."""
    if profile.default_action in _PERMISSIVE or profile.default_errno_ret == errno.ENOSYS:
        return b""
    native = library.system_arch()
    highest: dict[int, list[int]] = {}
    for architecture in dict.fromkeys((native, *architectures)):
        name = next((name for name in _AUDIT if getattr(library.Arch, name, None) == architecture), "")
        numbers = [library.resolve_syscall(architecture, call) for rule in profile.syscalls for call in rule.names]
        last = max(numbers, default=-1)
        if name and last >= 0:
            highest.setdefault(_AUDIT[name], []).append(last)
    blocks = [(audit, _block(sorted(last))) for audit, last in highest.items()]
    code = [(_LOAD, 0, 0, _ARCHITECTURE)]
    for position, (audit, block) in enumerate(blocks):
        rest = sum(len(other) + 2 for _, other in blocks[position + 1 :])
        code += [(_EQUAL, 0, len(block) + 1, audit), *block, (_JUMP, 0, 0, rest)]
    return b"".join(struct.pack("=HBBI", *one) for one in code) if blocks else b""


def _block(highest: list[int]) -> list[tuple[int, int, int, int]]:
    """For one architecture; two highest numbers are those of x86_64 and of x32, which has a bit of its own."""
    refuse = (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)
    usual = [(_GREATER, 0, 1, highest[0]), refuse]
    if len(highest) == 1:
        return [(_LOAD, 0, 0, _NUMBER), *usual]
    other = [(_GREATER, 0, 1, highest[1]), refuse]
    return [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, len(usual) + 1, 0, _X32), *usual, (_JUMP, 0, 0, len(other)), *other]
