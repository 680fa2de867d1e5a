"""The ladder of isolation: what kind of container this user can have here.

Interface:
- `isolation()`: the best rung that works, with why the one above it does not.
- `at(level, work)`: an attempt where a container of that level would be set up.

Rules: a rung counts when namespaces were made and, but for the lowest real one, something was mounted in them.
Sources: user_namespaces(7), mount_namespaces(7), newuidmap(1), subuid(5).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from glassdock.linux.attempt import Outcome, Refused, Work, attempt, step
from glassdock.linux.clone import CloneFlag, unshare
from glassdock.linux.mount import MountFlag, mount, umount2

_SANDBOX = CloneFlag.NEWNS | CloneFlag.NEWUTS | CloneFlag.NEWIPC | CloneFlag.NEWNET | CloneFlag.NEWPID


def isolation() -> Outcome:
    """The best rung of the ladder that works, with why the one above it does not."""
    refused = Outcome()
    for rung, enter in _RUNGS.items():
        outcome = attempt(functools.partial(enter, functools.partial(_sandbox, rung)))
        if outcome.level:
            return Outcome(outcome.level, refused.step, refused.errno)
        # That a user is not root explains itself; what keeps PRoot away matters less than what makes it needed.
        if rung != "emulated" and (rung != "root" or os.geteuid() == 0):
            refused = outcome
    return Outcome("inspect", refused.step, refused.errno)


def _sandbox(rung: str) -> str:
    with step("unshare"):
        unshare(_SANDBOX)
    folder = tempfile.mkdtemp(prefix="glassdock-probe-")
    try:
        if rung == "userns-nomount":
            with step("chroot"):
                os.chroot(folder)
            os.chdir("/")
            return rung
        with step("mount"):
            mount(None, "/", None, MountFlag.PRIVATE | MountFlag.REC)
            mount("tmpfs", folder, "tmpfs", MountFlag.NOSUID | MountFlag.NODEV)
        umount2(folder)
        return rung
    finally:
        if rung != "userns-nomount":
            os.rmdir(folder)


def _as_root(work: Work) -> str:
    if os.geteuid() != 0:
        raise Refused("root", errno.EPERM)
    return work()


def _with_range(work: Work) -> str:
    """In a user namespace that newuidmap gave a range of ids."""
    ranges = {name: _subordinate(f"/etc/{name}") for name in ("subuid", "subgid")}
    ready, wait = os.pipe()
    go, tell = os.pipe()
    me = os.getpid()
    child = os.fork()
    if child == 0:
        # The helpers have to be outside; the namespace is the caller's, who answers.
        try:
            os.read(ready, 1)
            for program, name, own in (("newuidmap", "subuid", os.getuid()), ("newgidmap", "subgid", os.getgid())):
                first, count = ranges[name]
                words = [program, str(me), "0", str(own), "1", "1", str(first), str(count)]
                done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
                if done.returncode:
                    os.write(tell, b"n")
                    return ""
            os.write(tell, b"y")
        except FileNotFoundError:
            os.write(tell, b"m")
        finally:
            os._exit(0)
    with step("unshare"):
        unshare(CloneFlag.NEWUSER)
    os.write(wait, b"x")
    answer = os.read(go, 1)
    os.waitpid(child, 0)
    if answer == b"m":
        raise Refused("newuidmap", errno.ENOENT)
    if answer != b"y":
        raise Refused("newuidmap", errno.EPERM)
    return work()


def _subordinate(path: str) -> tuple[int, int]:
    user = str(os.geteuid())
    with contextlib.suppress(KeyError):  # a pod's user often has no name
        user = pwd.getpwuid(os.geteuid()).pw_name
    try:
        for line in Path(path).read_text().splitlines():
            name, first, count = line.split(":")
            if name in (user, str(os.geteuid())):
                return int(first), int(count)
    except (FileNotFoundError, ValueError):
        pass  # no file, or none that newuidmap would accept: the same as no line
    raise Refused("subuid", errno.ENOENT)


def _with_one(work: Work) -> str:
    """In a user namespace that knows one id: the caller's, as root."""
    user, group = os.geteuid(), os.getegid()
    with step("unshare"):
        unshare(CloneFlag.NEWUSER)
    with step("uid_map"):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    return work()


def _emulated(_: Work) -> str:
    program = shutil.which("proot")
    if program is None:
        raise Refused("proot", errno.ENOENT)
    done = subprocess.run([program, "-0", "id", "-u"], capture_output=True, text=True, check=False)
    if done.stdout.strip() != "0":
        raise Refused("proot", errno.EPERM)
    return "emulated"


_RUNGS: dict[str, Callable[[Work], str]] = {
    "root": _as_root,
    "userns-range": _with_range,
    "userns-single": _with_one,
    "userns-nomount": _with_one,
    "emulated": _emulated,
}


def at(level: str, work: Work) -> Outcome:
    """Run `work` where a container of this isolation level would be set up."""
    enter = _RUNGS.get(level)
    if enter is None or level == "emulated":
        return Outcome("", "isolation", errno.EPERM)
    return attempt(lambda: enter(work))
