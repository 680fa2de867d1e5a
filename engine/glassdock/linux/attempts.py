"""The other axes of `glassdock doctor`, tried out where a container of the isolation level would be set up.

Interface: `proc(level)`, `store(level, folder)`, `ids(level)`, `net(level)`, `limits()`, `seccomp()`: each the best
level that works, with why a better one does not.

Rules: done, not looked up. Folders, cgroups and the machine's bridge are removed by whoever made them.
Sources: proc(5), overlay (https://docs.kernel.org/filesystems/overlayfs.html), cgroups(7), seccomp(2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glassdock.linux import prctl
from glassdock.linux.attempt import Outcome, Refused, attempt, first, folder_in, in_child, step
from glassdock.linux.clone import CloneFlag, unshare
from glassdock.linux.mount import MountFlag, UmountFlag, mount, umount2
from glassdock.linux.rungs import at
from glassdock.linux.seccomp import set_mode_filter

_SIOCBRADDBR, _SIOCBRDELBR = 0x89A0, 0x89A1


def proc(level: str) -> Outcome:
    """fresh, recursive bind or none."""

    def fresh() -> str:
        unshare(CloneFlag.NEWNS | CloneFlag.NEWPID)
        return in_child(lambda: _mounted("proc", "fresh", ("proc", "proc", MountFlag(0))))

    def bound() -> str:
        unshare(CloneFlag.NEWNS | CloneFlag.NEWPID)
        return in_child(lambda: _mounted("bind", "recursive bind", ("/proc", None, MountFlag.BIND | MountFlag.REC)))

    return first([at(level, fresh), at(level, bound)], "none")


def _mounted(name: str, answer: str, what: tuple[str, str | None, MountFlag]) -> str:
    source, kind, flags = what
    with folder_in(tempfile.gettempdir()) as folder:
        with step("mount"):
            mount(None, "/", None, MountFlag.PRIVATE | MountFlag.REC)
        with step(f"mount {name}"):
            mount(source, folder, kind, flags)
        umount2(folder, UmountFlag.DETACH)
    return answer


def store(level: str, state: str) -> Outcome:
    """overlay, overlay on tmpfs, fuse-overlayfs or copy, with layers in the folder `state`."""
    user = level != "root"
    with folder_in(state) as folder:
        tries = [
            at(level, lambda: _overlay(folder, on_tmpfs=False, user=user)),
            at(level, lambda: _overlay(folder, on_tmpfs=True, user=user)),
            at(level, lambda: _fuse_overlay(folder)),
        ]
        return first(tries, "copy")


def _overlay(folder: str, *, on_tmpfs: bool, user: bool) -> str:
    unshare(CloneFlag.NEWNS)
    with step("mount"):
        mount(None, "/", None, MountFlag.PRIVATE | MountFlag.REC)
    layers = _layers(folder, on_tmpfs=on_tmpfs)
    with step("mount overlay"):
        mount("overlay", layers.merged, "overlay", MountFlag.NODEV, layers.options + (",userxattr" if user else ""))
    with step("write to overlay"):
        Path(layers.merged, "copied").write_text("up")
        Path(layers.merged, "deleted").unlink()
    if Path(layers.upper, "copied").read_text() != "up" or not os.path.lexists(f"{layers.upper}/deleted"):
        raise Refused("write to overlay", errno.EIO)
    return "overlay on tmpfs" if on_tmpfs else "overlay"


def _fuse_overlay(folder: str) -> str:
    program = shutil.which("fuse-overlayfs")
    if program is None:
        raise Refused("fuse-overlayfs", errno.ENOENT)
    unshare(CloneFlag.NEWNS)
    with step("mount"):
        mount(None, "/", None, MountFlag.PRIVATE | MountFlag.REC)
    layers = _layers(folder, on_tmpfs=False)
    done = subprocess.run([program, "-o", layers.options, layers.merged], capture_output=True, check=False)
    if done.returncode:
        raise Refused("fuse-overlayfs", errno.EPERM)
    try:
        with step("write to fuse-overlayfs"):
            Path(layers.merged, "copied").write_text("up")
    finally:
        umount2(layers.merged, UmountFlag.DETACH)  # its server ends with the mount
    return "fuse-overlayfs"


@dataclass(frozen=True, slots=True)
class _Layers:
    upper: str
    merged: str
    options: str


def _layers(folder: str, *, on_tmpfs: bool) -> _Layers:
    base = tempfile.mkdtemp(dir=folder)
    names = {name: f"{base}/{name}" for name in ("lower", "top", "merged")}
    for name in names.values():
        os.mkdir(name)
    for name in ("copied", "deleted"):
        Path(names["lower"], name).write_text("down")
    if on_tmpfs:
        with step("mount tmpfs"):
            mount("tmpfs", names["top"], "tmpfs", MountFlag.NOSUID | MountFlag.NODEV)
    upper, work = f"{names['top']}/upper", f"{names['top']}/work"
    os.mkdir(upper)
    os.mkdir(work)
    return _Layers(upper, names["merged"], f"lowerdir={names['lower']},upperdir={upper},workdir={work}")


def ids(level: str) -> Outcome:
    """range, single (ownership is remembered beside the files) or emulated."""

    def owned() -> str:
        with folder_in(tempfile.gettempdir()) as folder, step("chown"):
            os.chown(folder, 1, 1)
            os.chown(folder, 0, 0)
        return "range"

    outcome = at(level, owned)
    if outcome.level:
        return outcome
    return Outcome("single" if level.startswith("userns") else "emulated", outcome.step, outcome.errno)


def net(level: str) -> Outcome:
    """host bridge, engine bridge (in a network namespace that the engine owns) or shared."""

    def here() -> str:
        name = f"gdprobe{os.getpid()}"[:15]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket, step("add bridge"):
            fcntl.ioctl(any_socket, _SIOCBRADDBR, name.encode() + b"\0")
            fcntl.ioctl(any_socket, _SIOCBRDELBR, name.encode() + b"\0")
        return inside() and "host bridge"

    def inside() -> str:
        with step("unshare"):
            unshare(CloneFlag.NEWNET)
        for kind in ("bridge", "veth"):
            with step(f"add {kind}"):
                _add_link(kind)
        return "engine bridge"

    tries = [at(level, here)] if level == "root" else []
    found = first([*tries, at(level, inside)], "shared")
    if found.step or found.level != "engine bridge":
        return found
    return Outcome(found.level, *_missing_for_the_way_out())


def _missing_for_the_way_out() -> tuple[str, int]:
    """What the engine's own network lacks to reach other machines, and the errno; ("", 0) where nothing is missing."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return "open /dev/net/tun", error.errno or errno.EIO
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    if not any(shutil.which(name, path=path) for name in ("pasta", "slirp4netns")):
        return "pasta", errno.ENOENT
    return "", 0


