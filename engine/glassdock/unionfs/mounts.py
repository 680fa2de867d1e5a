"""How to get a root filesystem: a value that the one who needs the root applies in its own mount namespace.

Interface:
- `Mount(lowers, upper, work, ...)`: `describe()` tells it, `apply(target)` does it.

Rules: nothing is mounted until `apply`; the launcher's child imports this file, so it imports nearly nothing. A root is
always `nodev`: devices are bind mounts of the runtime, and a device node in an image opens nothing.

Sources: mount(2), fsopen(2), https://docs.kernel.org/filesystems/overlayfs.html
"""

from __future__ import annotations

import contextlib
import errno
import os

import msgspec

from glassdock.linux import mount as linux
from glassdock.linux.mount import MountAttr, MountFlag

# index, redirect_dir and metacopy put references between layers into the upper folder, which would then not be a
# layer that means the same on top of any copy of its parents. Docker turns them off for the same reason.
_OPTIONS = ("index=off", "redirect_dir=off", "metacopy=off")
_USER_OPTIONS = ("index=off",)  # `userxattr` turns the two others off, and refuses to hear of them
_PAGE = os.sysconf("SC_PAGESIZE")
_FSCONFIG_LIMIT = 255
_LOCKED = MountFlag.NOSUID | MountFlag.NOEXEC


class Mount(msgspec.Struct, frozen=True):
    """An overlay of `lowers`, topmost first, with `upper` and `work` where it can be written.

    One lower and no upper is a read-only bind of that folder, an upper and no lower a bind of it that can be written.
    All paths are absolute. `volatile` is for an upper that is mounted once and is worth nothing if the machine dies (a
    build's step): unmounting then syncs nothing. `userxattr` is for a user namespace (`marks.py`).
    """

    lowers: tuple[str, ...]
    upper: str = ""
    work: str = ""
    readonly: bool = False
    volatile: bool = False
    userxattr: bool = False

    def describe(self) -> str:
        """The mount as one line of a plan."""
        if bound := self._bound():
            return f"bind {bound}{'' if self.upper and not self.readonly else ' (read-only)'}"
        count = f"{len(self.lowers)} read-only layer{'s' if len(self.lowers) != 1 else ''}"
        if not self.upper:
            return f"overlay of {count} (read-only)"
        return f"overlay of {count} and the writable {self.upper}{' (read-only)' if self.readonly else ''}"

    def apply(self, target: str) -> None:
        """Mount it at `target`. Raises OSError."""
        if bound := self._bound():
            linux.mount(bound, target, None, MountFlag.BIND)
            # In a user namespace the flags of the file system that is bound are locked: they stay.
            locked = os.statvfs(target).f_flag & _LOCKED if self.userxattr else 0
            linux.mount(None, target, None, MountFlag.BIND | MountFlag.REMOUNT | self._flags() | locked)
            return
        options = self._options([_escape(lower) for lower in self.lowers])
        if len(os.fsencode(options)) < _PAGE:
            linux.mount("overlay", target, "overlay", self._flags(), options)
        elif not self._apply_by_parts(target):
            self._apply_by_descriptors(target)

    def _bound(self) -> str:
        """The one folder that is all there is; "" where several are stacked."""
        folders = (*self.lowers, *([self.upper] if self.upper else []))
        return folders[0] if len(folders) == 1 else ""

    def _flags(self) -> MountFlag:
        return MountFlag.NODEV | (MountFlag.RDONLY if self.readonly or not self.upper else MountFlag(0))

    def _options(self, lowers: list[str]) -> str:
        parts = [f"lowerdir={':'.join(lowers)}"]
        if self.upper:
            parts += [f"upperdir={_escape(self.upper)}", f"workdir={_escape(self.work)}"]
        words = [name for name in ("volatile", "userxattr") if getattr(self, name)]
        return ",".join([*parts, *self._fixed(), *words])

    def _fixed(self) -> tuple[str, ...]:
        return _USER_OPTIONS if self.userxattr else _OPTIONS

    def _apply_by_parts(self, target: str) -> bool:
        """One fsconfig(2) a layer, where the kernel knows `lowerdir+` (6.8): no limit of one page. False where not."""
        paths = (*self.lowers, self.upper, self.work)
        # Whether fsconfig(2) unescapes a backslash depends on the parameter and the kernel's age.
        if any(len(os.fsencode(path)) > _FSCONFIG_LIMIT or "\\" in path for path in paths):
            return False
        with contextlib.ExitStack() as undo:
            context = linux.fsopen("overlay")
            undo.callback(os.close, context)
            try:
                for lower in self.lowers:
                    linux.fsconfig_string(context, "lowerdir+", lower)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return False
                raise
            if self.upper:
                linux.fsconfig_string(context, "upperdir", self.upper)
                linux.fsconfig_string(context, "workdir", self.work)
            for option in self._fixed():
                linux.fsconfig_string(context, *option.split("="))
            for word in ("volatile", "userxattr"):
                if getattr(self, word):
                    linux.fsconfig_flag(context, word)
            linux.fsconfig_string(context, "source", "overlay")
            if MountFlag.RDONLY in self._flags():
                linux.fsconfig_flag(context, "ro")
            linux.fsconfig_create(context)
            readonly = MountAttr.RDONLY if MountFlag.RDONLY in self._flags() else MountAttr(0)
            made = linux.fsmount(context, MountAttr.NODEV | readonly)
            undo.callback(os.close, made)
            linux.move_mount(made, linux.AT_FDCWD, target_path=target)
        return True

    def _apply_by_descriptors(self, target: str) -> None:
        """Older kernels: open each layer, so that its name is short enough for all of them to fit into one page."""
        with contextlib.ExitStack() as undo:
            lowers = []
            for lower in self.lowers:
                descriptor = os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                undo.callback(os.close, descriptor)
                lowers.append(f"/proc/self/fd/{descriptor}")
            linux.mount("overlay", target, "overlay", self._flags(), self._options(lowers))


def _escape(path: str) -> str:
    """`path` inside overlayfs's option string, where `:` and `,` separate."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
