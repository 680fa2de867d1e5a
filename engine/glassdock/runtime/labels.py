"""Labels of the kernel's security modules: AppArmor's profile and SELinux's context for the program.

Interface: `check(process, linux)`: raises InvalidParameter where a label is asked for and its module is not there.
`ExecLabel`: the step: from the next exec on the label holds. `apparmor()`, `selinux()`: whether this machine has them.

Rules: a label is never dropped in silence by the runtime. The file in /proc is the container's own, and is proc's.

Sources: apparmor(7), selinux(8), https://github.com/opencontainers/runtime-spec/blob/main/config.md#linux-process
"""

from __future__ import annotations

import errno
import functools
import os
from pathlib import Path

from glassdock.errors import InvalidParameter, StartFailed
from glassdock.linux.openat2 import Resolve, openat2
from glassdock.oci.runtime import Linux, Process
from glassdock.runtime.stage import Stage, Step, attempt


@functools.cache
def apparmor() -> bool:
    """True where the kernel runs AppArmor."""
    try:
        enabled = Path("/sys/module/apparmor/parameters/enabled").read_text(encoding="ascii")
    except OSError:
        return False
    return enabled.startswith("Y") and os.path.isdir("/sys/kernel/security/apparmor")


@functools.cache
def selinux() -> bool:
    """True where the kernel runs SELinux."""
    return os.path.exists("/sys/fs/selinux/enforce")


def check(body: Process, linux: Linux) -> None:
    """Raise InvalidParameter for a label that this kernel does not know."""
    if body.apparmor_profile and not apparmor():
        raise InvalidParameter(
            "apparmor: config provided but apparmor not supported",
            "Leave the profile out, or boot a kernel with AppArmor and mount securityfs.",
        )
    if (body.selinux_label or linux.mount_label) and not selinux():
        raise InvalidParameter(
            "selinux label is specified in config, but selinux is disabled or not supported",
            "Leave selinuxLabel and mountLabel out, or boot a kernel with SELinux.",
        )


class ExecLabel(Step, frozen=True, tag="label"):
    """Say which label the program gets when it is executed."""

    module: str
    label: str

    def describe(self) -> str:
        return f"{self.module} label {self.label}"

    def apply(self, stage: Stage) -> None:
        with attempt(f"unable to apply {self.module} profile"):
            file = self._open(stage)
            try:
                if os.fstat(file).st_dev != stage.proc_device:
                    raise StartFailed(f"unable to apply {self.module} profile: /proc is not the container's own")
                text = f"exec {self.label}" if self.module == "apparmor" else self.label
                os.write(file, text.encode())
            finally:
                os.close(file)

    def _open(self, stage: Stage) -> int:
        """The module's own file (5.8), or the one that all modules share."""
        number = os.getpid()
        for path in (f"/proc/{number}/attr/{self.module}/exec", f"/proc/{number}/attr/exec"):
            try:
                return openat2(stage.root, path, os.O_WRONLY, 0, Resolve.IN_ROOT | Resolve.NO_SYMLINKS)
            except FileNotFoundError:
                continue
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/proc/self/attr/exec")