def _add_link(kind: str) -> None:
    """RTM_NEWLINK for `ip link add type KIND`; packed by hand, because pyroute2 is network/'s."""
    packed = kind.encode()
    inner = struct.pack("=HH", 4 + len(packed), 1) + packed.ljust((len(packed) + 3) & ~3, b"\0")
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0) + struct.pack("=HH", 4 + len(inner), 18) + inner
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as door:
        door.send(struct.pack("=IHHII", 16 + len(body), 16, 0x605, 1, 0) + body)
        number = -struct.unpack_from("=i", door.recv(4096), 16)[0]
    if number:
        raise OSError(number, os.strerror(number))


def limits() -> Outcome:
    """cgroup v2, cgroup v1 or rlimits."""
    tries = []
    for parent, version in _cgroup_places():
        try:
            with step("cgroup"), _cgroup(parent, version) as folder:
                outcome = attempt(functools.partial(_limited, folder))
            tries.append(Outcome(outcome.level and f"cgroup v{version}", outcome.step, outcome.errno))
        except Refused as refused:
            tries.append(refused.outcome)
        if tries[-1].level:
            return first(tries, "rlimits")
    # Where a hierarchy has what is needed and refuses, that is the reason, not another one that lacks it.
    return first(sorted(tries, key=lambda outcome: outcome.errno == errno.ENOENT), "rlimits")


