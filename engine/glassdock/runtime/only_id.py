"""Another user than root where one id is all there is: a user namespace in which that id has the user's number.

Interface: `OnlyId` (a step).

Rules: for an engine with a single id (linux/ids.py). The number is really the process' own, as `id` and the kernel see
it, and so is every file of the image: there is no second id that they could belong to. What a program with the setuid
bit becomes is the same user.

Source: user_namespaces(7)
"""

from __future__ import annotations

import os

from glassdock.errors import StartFailed
from glassdock.linux import clone, ids
from glassdock.linux.clone import CloneFlag
from glassdock.runtime.stage import Stage, Step, attempt


class OnlyId(Step, frozen=True, tag="only_id"):
    """Call the only id by the number of the user that was found, unless that is 0, which it is called already."""

    def describe(self) -> str:
        return "a user namespace in which the only id has the user's number"

    def apply(self, stage: Stage) -> None:
        if ids.has_uid(stage.uid) and ids.has_gid(stage.gid):
            return
        with attempt(f"setting the user to {stage.uid}:{stage.gid}"):
            clone.unshare(CloneFlag.NEWUSER)
            for name, number in (("uid_map", stage.uid), ("gid_map", stage.gid)):
                file = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(file, f"{number} 0 1".encode())
                finally:
                    os.close(file)
            if (os.getuid(), os.getgid()) != (stage.uid, stage.gid):
                raise StartFailed(f"user {stage.uid} needs the kernel's own /proc in the container")
