"""The profile as data, its filter as bytes, and what the kernel makes of it."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from glassdock.errors import InvalidParameter
from glassdock.linux import prctl
from glassdock.linux.seccomp import set_mode_filter
from glassdock.oci.runtime import Seccomp, SeccompArg, SeccompRule
from glassdock.runtime import capabilities, seccomp
from tests.linux.test_calls import in_child


def allowed(profile: Seccomp) -> set[str]:
    return {
        name for rule in profile.syscalls if rule.action == "SCMP_ACT_ALLOW" for name in rule.names if not rule.args
    }


def test_the_default_allows_what_programs_need_and_not_what_steers_the_machine() -> None:
    names = allowed(seccomp.default_profile(capabilities.DEFAULT))
    assert {"read", "execve", "openat2", "futex", "ptrace", "chroot", "rseq"} <= names
    refused = {
        "mount",
        "umount2",
        "pivot_root",
        "reboot",
        "init_module",
        "bpf",
        "keyctl",
        "add_key",
        "unshare",
        "setns",
    }
    refused |= {"kexec_load", "swapon", "io_uring_setup", "userfaultfd", "open_by_handle_at", "settimeofday", "clone3"}
    assert names & refused == set()
    assert len(names) > 300


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_TIME", "settimeofday"),
        ("CAP_SYS_MODULE", "init_module"),
        ("CAP_BPF", "bpf"),
    ],
)
def test_a_capability_opens_its_calls(capability: str, name: str) -> None:
    assert name not in allowed(seccomp.default_profile(capabilities.DEFAULT))
    assert name in allowed(seccomp.default_profile((*capabilities.DEFAULT, capability)))


def test_the_machine_decides_what_is_its_own() -> None:
    assert "arch_prctl" in allowed(seccomp.default_profile((), "x86_64"))
    assert "arch_prctl" not in allowed(seccomp.default_profile((), "aarch64"))
    assert seccomp.default_profile((), "aarch64").architectures == ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")


def test_a_profile_is_compiled_once() -> None:
    profile = seccomp.default_profile(capabilities.DEFAULT)
    assert seccomp.compile(profile) is seccomp.compile(seccomp.default_profile(capabilities.DEFAULT))
    assert len(seccomp.compile(profile)) % 8 == 0


def under(profile: Seccomp, work: object) -> int:
    program = seccomp.compile(profile)

    def inside() -> None:
        prctl.set_no_new_privileges()
        set_mode_filter(program)
        assert callable(work)
        work()

    return in_child(inside)


def test_the_kernel_follows_it() -> None:
    profile = seccomp.default_profile(capabilities.DEFAULT)
    assert under(profile, lambda: os.kill(os.getpid(), 0)) == 0
    assert under(profile, lambda: socket.socket(40, socket.SOCK_STREAM)) == errno.EPERM
    assert under(profile, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) == 0


def test_rules_with_arguments_and_an_errno_of_their_own() -> None:
    rule = SeccompRule(("kill",), "SCMP_ACT_ERRNO", errno_ret=errno.EBUSY, args=(SeccompArg(1, 9, "SCMP_CMP_EQ"),))
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(rule,))
    assert under(profile, lambda: os.kill(os.getpid(), 9)) == errno.EBUSY
    assert under(profile, lambda: os.kill(os.getpid(), 0)) == 0


def test_a_name_that_no_kernel_has_is_left_out() -> None:
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("no_such_call",), "SCMP_ACT_KILL_PROCESS"),))
    assert under(profile, lambda: None) == 0


@pytest.mark.parametrize(
    "profile",
    [
        Seccomp("SCMP_ACT_PERHAPS"),
        Seccomp("SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_ABACUS",)),
        Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("kill",), "SCMP_ACT_LOG", args=(SeccompArg(0, 1, "SAME"),)),)),
    ],
)
def test_a_word_that_means_nothing_is_refused(profile: Seccomp) -> None:
    with pytest.raises(InvalidParameter, match="unknown seccomp"):
        seccomp.compile(profile)


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="flag"):
        seccomp.flags(Seccomp("SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_JOY",)))