@contextlib.contextmanager
def _cgroup(parent: str, version: int) -> Iterator[str]:
    """A new cgroup under `parent`, which is as it was afterwards."""
    folder = f"{parent}/glassdock-probe-{os.getpid()}"
    with contextlib.ExitStack() as undo:
        if version == 2:
            _controllers(parent, undo)
        with step("mkdir"):
            os.mkdir(folder)
        undo.callback(_remove_cgroup, folder)
        yield folder


def _remove_cgroup(folder: str) -> None:
    for _ in range(100):
        try:
            os.rmdir(folder)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.01)  # the child is reaped, but not yet counted out
        else:
            return


def _cgroup_places() -> list[tuple[str, int]]:
    """Folders under which the engine may make cgroups: version 2 first, a hierarchy's root before one's own place."""
    found = []
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), path))
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        where = before.split()[4]
        if kind == "cgroup2":
            found += [(where, 2), (where + own.get("", "/").rstrip("/"), 2)]
        elif kind == "cgroup" and "pids" in options.split(","):
            found += [(where, 1), (where + own.get("pids", "/").rstrip("/"), 1)]
    return sorted(dict.fromkeys(found), key=lambda place: -place[1])


def _controllers(parent: str, undo: contextlib.ExitStack) -> None:
    have = Path(parent, "cgroup.controllers").read_text().split()
    on = Path(parent, "cgroup.subtree_control").read_text().split()
    for name in ("pids", "memory"):
        if name not in have:
            raise Refused(f"controller {name}", errno.ENOENT)
        if name not in on:
            with step(f"controller {name}"):
                Path(parent, "cgroup.subtree_control").write_text(f"+{name}")
            undo.callback(Path(parent, "cgroup.subtree_control").write_text, f"-{name}")


def _limited(folder: str) -> str:
    """With one process allowed there is no second."""
    with step("cgroup"):
        Path(folder, "pids.max").write_text("1")
        Path(folder, "cgroup.procs").write_text(str(os.getpid()))
    try:
        if os.fork() == 0:
            os._exit(0)
    except BlockingIOError:
        return "limited"
    finally:
        # An ended process still counts: leave, so that the folder can go.
        with contextlib.suppress(OSError):
            Path(os.path.dirname(folder), "cgroup.procs").write_text(str(os.getpid()))
    raise Refused("cgroup", errno.EIO)


def seccomp() -> Outcome:
    """library and kernel, kernel alone or none."""

    def kernel() -> str:
        # Load the number of the system call; getpriority answers ENOTTY, all else is allowed.
        number = {"x86_64": 140, "aarch64": 141, "riscv64": 141, "armv7l": 96, "i686": 96}.get(os.uname().machine, 96)
        program = struct.pack("=HBBI", 0x20, 0, 0, 0) + struct.pack("=HBBI", 0x15, 0, 1, number)
        program += struct.pack("=HBBI", 0x06, 0, 0, 0x00050000 | errno.ENOTTY)
        program += struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
        prctl.set_no_new_privileges()
        with step("seccomp"):
            set_mode_filter(program)
        try:
            os.getpriority(os.PRIO_PROCESS, 0)
        except OSError as error:
            if error.errno == errno.ENOTTY:
                return "kernel alone"
        raise Refused("seccomp", errno.EIO)

    def library() -> str:
        try:
            import pyseccomp
        except ModuleNotFoundError as error:
            raise Refused("pyseccomp", errno.ENOENT) from error
        except (ImportError, OSError, RuntimeError) as error:
            raise Refused("libseccomp", errno.ENOENT) from error
        pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        return "library and kernel"

    outcome = attempt(kernel)
    return first([attempt(library), outcome], "none") if outcome.level else Outcome("none", outcome.step, outcome.errno)
