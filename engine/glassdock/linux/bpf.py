"""The two bpf(2) operations that the device rules of cgroup v2 need.

Interface:
- `load_device_program(instructions)`: a verified program of type BPF_PROG_TYPE_CGROUP_DEVICE, as a descriptor.
- `attach_device_program(cgroup, program)`: to a cgroup's folder; it stays while the cgroup lives.
- `Instruction`: one instruction as (code, destination, source, offset, immediate).

Source: bpf(2), https://docs.kernel.org/bpf/standardization/instruction-set.html
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Sequence

from glassdock.linux import libc

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "armv7l": 386, "i686": 357, "ppc64le": 361, "s390x": 351}
_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_F_ALLOW_MULTI = 2

Instruction = tuple[int, int, int, int, int]


class _Load(libc.Struct):
    _fields_ = [
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
    ]


class _Attach(libc.Struct):
    _fields_ = [
        ("target_fd", ctypes.c_uint32),
        ("attach_bpf_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
    ]


def assemble(instructions: Sequence[Instruction]) -> bytes:
    """The kernel's bytes, eight an instruction."""
    return b"".join(
        struct.pack("<BBhi", code, destination | source << 4, offset, immediate)
        for code, destination, source, offset, immediate in instructions
    )


def load_device_program(instructions: Sequence[Instruction]) -> int:
    """BPF_PROG_LOAD: the descriptor is close-on-exec. Raises OSError (EINVAL, EACCES) where the verifier refuses."""
    code = ctypes.create_string_buffer(assemble(instructions))
    terms = ctypes.create_string_buffer(b"Apache-2.0")
    wanted = _Load(
        prog_type=_TYPE_CGROUP_DEVICE,
        insn_cnt=len(instructions),
        insns=ctypes.addressof(code),
        license=ctypes.addressof(terms),
    )
    return _bpf("BPF_PROG_LOAD", _PROG_LOAD, wanted)


def attach_device_program(cgroup: int, program: int) -> None:
    """BPF_PROG_ATTACH: further programs on the path only take away."""
    _bpf("BPF_PROG_ATTACH", _PROG_ATTACH, _Attach(cgroup, program, _ATTACH_CGROUP_DEVICE, _F_ALLOW_MULTI))


def _bpf(name: str, command: int, value: libc.Struct) -> int:
    arguments = (command, libc.address(value), libc.size(value))
    return libc.syscall("bpf", _NUMBERS[platform.machine()], *arguments, shown=(name,))
