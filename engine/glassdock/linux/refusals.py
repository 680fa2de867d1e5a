"""What a refusal means: from a step and an errno to a cause and a remedy, in words for the person at the machine.

Interface:
- `Facts.read()`: what the machine says about itself that tells one cause from another.
- `explain(step, errno, facts)`: (cause, remedy), each one sentence.

Rules: facts are read to explain what was tried, never to guess what would happen. The map is that of `platforms.md`:
the first row that fits is the answer.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_REFUSED = frozenset({errno.EPERM, errno.EACCES})


@dataclass(frozen=True, slots=True)
class Facts:
    """`seccomp` is the mode of /proc/self/status: 2 where somebody's filter is installed."""

    seccomp: int = 0
    no_new_privileges: bool = False
    apparmor: str = ""
    apparmor_restricts: bool = False
    user_namespaces: int = 1
    root: bool = False

    @classmethod
    def read(cls) -> Facts:
        """The facts about this process."""
        status = dict(line.split(":\t", 1) for line in _text("/proc/self/status").splitlines() if ":\t" in line)
        profile = _text("/proc/self/attr/current").strip("\0\n ")
        return cls(
            seccomp=int(status.get("Seccomp", "0")),
            no_new_privileges=status.get("NoNewPrivs", "0").strip() == "1",
            apparmor="" if profile.startswith("unconfined") else profile,
            apparmor_restricts=_text("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1",
            user_namespaces=int(_text("/proc/sys/user/max_user_namespaces") or "1"),
            root=os.geteuid() == 0,
        )


@dataclass(frozen=True, slots=True)
class _Row:
    steps: tuple[str, ...]
    when: Callable[[int, Facts], bool]
    cause: str
    remedy: str


def explain(step: str, number: int, facts: Facts) -> tuple[str, str]:
    """The cause and the remedy of a refusal; ("", "") where nothing was refused."""
    if not step:
        return "", ""
    for row in _ROWS:
        if any(fnmatch.fnmatchcase(step, known) for known in row.steps) and row.when(number, facts):
            words = {"profile": facts.apparmor, "python": os.path.realpath(sys.executable), "step": step}
            return row.cause.format(**words), row.remedy.format(**words)
    return f"{step}: {os.strerror(number)}", "No remedy is known: please report what `glassdock doctor --json` prints."


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""  # a kernel without the file says as much as one with an empty file


def _denied(number: int, _: Facts) -> bool:
    return number in _REFUSED


def _always(_number: int, _facts: Facts) -> bool:
    return True


_UBUNTU = (
    "Install a profile as root: printf 'abi <abi/4.0>,\\nprofile glassdock {python} flags=(unconfined) "
    "{{ userns, }}\\n' > /etc/apparmor.d/glassdock && apparmor_parser -r /etc/apparmor.d/glassdock"
)
_ROWS = (
    _Row(
        ("unshare",),
        lambda number, _: number == errno.ENOSPC,
        "the machine makes no more user namespaces (user.max_user_namespaces)",
        "As root: sysctl user.max_user_namespaces=15000",
    ),
    _Row(
        ("unshare", "uid_map", "mount*", "newuidmap"),
        lambda number, facts: number in _REFUSED and facts.apparmor_restricts and not facts.root,
        "Ubuntu's AppArmor refuses namespaces to ordinary users (kernel.apparmor_restrict_unprivileged_userns=1)",
        _UBUNTU,
    ),
    _Row(
        ("unshare", "uid_map", "mount", "chroot"),
        lambda number, facts: number in _REFUSED and facts.root and facts.seccomp != 2,
        "this root has not the capabilities that make a container (CAP_SYS_ADMIN)",
        "Pod: securityContext.privileged true, or run as an ordinary user. Docker: --privileged",
    ),
    _Row(
        ("unshare", "chroot"),
        lambda number, facts: number in _REFUSED and facts.seccomp == 2,
        "a seccomp filter around this process forbids new namespaces",
        "Pod: securityContext.seccompProfile.type Unconfined. Docker: --security-opt seccomp=unconfined",
    ),
    _Row(
        ("mount", "mount tmpfs", "mount overlay", "mount bind", "mount proc"),
        lambda number, facts: number == errno.EACCES and bool(facts.apparmor),
        "the AppArmor profile {profile} of the container around this process forbids mounts",
        "Pod: appArmorProfile.type Unconfined. Docker: --security-opt apparmor=unconfined",
    ),
    _Row(
        ("mount proc",),
        lambda number, _: number == errno.EPERM,
        "/proc of this machine is masked, and the kernel then gives no fresh one inside",
        "Pod: hostUsers false and procMount Unmasked. Docker: --security-opt systempaths=unconfined",
    ),
    _Row(
        ("newuidmap", "uid_map"),
        lambda number, facts: number in _REFUSED and facts.no_new_privileges,
        "no-new-privileges is set, so newuidmap cannot give a range of ids",
        "Pod: allowPrivilegeEscalation true; without it one id is all there is",
    ),
    _Row(
        ("newuidmap",),
        lambda number, _: number == errno.ENOENT,
        "newuidmap is not installed, so a container has one user",
        "As root: apt-get install uidmap",
    ),
    _Row(
        ("subuid",),
        _always,
        "no range of ids is set aside for this user, so a container has one user",
        "As root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 YOU",
    ),
    _Row(
        ("newuidmap",),
        _always,
        "newuidmap refuses the range of ids",
        "Compare /etc/subuid and /etc/subgid with `id -un`, and check that newuidmap is setuid root",
    ),
    _Row(
        ("unshare",),
        _denied,
        "the kernel gives no namespaces to this user",
        "As root: sysctl kernel.unprivileged_userns_clone=1 and user.max_user_namespaces=15000, where they are lower",
    ),
    _Row(
        ("mount overlay",),
        lambda number, _: number == errno.EINVAL,
        "the state folder is itself on an overlay, which the kernel does not take as an upper layer",
        "Choose a state folder on a disk with --root; until then the upper layer is kept in memory or copied",
    ),
    _Row(
        ("mount overlay",),
        lambda number, _: number == errno.ENODEV,
        "the kernel has no overlay filesystem",
        "As root: modprobe overlay; until then layers are copied",
    ),
    _Row(
        ("mount*", "write to overlay"),
        _denied,
        "mounting is refused here",
        "Run as root, or where the isolation axis above is better; until then files are copied",
    ),
    _Row(
        ("chown",),
        _always,
        "one id is mapped, so a file cannot belong to another user",
        "See the isolation axis; until then ownership is remembered beside the files",
    ),
    _Row(
        ("add bridge", "add veth"),
        lambda number, _: number in (errno.ENOTSUP, errno.ENODEV, errno.ENOPKG, errno.ENOTTY),
        "the kernel cannot {step}",
        "As root: modprobe bridge veth; until then containers share the machine's network",
    ),
    _Row(
        ("add bridge", "add veth"),
        _denied,
        "only root may give the machine a bridge",
        "Run as root for a bridge that the machine sees; otherwise the engine's own is used",
    ),
    _Row(
        ("open /dev/net/tun",),
        _always,
        "there is no /dev/net/tun for you, so containers reach each other and not other machines",
        "Whoever gave you this machine can add the device; as root: modprobe tun; chmod 666 /dev/net/tun",
    ),
    _Row(
        ("pasta",),
        _always,
        "neither pasta nor slirp4netns is here, so containers reach each other and not other machines",
        "As root: apt-get install passt",
    ),
    _Row(
        ("controller*",),
        lambda number, _: number == errno.ENOENT,
        "cgroup v2 does not have the {step} here",
        "Where version 1 has it, that is used; otherwise boot with systemd.unified_cgroup_hierarchy=1",
    ),
    _Row(
        ("mkdir", "cgroup", "controller*"),
        lambda number, _: number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENOENT),
        "no cgroup is delegated to this user",
        "systemd-run --user --scope -p Delegate=yes $SHELL; until then processes can be limited, memory and CPU cannot",
    ),
    _Row(
        ("pyseccomp",),
        _always,
        "the Python package pyseccomp is missing, so containers run without a filter",
        "make setup",
    ),
    _Row(
        ("libseccomp",),
        _always,
        "the library libseccomp is missing, so containers run without a filter",
        "As root: apt-get install libseccomp2",
    ),
    _Row(
        ("seccomp",),
        _always,
        "the kernel installs no seccomp filter",
        "A kernel with CONFIG_SECCOMP_FILTER",
    ),
    _Row(
        ("proot",),
        lambda number, _: number == errno.ENOENT,
        "neither namespaces nor PRoot are at hand, so nothing can be run, only looked at",
        "As root: apt-get install proot",
    ),
    _Row(
        ("isolation",),
        _always,
        "there is no namespace to do it in",
        "See the isolation axis",
    ),
)
