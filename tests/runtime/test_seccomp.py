"""The profile as data, its filter as bytes, and what the kernel makes of it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket

import pytest

from glassdock.errors import InvalidParameter
from glassdock.linux import prctl
from glassdock.linux.seccomp import FilterFlag, set_mode_filter
from glassdock.oci.runtime import Seccomp, SeccompArg, SeccompRule
from glassdock.runtime import capabilities, seccomp, seccomp_profile
from tests.linux.test_calls import in_child


def allowed(profile: Seccomp) -> set[str]:
    return {
        name for rule in profile.syscalls if rule.action == "SCMP_ACT_ALLOW" for name in rule.names if not rule.args
    }


def test_the_default_allows_what_programs_need_and_not_what_steers_the_machine() -> None:
    names = allowed(seccomp_profile.default_profile(capabilities.DEFAULT))
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
    assert name not in allowed(seccomp_profile.default_profile(capabilities.DEFAULT))
    assert name in allowed(seccomp_profile.default_profile((*capabilities.DEFAULT, capability)))


def test_the_machine_decides_what_is_its_own() -> None:
    assert "arch_prctl" in allowed(seccomp_profile.default_profile((), "x86_64"))
    assert "arch_prctl" not in allowed(seccomp_profile.default_profile((), "aarch64"))
    assert seccomp_profile.default_profile((), "aarch64").architectures == ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")


def test_a_profile_is_compiled_once() -> None:
    profile = seccomp_profile.default_profile(capabilities.DEFAULT)
    assert seccomp.compile(profile) is seccomp.compile(seccomp_profile.default_profile(capabilities.DEFAULT))
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
    profile = seccomp_profile.default_profile(capabilities.DEFAULT)
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
    ("profile", "message"),
    [
        (Seccomp("SCMP_ACT_NOTIFY"), "cannot be used as default action"),
        (Seccomp("SCMP_ACT_ALLOW", 5), "takes no defaultErrnoRet"),
        (Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("kill",), "SCMP_ACT_LOG", 5),)), "takes no errnoRet"),
        (Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule((), "SCMP_ACT_LOG"),)), "at least one system call"),
        (Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("write",), "SCMP_ACT_NOTIFY"),)), "for the write syscall"),
        (Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("kill",), "SCMP_ACT_NOTIFY"),)), "absolute listenerPath"),
        (Seccomp("SCMP_ACT_ALLOW", listener_metadata="x"), "needs a listenerPath"),
    ],
)
def test_combinations_without_sense_are_refused(profile: Seccomp, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        seccomp.compile(profile)


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("KILL", -signal.SIGSYS),
        ("KILL_THREAD", -signal.SIGSYS),
        ("KILL_PROCESS", -signal.SIGSYS),
        ("TRAP", -signal.SIGSYS),
        ("ERRNO", errno.EPERM),
        ("TRACE", errno.ENOSYS),  # nobody traces
        ("LOG", 0),
        ("ALLOW", 0),
    ],
)
def test_every_action_does_what_it_says(word: str, end: int) -> None:
    rule = SeccompRule(("mkdir", "mkdirat"), f"SCMP_ACT_{word}")
    default = "SCMP_ACT_LOG" if word == "ALLOW" else "SCMP_ACT_ALLOW"

    def work() -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir("/tmp")

    assert under(Seccomp(default, syscalls=(rule,)), work) == end


@pytest.mark.parametrize(
    ("word", "value", "two", "hit"),
    [
        ("NE", 5, 0, (4, 6)),
        ("LT", 5, 0, (4,)),
        ("LE", 5, 0, (4, 5)),
        ("EQ", 5, 0, (5,)),
        ("GE", 5, 0, (5, 6)),
        ("GT", 5, 0, (6,)),
        ("MASKED_EQ", 6, 4, (4, 5)),
    ],
)
def test_every_comparison_compares(word: str, value: int, two: int, hit: tuple[int, ...]) -> None:
    argument = SeccompArg(0, value, f"SCMP_CMP_{word}", two)
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("getsid",), "SCMP_ACT_ERRNO", 71, (argument,)),))

    def refused(number: int) -> bool:
        def work() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.getsid(number)

        return under(profile, work) == 71

    assert tuple(number for number in (4, 5, 6) if refused(number)) == hit


def test_two_conditions_on_one_argument_are_two_rules() -> None:
    either = (SeccompArg(1, 9, "SCMP_CMP_EQ"), SeccompArg(1, 0, "SCMP_CMP_EQ"))
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("kill",), "SCMP_ACT_ERRNO", 71, either),))
    assert under(profile, lambda: os.kill(os.getpid(), 0)) == 71


def test_a_call_that_is_newer_than_the_profile_is_not_there() -> None:
    call = ctypes.CDLL(None, use_errno=True).syscall

    def work() -> None:
        if call(1000) == -1:
            raise OSError(ctypes.get_errno(), "")

    profile = seccomp_profile.default_profile(capabilities.DEFAULT)
    assert under(profile, work) == errno.ENOSYS
    assert under(Seccomp("SCMP_ACT_ERRNO", 71, syscalls=profile.syscalls), work) == errno.ENOSYS


def test_flags_are_the_kernels() -> None:
    everything = ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC")
    assert seccomp.flags(Seccomp("SCMP_ACT_ALLOW", flags=everything)) == FilterFlag.LOG | FilterFlag.SPEC_ALLOW
    assert seccomp.flags(Seccomp("SCMP_ACT_ALLOW")) == FilterFlag.SPEC_ALLOW
    assert seccomp.flags(Seccomp("SCMP_ACT_ALLOW", flags=())) == FilterFlag(0)


DOCKERS = """{
  "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
  "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
  "syscalls": [
    {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
    {"name": "old", "action": "SCMP_ACT_ALLOW"},
    {"names": ["admin"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
    {"names": ["nobody"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
    {"names": ["arm"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm", "arm64"]}},
    {"names": ["not arm"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["arm", "arm64"]}},
    {"names": ["young"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
    {"names": ["aged"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}}
  ]
}"""


@pytest.mark.parametrize(
    ("caps", "machine", "kernel", "wanted"),
    [
        ((), "x86_64", "6.1.0-1-amd64", {"read", "old", "nobody", "not arm", "young"}),
        (("CAP_SYS_ADMIN",), "x86_64", "4.8", {"read", "old", "admin", "not arm", "young"}),
        ((), "aarch64", "4.7.9-x", {"read", "old", "nobody", "arm", "aged"}),
    ],
)
def test_a_profile_in_dockers_format_is_decided(
    caps: tuple[str, ...], machine: str, kernel: str, wanted: set[str]
) -> None:
    profile = seccomp_profile.load(DOCKERS, caps, machine, kernel)
    assert profile
    assert allowed(profile) == wanted
    assert profile.architectures == (("SCMP_ARCH_X86_64", "SCMP_ARCH_X86") if machine == "x86_64" else ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Decoding seccomp profile failed"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["a"], "archMap": [{"architecture": "b"}]}',
            "both 'arch",
        ),
        ('{"defaultAction": "x", "syscalls": [{"name": "a", "names": ["b"], "action": "x"}]}', "both 'name'"),
        ('{"syscalls": [{"name": "a", "action": "x", "includes": {"minKernel": "4"}}]}', "invalid kernel version: 4"),
    ],
)
def test_a_profile_without_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        seccomp_profile.load(text, ())


def test_an_empty_profile_filters_nothing() -> None:
    assert seccomp_profile.load("{}", ()) is None


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
