"""A user namespace of one's own: how an ordinary user becomes root over namespaces, and over nothing else.

Interface:
- `enter_range()`: unshare, with the ids that /etc/subuid and /etc/subgid set aside, through newuidmap and newgidmap.
- `enter_single()`: unshare, with the caller's own id as root and no other.
- `most_processes()`: how many processes all that is in a namespace made here can be together.
- `own_mounts()`: a mount namespace of one's own, to which the machine's mounts and unmounts still come.
- `join(pid)`: enter the user and the mount namespace of a process.

Rules: the caller has no threads. What the kernel or a helper refuses is `Refused`, with the step and the errno. After a
refusal the process may be in a namespace without a map: try in a forked child first (rungs.py does).

Sources: user_namespaces(7), newuidmap(1), subuid(5), setns(2), getrlimit(2).
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

from glassdock.linux import ids
from glassdock.linux.attempt import Refused, step
from glassdock.linux.clone import CloneFlag, setns, unshare
from glassdock.linux.mount import MountFlag, mount

_MISSING, _REFUSED, _GIVEN = b"m", b"n", b"y"


def enter_range() -> None:
    """The caller's id as root, and behind it every id that is set aside for the caller."""
    wanted = {
        "newuidmap": [(0, os.geteuid(), 1), *_behind(_subordinate("/etc/subuid"))],
        "newgidmap": [(0, os.getegid(), 1), *_behind(_subordinate("/etc/subgid"))],
    }
    with _helper(wanted) as (go, answer):
        with step("unshare"), _bounded():
            unshare(CloneFlag.NEWUSER)
        os.write(go, b"x")
        said = os.read(answer, 1)
    if said != _GIVEN:
        raise Refused("newuidmap", errno.ENOENT if said == _MISSING else errno.EPERM)
    ids.reread()


def enter_single() -> None:
    """The caller's user and group as root. The kernel then wants setgroups(2) to be given up."""
    user, group = os.geteuid(), os.getegid()
    with step("unshare"), _bounded():
        unshare(CloneFlag.NEWUSER)
    with step("uid_map"):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    ids.reread()


def most_processes() -> int:
    """Half of what the machine can have, and no more than the user may: a fork bomb leaves room to end it."""
    machine = min(int(Path("/proc/sys/kernel", name).read_text()) for name in ("pid_max", "threads-max"))
    own = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    return machine // 2 if own == resource.RLIM_INFINITY else min(machine // 2, own)


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """The limit on processes that holds now holds for a user namespace that is made now, for good, all users in it."""
    before = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (most_processes(), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, before)


def own_mounts() -> None:
    """A new mount namespace whose mounts reach nobody else."""
    with step("unshare"):
        unshare(CloneFlag.NEWNS)
    with step("mount"):
        mount(None, "/", None, MountFlag.REC | MountFlag.SLAVE)


def join(pid: int) -> None:
    """Enter both namespaces of a process; raises OSError where it ended or is not ours."""
    folder = os.open(f"/proc/{pid}/ns", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        opened = [os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder) for name in ("user", "mnt")]
    finally:
        os.close(folder)
    for descriptor, kind in zip(opened, (CloneFlag.NEWUSER, CloneFlag.NEWNS), strict=True):
        setns(descriptor, kind)
        os.close(descriptor)
    ids.reread()


@contextlib.contextmanager
def _helper(wanted: dict[str, list[tuple[int, int, int]]]) -> Iterator[tuple[int, int]]:
    """A child that writes our maps from outside the namespace, upon a byte, and answers with another."""
    waiting, go = os.pipe2(os.O_CLOEXEC)
    answer, telling = os.pipe2(os.O_CLOEXEC)
    me = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            os.close(go)
            if os.read(waiting, 1):
                os.write(telling, _write_maps(wanted, me))
        finally:
            os._exit(0)
    os.close(waiting)
    os.close(telling)
    try:
        yield go, answer
    finally:
        os.close(go)  # where nothing was asked for, this sends it home
        os.waitpid(child, 0)
        os.close(answer)


def _write_maps(wanted: dict[str, list[tuple[int, int, int]]], pid: int) -> bytes:
    for program, extents in wanted.items():
        words = [program, str(pid), *(str(number) for extent in extents for number in extent)]
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        except FileNotFoundError:
            return _MISSING
        if done.returncode:
            return _REFUSED
    return _GIVEN


def _behind(outside: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """The ranges one behind the other, from 1 on."""
    found, following = [], 1
    for first, count in outside:
        found.append((following, first, count))
        following += count
    return found


def _subordinate(path: str) -> list[tuple[int, int]]:
    """(first, count) of each range that the file sets aside for the caller; Refused where there is none."""
    own = {str(os.geteuid())}
    with contextlib.suppress(KeyError):  # a pod's user often has no name
        own.add(pwd.getpwuid(os.geteuid()).pw_name)
    found = []
    with contextlib.suppress(FileNotFoundError, ValueError):  # no file, or a line that newuidmap would not accept
        for line in Path(path).read_text().splitlines():
            name, first, count = line.split(":")
            if name in own:
                found.append((int(first), int(count)))
    if not found:
        raise Refused("subuid", errno.ENOENT)
    return found
