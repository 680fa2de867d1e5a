"""Trying out what the kernel allows: each attempt in a child of its own, which then dies with all that it made.

Interface:
- `attempt(work)`: fork, run `work`, return its `Outcome`: a level, or the step that was refused and its errno.
- `isolation()`, then `proc(level)`, `store(level, folder)`, `ids(level)`, `net(level)`, `limits()`, `seccomp()`: the
  axes of `glassdock doctor`, best level first.

Rules: runs in a process of its own (probe.py), single-threaded, because it forks. Namespaces take their mounts and
interfaces along when the child dies; folders, cgroups and the machine's bridge are removed by whoever made them.

Sources: user_namespaces(7), mount_namespaces(7), cgroups(7), seccomp(2), newuidmap(1).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import pwd
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from glassdock.linux import prctl
from glassdock.linux.clone import CloneFlag, unshare
from glassdock.linux.mount import MountFlag, UmountFlag, mount, umount2
from glassdock.linux.seccomp import set_mode_filter

_PATIENCE = 3.0
_SANDBOX = CloneFlag.NEWNS | CloneFlag.NEWUTS | CloneFlag.NEWIPC | CloneFlag.NEWNET | CloneFlag.NEWPID
_SIOCBRADDBR, _SIOCBRDELBR = 0x89A0, 0x89A1
Work = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`level` is what works; `step` and `errno` are of what was refused, on the way to it or instead of it."""

    level: str = ""
    step: str = ""
    errno: int = 0


class _Refused(Exception):
    def __init__(self, step: str, number: int) -> None:
        super().__init__(step)
        self.outcome = Outcome("", step, number)


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Name what is being tried, for the explanation."""
    try:
        yield
    except OSError as error:
        raise _Refused(name, error.errno or errno.EIO) from error


def attempt(work: Work) -> Outcome:
    """Run `work` in a forked child. A child that hangs is killed, with ETIMEDOUT as the answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _report(work, writing)
    os.close(writing)
    data = b""
    with os.fdopen(reading, "rb") as pipe:
        # End of file comes when the child and all that it forked are gone.
        while select.select([pipe], [], [], _PATIENCE)[0] and (chunk := os.read(pipe.fileno(), 65536)):
            data += chunk
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        return Outcome(**json.loads(data))
    except ValueError:
        return Outcome("", "an answer from the child", errno.ETIMEDOUT)


def _report(work: Work, writing: int) -> None:
    """The child: never returns."""
    try:
        os.setpgid(0, 0)
        prctl.set_parent_death_signal(signal.SIGKILL)
        try:
            outcome = Outcome(work())
        except _Refused as refused:
            outcome = refused.outcome
        except OSError as error:
            outcome = Outcome("", str(error.strerror).partition(":")[0], error.errno or errno.EIO)
        os.write(writing, json.dumps({"level": outcome.level, "step": outcome.step, "errno": outcome.errno}).encode())
    finally:
        os._exit(0)


def _in_child(work: Work) -> str:
    """Run `work` in one more child, for what only a child can do (be in a new PID namespace); same answer."""
    outcome = attempt(work)
    if outcome.step:
        raise _Refused(outcome.step, outcome.errno)
    return outcome.level


# ---- isolation


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
        raise _Refused("root", errno.EPERM)
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
        raise _Refused("newuidmap", errno.ENOENT)
    if answer != b"y":
        raise _Refused("newuidmap", errno.EPERM)
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
    raise _Refused("subuid", errno.ENOENT)


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
        raise _Refused("proot", errno.ENOENT)
    done = subprocess.run([program, "-0", "id", "-u"], capture_output=True, text=True, check=False)
    if done.stdout.strip() != "0":
        raise _Refused("proot", errno.EPERM)
    return "emulated"


_RUNGS: dict[str, Callable[[Work], str]] = {
    "root": _as_root,
    "userns-range": _with_range,
    "userns-single": _with_one,
    "userns-nomount": _with_one,
    "emulated": _emulated,
}


def _at(level: str, work: Work) -> Outcome:
    """Run `work` where a container of this isolation level would be set up."""
    enter = _RUNGS.get(level)
    if enter is None or level == "emulated":
        return Outcome("", "isolation", errno.EPERM)
    return attempt(lambda: enter(work))


# ---- proc, store, ids


def proc(level: str) -> Outcome:
    """fresh, recursive bind or none."""

    def fresh() -> str:
        unshare(CloneFlag.NEWNS | CloneFlag.NEWPID)
        return _in_child(lambda: _mounted("proc", "fresh", ("proc", "proc", MountFlag(0))))

    def bound() -> str:
        unshare(CloneFlag.NEWNS | CloneFlag.NEWPID)
        return _in_child(lambda: _mounted("bind", "recursive bind", ("/proc", None, MountFlag.BIND | MountFlag.REC)))

    return _first([_at(level, fresh), _at(level, bound)], "none")


