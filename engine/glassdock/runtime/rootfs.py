"""The root filesystem: made inside the child's own mount namespace, filled, and pivoted into.

Interface (steps, in the order of a plan):
- `Detach`: nothing that is mounted from here on reaches the machine.
- `Scaffold`, `Graft`: what a child in reserve has mounted ahead, and how it gets into the root.
- `MountRoot`: the union of the image's layers becomes the root. `TakeRoot`: it was made outside (outside.py).
- `MountCgroups`: its own cgroups; other mounts are `mounting.py`'s, its devices `devices.py`'s.
- `Sysctl`, `ReadonlyPaths`, `MaskPaths`: what of /proc and /sys is set, frozen and hidden.
- `Pivot`: the root becomes `/`, the machine's files are gone. `ReadonlyRoot` last.

Rules: a place inside the root is found with openat2 (RESOLVE_IN_ROOT) and mounted on through its descriptor, so a
symlink in the image never leads out. What comes from the machine arrives as a detached mount that the shim opened.
A writable mount is nodev.

Sources: pivot_root(2), move_mount(2), https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md
"""

from __future__ import annotations

import errno
import os
import stat

from glassdock.errors import StartFailed
from glassdock.linux import mount as linux
from glassdock.linux.mount import AT_FDCWD, MountAttr, MountFlag, OpenTree, UmountFlag
from glassdock.linux.openat2 import Resolve, make_directories, open_in_root, openat2
from glassdock.runtime import filesystems
from glassdock.runtime.stage import Stage, Step, attempt
from glassdock.unionfs.mounts import Mount

# Files of /proc that may be covered, as LXCFS does: https://github.com/opencontainers/runc/blob/main/docs
COVERABLE = frozenset(
    f"/proc/{name}" for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "swaps", "uptime", "slabinfo")
)


_MOST_LINKS = 40


class Detach(Step, frozen=True, tag="detach"):
    """Mounts made in here do not reach the machine; the machine's unmounts still reach us."""

    def describe(self) -> str:
        return "make / a recursive slave: our mounts stay ours"

    def apply(self, stage: Stage) -> None:
        linux.mount(None, "/", None, MountFlag.REC | MountFlag.SLAVE)


