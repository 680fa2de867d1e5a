"""The ladder of isolation: what kind of container this user can have here.

Interface:
- `isolation()`: the best rung that works, with why the one above it does not.
- `enter(rung)`: this process goes there, for good.
- `at(level, work)`: an attempt where a container of that level would be set up.

Rules: a rung counts when namespaces were made and, but for the lowest real one, something was mounted in them.
Sources: user_namespaces(7), mount_namespaces(7).
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import subprocess
import tempfile

from glassdock.linux import ids, userns
from glassdock.linux.attempt import Outcome, Refused, Work, attempt, step
from glassdock.linux.clone import CloneFlag, unshare
from glassdock.linux.mount import MountFlag, mount, umount2

_RUNGS = ("root", "userns-range", "userns-single", "userns-nomount", "emulated")
_SANDBOX = CloneFlag.NEWNS | CloneFlag.NEWUTS | CloneFlag.NEWIPC | CloneFlag.NEWNET | CloneFlag.NEWPID


def isolation(only: str = "") -> Outcome:
    """The best rung of the ladder that works, or that one alone, with why the one above it does not."""
    refused = Outcome()
    for rung in (only,) if only else _RUNGS:
        outcome = attempt(functools.partial(_try, rung))
        if outcome.level:
            return Outcome(outcome.level, refused.step, refused.errno)
        # That a user is not root explains itself; what keeps PRoot away matters less than what makes it needed.
        if rung != "emulated" and (rung != "root" or only or (os.geteuid() == 0 and ids.initial())):
            refused = outcome
    return Outcome("inspect", refused.step, refused.errno)


def enter(rung: str) -> None:
    """Go where containers of this rung are set up; nothing where this process is there already. Raises Refused."""
    here = ids.mapping().kind if os.geteuid() == 0 else ""
    if rung == "root":
        if here != "initial":
            raise Refused("root", errno.EPERM)
    elif rung == "userns-range":
        if here != "range":
            userns.enter_range()
    elif here != "single":
        userns.enter_single()


def at(level: str, work: Work) -> Outcome:
    """Run `work` where a container of this isolation level would be set up."""
    if level not in _RUNGS or level == "emulated":
        return Outcome("", "isolation", errno.EPERM)

    def there() -> str:
        enter(level)
        return work()

    return attempt(there)


def _try(rung: str) -> str:
    if rung == "emulated":
        return _emulated()
    enter(rung)
    return _sandbox(rung)


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


def _emulated() -> str:
    program = shutil.which("proot")
    if program is None:
        raise Refused("proot", errno.ENOENT)
    done = subprocess.run([program, "-0", "id", "-u"], capture_output=True, text=True, check=False)
    if done.stdout.strip() != "0":
        raise Refused("proot", errno.EPERM)
    return "emulated"
