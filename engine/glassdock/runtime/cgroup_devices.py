"""The device list: which device nodes the members of a group may make, read and write.

Interface:
- `line(rule)`: a rule as version 1 reads it. `device_program(rules)`: all of them as a program for version 2.
- `attach(folder, rules)`: load the program and attach it to a group's folder.

Rules: version 2 has no files for devices: the kernel asks a small BPF program. The last rule that matches decides,
and where none matches, access is refused. A second program on the same path could only take away.

Source: https://docs.kernel.org/admin-guide/cgroup-v1/devices.html, struct bpf_cgroup_dev_ctx in linux/bpf.h
"""

from __future__ import annotations

import os

from glassdock.errors import StartFailed
from glassdock.linux import bpf
from glassdock.oci.runtime import DeviceRule
from glassdock.runtime.stage import reason


def line(rule: DeviceRule) -> str:
    """`c 1:3 rwm`, or `a` for everything."""
    major = "*" if rule.major is None or rule.major < 0 else rule.major
    minor = "*" if rule.minor is None or rule.minor < 0 else rule.minor
    access = "".join(letter for letter in "rwm" if letter in rule.access)
    return "a" if rule.type == "a" else f"{rule.type} {major}:{minor} {access}"


def attach(folder: str, rules: tuple[DeviceRule, ...], warnings: list[str]) -> None:
    """Have the kernel ask the rules; a warning where it does not take programs from us. Raises StartFailed."""
    group = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        program = bpf.load_device_program(device_program(rules))
        try:
            bpf.attach_device_program(group, program)
        finally:
            os.close(program)
    except PermissionError:
        warnings.append("this machine does not let us load BPF programs; the device rules were discarded")
    except OSError as error:
        raise StartFailed(f"attaching the device rules: {reason(error)}", errno=error.errno or 0) from error
    finally:
        os.close(group)


def device_program(rules: tuple[DeviceRule, ...]) -> list[bpf.Instruction]:
    """The rules as a program that answers 1 (allowed) or 0. The last rule that matches decides; none matches: refused.

    Registers: r2 type, r3 access, r4 major, r5 minor, from struct bpf_cgroup_dev_ctx.
    """
    load, move, keep, shift, equal, unequal, answer, leave = 0x61, 0xBC, 0x54, 0x74, 0x15, 0x55, 0xB7, 0x95
    program: list[bpf.Instruction] = [
        (load, 2, 1, 0, 0),
        (move, 3, 2, 0, 0),
        (keep, 2, 0, 0, 0xFFFF),
        (shift, 3, 0, 0, 16),
        (load, 4, 1, 4, 0),
        (load, 5, 1, 8, 0),
    ]
    for rule in reversed(rules):
        tests: list[list[bpf.Instruction]] = []
        if rule.type in ("b", "c"):
            tests.append([(unequal, 2, 0, 0, 1 if rule.type == "b" else 2)])
        access = sum(bit for letter, bit in (("m", 1), ("r", 2), ("w", 4)) if letter in rule.access)
        if access not in (0, 7) and rule.type != "a":
            # Allowed is what asks for nothing beyond the rule; refused is what asks for anything in it.
            beyond = [(keep, 1, 0, 0, 7 & ~access), (unequal, 1, 0, 0, 0)]
            within = [(keep, 1, 0, 0, access), (equal, 1, 0, 0, 0)]
            tests.append([(move, 1, 3, 0, 0), *(beyond if rule.allow else within)])
        for register, number in ((4, rule.major), (5, rule.minor)):
            if number is not None and number >= 0 and rule.type != "a":
                tests.append([(unequal, register, 0, 0, number)])
        verdict: list[bpf.Instruction] = [(answer, 0, 0, 0, int(rule.allow)), (leave, 0, 0, 0, 0)]
        body = [instruction for test in tests for instruction in test]
        for index, (code, target, source, _, value) in enumerate(body):
            # A test that fails jumps behind this rule's verdict.
            offset = len(body) - index + 1 if code in (equal, unequal) else 0
            program.append((code, target, source, offset, value))
        program += verdict
        if not body:
            return program  # it decides everything; the verifier refuses what can never be reached
    return [*program, (answer, 0, 0, 0, 0), (leave, 0, 0, 0, 0)]