def _mounted(name: str, answer: str, what: tuple[str, str | None, MountFlag]) -> str:
    source, kind, flags = what
    with _folder(tempfile.gettempdir()) as folder:
        with step("mount"):
            mount(None, "/", None, MountFlag.PRIVATE | MountFlag.REC)
        with step(f"mount {name}"):
            mount(source, folder, kind, flags)
        umount2(folder, UmountFlag.DETACH)
    return answer


def store(level: str, state: str) -> Outcome:
    """overlay, overlay on tmpfs, fuse-overlayfs or copy, with layers in the folder `state`."""
    user = level != "root"
    with _folder(state) as folder:
        tries = [
            _at(level, lambda: _overlay(folder, on_tmpfs=False, user=user)),
            _at(level, lambda: _overlay(folder, on_tmpfs=True, user=user)),
            _at(level, lambda: _fuse_overlay(folder)),
        ]
        return _first(tries, "copy")


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
        raise _Refused("write to overlay", errno.EIO)
    return "overlay on tmpfs" if on_tmpfs else "overlay"


def _fuse_overlay(folder: str) -> str:
    program = shutil.which("fuse-overlayfs")
    if program is None:
        raise _Refused("fuse-overlayfs", errno.ENOENT)
    unshare(CloneFlag.NEWNS)
    with step("mount"):
        mount(None, "/", None, MountFlag.PRIVATE | MountFlag.REC)
    layers = _layers(folder, on_tmpfs=False)
    done = subprocess.run([program, "-o", layers.options, layers.merged], capture_output=True, check=False)
    if done.returncode:
        raise _Refused("fuse-overlayfs", errno.EPERM)
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
        with _folder(tempfile.gettempdir()) as folder, step("chown"):
            os.chown(folder, 1, 1)
            os.chown(folder, 0, 0)
        return "range"

    outcome = _at(level, owned)
    if outcome.level:
        return outcome
    return Outcome("single" if level.startswith("userns") else "emulated", outcome.step, outcome.errno)


# ---- net


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

    tries = [_at(level, here)] if level == "root" else []
    return _first([*tries, _at(level, inside)], "shared")


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


# ---- limits, seccomp


def limits() -> Outcome:
    """cgroup v2, cgroup v1 or rlimits."""
    tries = []
    for parent, version in _cgroup_places():
        try:
            with step("cgroup"), _cgroup(parent, version) as folder:
                outcome = attempt(functools.partial(_limited, folder))
            tries.append(Outcome(outcome.level and f"cgroup v{version}", outcome.step, outcome.errno))
        except _Refused as refused:
            tries.append(refused.outcome)
        if tries[-1].level:
            return _first(tries, "rlimits")
    # Where a hierarchy has what is needed and refuses, that is the reason, not another one that lacks it.
    return _first(sorted(tries, key=lambda outcome: outcome.errno == errno.ENOENT), "rlimits")


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
            raise _Refused(f"controller {name}", errno.ENOENT)
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
    raise _Refused("cgroup", errno.EIO)


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
        raise _Refused("seccomp", errno.EIO)

    def library() -> str:
        try:
            import pyseccomp
        except ModuleNotFoundError as error:
            raise _Refused("pyseccomp", errno.ENOENT) from error
        except (ImportError, OSError, RuntimeError) as error:
            raise _Refused("libseccomp", errno.ENOENT) from error
        pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        return "library and kernel"

    outcome = attempt(kernel)
    return (
        _first([attempt(library), outcome], "none") if outcome.level else Outcome("none", outcome.step, outcome.errno)
    )


# ---- helpers


def _first(tries: list[Outcome], rest: str) -> Outcome:
    """The first that works, with why the best one does not; `rest` always works."""
    level = next((outcome.level for outcome in tries if outcome.level), rest)
    refused = tries[0] if tries and not tries[0].level else Outcome()
    return Outcome(level, refused.step, refused.errno)


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """Temporary folders of every attempt, also of one that is killed, are removed at the end."""
    before = tempfile.tempdir
    with _folder(tempfile.gettempdir()) as folder:
        os.chmod(folder, 0o711)
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextlib.contextmanager
def _folder(parent: str) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="glassdock-probe-", dir=parent)
    try:
        yield folder
    finally:
        for path, names, _ in os.walk(folder):
            for name in names:
                os.chmod(f"{path}/{name}", 0o700)  # overlay leaves a folder that nobody may enter
        shutil.rmtree(folder)
