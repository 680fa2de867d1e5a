"""What is done outside, before the first process is cloned: joining the namespaces that only the unborn can join.

Interface (steps, in the order of a plan's `outside`; `birth.py` has the process that does them):
- `ShiftedRoot`: the union of the layers, seen with the ids of the container's user namespace.
- `KernelView`: a view of the kernel's (sysfs, mqueue) of a namespace that the container's root has no power over.
- `NewTime`: a time namespace with its offsets, which are fixed when the first process enters it.
- `JoinNamespaces`: pid, time, mount and user namespaces by path, and with a user namespace all the others.

Rules: a PID namespace is for children only, so whoever joins must fork again (setns(2)); a user namespace takes away
the power over what is outside of it, so what needs that power comes before.

Sources: setns(2), time_namespaces(7), mount_setattr(2), pid_namespaces(7).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from glassdock.errors import StartFailed
from glassdock.linux import clone
from glassdock.linux import mount as linux
from glassdock.linux.capset import capget, capset
from glassdock.linux.clone import KINDS, CloneFlag
from glassdock.linux.ids import Mapping
from glassdock.linux.mount import AT_FDCWD, MountAttr, MountFlag, OpenTree
from glassdock.oci.runtime import IDMapping
from glassdock.runtime import filesystems, userns
from glassdock.runtime.stage import Stage, Step, attempt, reason
from glassdock.runtime.userns import Ids
from glassdock.unionfs.mounts import Mount

ROOT = "tree:root"


class ShiftedRoot(Step, frozen=True, tag="shifted_root"):
    """Mount the layers where nobody looks, each with the container's ids, and keep the union as a descriptor.

    The files on the disk keep their owners: 0 on the disk is the container's root and nobody's outside.
    """

    root: Mount
    target: str
    ids: Ids

    def describe(self) -> str:
        return f"make the root: {self.root.describe()}, its owners shifted: {self.ids.describe()}"

    def apply(self, stage: Stage) -> None:
        with attempt("mounting the root filesystem with the container's ids"):
            clone.unshare(CloneFlag.NEWNS)
            linux.mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
            linux.mount("tmpfs", self.target, "tmpfs", MountFlag.NODEV, "mode=700")
            ids = userns.descriptor_of(self.ids)
            lowers = tuple(self._shift(lower, f"{number}", ids) for number, lower in enumerate(self.root.lowers))
            upper, work = self.root.upper, self.root.work
            if upper:
                # Both have to be on one mount: overlayfs renames from the one to the other.
                top = os.path.commonpath((upper, work))
                shifted = self._shift(top, "upper", ids)
                upper, work = (f"{shifted}/{os.path.relpath(path, top)}" for path in (upper, work))
            os.mkdir(f"{self.target}/root")
            mount = Mount(lowers, upper, work, self.root.readonly, self.root.volatile)
            with _as_user(*userns.root_of(ids)):
                mount.apply(f"{self.target}/root")
            os.close(ids)
            tree = linux.open_tree(AT_FDCWD, f"{self.target}/root", OpenTree.CLONE)
            stage.trees[ROOT] = [tree]

    def _shift(self, path: str, name: str, ids: int) -> str:
        shown = f"{self.target}/{name}"
        os.mkdir(shown)
        tree = linux.open_tree(AT_FDCWD, path, OpenTree.CLONE)
        try:
            linux.mount_setattr(tree, add=MountAttr.IDMAP, userns=ids)
            linux.move_mount(tree, AT_FDCWD, target_path=shown)
        except OSError as error:
            raise StartFailed(
                f"showing {path} with other owners: {reason(error)}",
                "It takes root of the machine, Linux 5.19 and a file system that can do it (ext4, xfs, btrfs, tmpfs).",
                errno=error.errno or 0,
            ) from error
        finally:
            os.close(tree)
        return shown


@contextlib.contextmanager
def _as_user(uid: int, gid: int) -> Iterator[None]:
    """Act as that user with all of root's power: overlayfs works in its layers as who mounted it."""
    permitted = capget()[1]
    os.setresgid(gid, gid, 0)
    os.setresuid(uid, uid, 0)
    capset(permitted, permitted, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


class KernelView(Step, frozen=True, tag="kernel_view"):
    """A file system that shows a namespace which the container has part in and no power over."""

    type: str

    def describe(self) -> str:
        return f"make the {self.type} of a namespace that is not the container's own"

    def apply(self, stage: Stage) -> None:
        with attempt(f"mounting {self.type}"):
            stage.trees[f"tree:{self.type}"] = [filesystems.new(self.type, self.type, (), MountAttr(0))]


class NewTime(Step, frozen=True, tag="time_namespace"):
    """A time namespace for who is born next: its clocks differ by (clock, seconds, nanoseconds)."""

    offsets: tuple[tuple[str, int, int], ...] = ()

    def describe(self) -> str:
        told = ", ".join(f"{clock} {seconds:+d}.{nano:09d} s" for clock, seconds, nano in self.offsets)
        return f"new time namespace: {told or 'no offsets'}"

    def apply(self, stage: Stage) -> None:
        with attempt("unsharing the time namespace"):
            clone.unshare(CloneFlag.NEWTIME)
        with attempt("setting the offsets of the time namespace"):
            if self.offsets:
                lines = "".join(f"{clock} {seconds} {nano}\n" for clock, seconds, nano in self.offsets)
                file = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(file, lines.encode())
                finally:
                    os.close(file)


class JoinNamespaces(Step, frozen=True, tag="join_outside"):
    """Enter namespaces that exist, each by its path; an empty one is the network that came with the launch.

    `ids` are the maps that a joined user namespace has to have, where the specification says so.
    """

    paths: tuple[tuple[str, str], ...]
    uids: tuple[IDMapping, ...] = ()
    gids: tuple[IDMapping, ...] = ()

    def describe(self) -> str:
        return "join " + ", ".join(f"{kind} {path or 'made by the network manager'}" for kind, path in self.paths)

    def apply(self, stage: Stage) -> None:
        # Opened first: behind a mount namespace paths mean something else.
        doors = [(kind, self._open(stage, kind, path)) for kind, path in self.paths]
        later: list[tuple[str, int]] = []
        user = [door for door in doors if door[0] == "user"]
        for kind, door in (door for door in doors if door[0] != "user"):
            try:
                clone.setns(door, KINDS[kind])
            except PermissionError:
                later.append((kind, door))  # it may belong to the user namespace
            except OSError as error:
                raise self._refused(kind, error) from error
        for kind, door in (*user, *later):
            try:
                clone.setns(door, KINDS[kind])
            except OSError as error:
                raise self._refused(kind, error) from error
            if kind == "user":
                self._compare()
                userns.become_root()
        for _, door in doors:
            os.close(door)

    def _open(self, stage: Stage, kind: str, path: str) -> int:
        if not path:
            return stage.netns
        with attempt(f"joining the {kind} namespace {path}"):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _refused(self, kind: str, error: OSError) -> StartFailed:
        path = dict(self.paths)[kind]
        return StartFailed(f"joining the {kind} namespace {path}: {reason(error)}", errno=error.errno or 0)

    def _compare(self) -> None:
        if not self.uids and not self.gids:
            return
        found = Mapping.read()
        for has, wanted in ((found.uids, self.uids), (found.gids, self.gids)):
            if [(one.inside, one.outside, one.count) for one in has] != [
                (one.container_id, one.host_id, one.size) for one in wanted
            ]:
                raise StartFailed(
                    "user namespaces enabled, but both namespace path and non-matching mappings specified"
                    " -- you may only provide one"
                )