class MountRoot(Step, frozen=True, tag="mount_root"):
    """Mount the union of the layers on `target`, an empty folder of the machine's that only this namespace sees so."""

    root: Mount
    target: str
    propagation: int = int(MountFlag.PRIVATE)

    def describe(self) -> str:
        return f"mount the root: {self.root.describe()}"

    def apply(self, stage: Stage) -> None:
        with attempt(f"mounting the root filesystem on {self.target}"):
            self.root.apply(self.target)
            stage.root = os.open(self.target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            linux.mount_setattr(stage.root, add=MountAttr.NODEV, propagation=MountFlag(self.propagation))


class TakeRoot(Step, frozen=True, tag="take_root"):
    """The root was made outside: attach it over the machine's."""

    source: str
    propagation: int = int(MountFlag.PRIVATE)

    def describe(self) -> str:
        return "attach the root that was made outside"

    def apply(self, stage: Stage) -> None:
        with attempt("mounting the root filesystem"):
            stage.root = stage.take(self.source)
            target = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            linux.mount_setattr(stage.root, add=MountAttr.NODEV, propagation=MountFlag(self.propagation))
            attach(stage.root, target)


class MountCgroups(Step, frozen=True, tag="mount_cgroups"):
    """The container's own cgroups, read-only: one folder (v2), or one a hierarchy in a tmpfs (v1)."""

    destination: str
    hierarchies: tuple[str, ...]
    readonly: bool = True

    def places(self) -> tuple[str, ...]:
        return (self.destination,)

    def describe(self) -> str:
        return f"show its own cgroup in {self.destination} ({len(self.hierarchies)} hierarchies)"

    def sources(self) -> tuple[str, ...]:
        return tuple(f"cgroup:{name}" for name in self.hierarchies)

    def apply(self, stage: Stage) -> None:
        attributes = MountAttr.NOSUID | MountAttr.NODEV | MountAttr.NOEXEC
        attributes |= MountAttr.RDONLY if self.readonly else MountAttr(0)
        with attempt(f"mounting the cgroups to rootfs at {self.destination}"):
            place_of_all = place(stage, self.destination, directory=True)
            if self.hierarchies == ("",):
                _attach_copy(stage.take("cgroup:"), place_of_all, attributes)
                return
            tree = filesystems.new("tmpfs", "tmpfs", (("mode", "755"),), attributes & ~MountAttr.RDONLY)
            try:
                attach(tree, place_of_all)
                for name in self.hierarchies:
                    os.mkdir(name, 0o755, dir_fd=tree)
                    target = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
                    _attach_copy(stage.take(f"cgroup:{name}"), target, attributes)
                linux.mount_setattr(tree, add=attributes)
            finally:
                os.close(tree)


class Scaffold(Step, frozen=True, tag="scaffold"):
    """A tmpfs that stands in for the root until one is known; it covers /sys, which the child does not need outside."""

    def describe(self) -> str:
        return "put up a scaffold for what can be mounted ahead"

    def apply(self, stage: Stage) -> None:
        with attempt("putting up the scaffold"):
            tree = filesystems.new("tmpfs", "scaffold", (("mode", "755"),), MountAttr.NODEV)
            target = os.open("/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            linux.mount_setattr(tree, propagation=MountFlag.PRIVATE)
            attach(tree, target)
            os.close(tree)
            stage.root = stage.scaffold = os.open("/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class Graft(Step, frozen=True, tag="graft"):
    """Move a tree that was made on the scaffold into the root."""

    top: str

    def describe(self) -> str:
        return f"attach {self.top} with all that was mounted in it ahead"

    def apply(self, stage: Stage) -> None:
        with attempt(f"mounting to rootfs at {self.top}"):
            tree = open_in_root(stage.scaffold, self.top, os.O_PATH | os.O_DIRECTORY)
            try:
                if self.top == "/proc":
                    target = ordinary_directory(stage, self.top)
                else:
                    target = place(stage, self.top, directory=True)
                attach(tree, target)
            finally:
                os.close(tree)


class ReadonlyPaths(Step, frozen=True, tag="readonly_paths"):
    """Parts of /proc that can be read and not written."""

    paths: tuple[str, ...]

    def places(self) -> tuple[str, ...]:
        return self.paths

    def describe(self) -> str:
        return "read-only: " + " ".join(self.paths)

    def apply(self, stage: Stage) -> None:
        for path in self.paths:
            with attempt(f"making {path} read-only"):
                found = _existing(stage, path)
                if found is None:
                    continue
                tree = linux.open_tree(found, "", OpenTree.CLONE | OpenTree.EMPTY_PATH | OpenTree.RECURSIVE)
                try:
                    linux.mount_setattr(tree, add=MountAttr.RDONLY, recursive=True)
                    attach(tree, found)
                finally:
                    os.close(tree)


class MaskPaths(Step, frozen=True, tag="mask_paths"):
    """Parts of /proc and /sys that are hidden: a file behind /dev/null, a folder behind an empty read-only tmpfs.

    All folders share one tmpfs.
    """

    paths: tuple[str, ...]

    def places(self) -> tuple[str, ...]:
        return self.paths

    def describe(self) -> str:
        return "hidden: " + " ".join(self.paths)

    def apply(self, stage: Stage) -> None:
        empty = -1
        for path in self.paths:
            with attempt(f"hiding {path}"):
                found = _existing(stage, path)
                if found is None:
                    continue
                if not stat.S_ISDIR(os.fstat(found).st_mode):
                    tree = _nothing()
                elif empty < 0:
                    tree = filesystems.new("tmpfs", "tmpfs", (("size", "0"), ("mode", "755")), MountAttr.RDONLY)
                    empty = os.dup(tree)
                else:
                    tree = linux.open_tree(empty, "", OpenTree.CLONE | OpenTree.EMPTY_PATH)
                try:
                    attach(tree, found)
                finally:
                    os.close(tree)
        if empty >= 0:
            os.close(empty)


def _nothing() -> int:
    """The machine's own null device, reached before the pivot: never what the image calls /dev/null."""
    tree = linux.open_tree(AT_FDCWD, "/dev/null", OpenTree.CLONE)
    if os.fstat(tree).st_rdev != os.makedev(1, 3):
        raise StartFailed("hiding paths: the machine's /dev/null is not the null device")
    linux.mount_setattr(tree, add=MountAttr.RDONLY, propagation=MountFlag.PRIVATE)
    return tree


class Sysctl(Step, frozen=True, tag="sysctl"):
    """Kernel settings that belong to the container's namespaces."""

    values: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        return "set " + ", ".join(f"{name}={value}" for name, value in self.values)

    def apply(self, stage: Stage) -> None:
        for name, value in self.values:
            with attempt(f"setting sysctl {name}"):
                # A slash in a name is a dot of the path's: eth0/1 is the interface eth0.1 (sysctl(8)).
                path = "/proc/sys/" + name.translate(str.maketrans("./", "/."))
                file = openat2(stage.root, path, os.O_WRONLY, 0, Resolve.IN_ROOT | Resolve.NO_SYMLINKS)
                try:
                    if os.fstat(file).st_dev != stage.proc_device:
                        raise StartFailed(f"setting sysctl {name}: /proc is not the container's own")
                    os.write(file, value.encode())
                finally:
                    os.close(file)


class Pivot(Step, frozen=True, tag="pivot"):
    """The root under construction becomes `/`; what was `/` is unmounted."""

    def describe(self) -> str:
        return "pivot_root: the machine's files are out of reach"

    def apply(self, stage: Stage) -> None:
        with attempt("pivot_root"):
            os.fchdir(stage.root)
            linux.pivot_root(".", ".")
            linux.umount2(".", UmountFlag.DETACH)
            os.chdir("/")
            os.close(stage.root)
            stage.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class Propagate(Step, frozen=True, tag="propagation"):
    """How mounts of the root's spread; a shared root cannot be pivoted into, so this comes after."""

    propagation: int

    def describe(self) -> str:
        return f"make / {MountFlag(self.propagation).name}".lower()

    def apply(self, stage: Stage) -> None:
        with attempt("setting the propagation of the root"):
            linux.mount_setattr(stage.root, propagation=MountFlag(self.propagation))


class ReadonlyRoot(Step, frozen=True, tag="readonly_root"):
    """Nothing can be written in the root itself."""

    def describe(self) -> str:
        return "make / read-only"

    def apply(self, stage: Stage) -> None:
        with attempt("making the root read-only"):
            linux.mount_setattr(stage.root, add=MountAttr.RDONLY)


def place(stage: Stage, path: str, *, directory: bool) -> int:
    """The place at `path` in the root to mount on, made if it is missing; the caller closes the descriptor.

    Raises StartFailed where the way leads into /proc (2019-16884): what is there is the kernel's to say.
    """
    if directory:
        found = make_directories(stage.root, path)
    else:
        found = _file(stage, path)
    if os.fstat(found).st_dev == stage.proc_device and path not in COVERABLE:
        os.close(found)
        raise StartFailed(f"cannot mount on {path!r}: it is inside /proc")
    return found


def _file(stage: Stage, path: str) -> int:
    """The file, made where it is missing; a link in its place that leads to nothing says where."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    where = path
    for _ in range(_MOST_LINKS):
        try:
            return open_in_root(stage.root, where, os.O_PATH)
        except FileNotFoundError:
            folder = make_directories(stage.root, os.path.dirname(where))
        name = os.path.basename(where)
        try:
            os.close(os.open(name, flags, 0o644, dir_fd=folder))
        except FileExistsError:
            where = os.path.join(os.path.dirname(where), os.readlink(name, dir_fd=folder))
        finally:
            os.close(folder)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def ordinary_directory(stage: Stage, path: str) -> int:
    """proc and sysfs go on a real directory of that very name (2019-19921), or the masks would miss them."""
    try:
        os.close(make_directories(stage.root, path))
        flags = os.O_PATH | os.O_DIRECTORY
        return openat2(stage.root, path, flags, 0, Resolve.IN_ROOT | Resolve.NO_SYMLINKS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            text = f"{path} must be mounted on ordinary directory: the image has a link or a file there"
            raise StartFailed(text, errno=error.errno) from error
        raise


def _existing(stage: Stage, path: str) -> int | None:
    """A descriptor of `path` in the root, or None where there is none: a kernel without it hides nothing."""
    try:
        return open_in_root(stage.root, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return None


def attach(tree: int, target: int) -> None:
    """Mount the detached tree on the target, and close the target."""
    try:
        linux.move_mount(tree, target)
    finally:
        os.close(target)


def _attach_copy(tree: int, target: int, attributes: MountAttr) -> None:
    try:
        linux.mount_setattr(tree, add=attributes, propagation=MountFlag.PRIVATE)
        attach(tree, target)
    finally:
        os.close(tree)
