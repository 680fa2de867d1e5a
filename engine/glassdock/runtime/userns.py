"""User namespaces: a container whose root is nobody's root outside. Maps of ids, and how a process becomes root there.

Interface:
- `Ids`: the two maps of a namespace, or the path of one that has them.
- `write(pid, ids)`: give a new namespace its maps, from outside.
- `become_root()`: inside, once the maps are there or the namespace was joined.
- `descriptor_of(ids)`: a namespace with these maps, for idmapped mounts. `root_of(descriptor)`: its root, out here.

Rules: a map is written once, by one write. Who may not write it himself (no CAP_SETUID around the namespace) asks
newuidmap(1), which knows what /etc/subuid gives him; his own one id needs nobody.

Sources: user_namespaces(7), newuidmap(1), newgidmap(1).
"""

from __future__ import annotations

import contextlib
import os
import signal

import msgspec

from glassdock.errors import StartFailed
from glassdock.linux import clone
from glassdock.linux.clone import CloneFlag
from glassdock.linux.ids import Mapping
from glassdock.oci.runtime import IDMapping
from glassdock.runtime.stage import attempt, reason


class Ids(msgspec.Struct, frozen=True):
    """What a user namespace maps: ranges of users and of groups, or `path`, a namespace that is there."""

    uids: tuple[IDMapping, ...] = ()
    gids: tuple[IDMapping, ...] = ()
    path: str = ""

    def describe(self) -> str:
        """The maps in one line."""
        if self.path:
            return f"the ids of {self.path}"
        return ", ".join(f"{one.container_id}-{one.container_id + one.size - 1} = {one.host_id}-" for one in self.uids)

    def root(self) -> tuple[int, int] | None:
        """User and group outside of root inside; None where the maps are behind a path."""
        return None if self.path else (_outside(self.uids), _outside(self.gids))

    def outside(self, uid: int | None, gid: int | None) -> tuple[int, int]:
        """A user and a group inside as they are called outside; nobody is root; -1 behind a path."""
        return (-1, -1) if self.path else (_outside(self.uids, uid or 0), _outside(self.gids, gid or 0))


def _outside(mappings: tuple[IDMapping, ...], number: int = 0) -> int:
    """The id outside of `number` inside; -1 where it is not mapped."""
    for one in mappings:
        if one.container_id <= number < one.container_id + one.size:
            return one.host_id + number - one.container_id
    return -1


def write(pid: int, ids: Ids) -> None:
    """Give the namespace of `pid`, which has none yet, its maps. Raises StartFailed."""
    _write_map(pid, "uid", ids.uids)
    _write_map(pid, "gid", ids.gids)


def _write_map(pid: int, kind: str, mappings: tuple[IDMapping, ...]) -> None:
    text = "".join(f"{one.container_id} {one.host_id} {one.size}\n" for one in mappings)
    own = os.geteuid() if kind == "uid" else os.getegid()
    try:
        if kind == "gid" and own and [(one.host_id, one.size) for one in mappings] == [(own, 1)]:
            # An ordinary user's own group may be mapped only by who gives up setgroups(2) for ever (2014-8989).
            _put(f"/proc/{pid}/setgroups", "deny")
        _put(f"/proc/{pid}/{kind}_map", text)
    except PermissionError:
        _ask_helper(pid, kind, text)
    except OSError as error:
        raise StartFailed(f"writing the {kind} map: {reason(error)}", errno=error.errno or 0) from error


def _put(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _ask_helper(pid: int, kind: str, text: str) -> None:
    import subprocess

    program = f"new{kind}map"
    try:
        done = subprocess.run([program, str(pid), *text.split()], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise StartFailed(
            f"writing the {kind} map: operation not permitted",
            remedy=f"Install {program} (Debian: uidmap) and give this user a range in /etc/sub{kind}.",
        ) from None
    if done.returncode:
        raise StartFailed(
            f"writing the {kind} map: {done.stderr.strip()}",
            remedy=f"Give this user the range in /etc/sub{kind}, or map fewer ids.",
        )


def become_root() -> None:
    """Be user and group 0 of the namespace, with no other groups."""
    with attempt("becoming root of the user namespace"):
        # Refused where setgroups(2) was given up for the map of an ordinary user's own group.
        with contextlib.suppress(PermissionError):
            os.setgroups(())
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)


def descriptor_of(ids: Ids) -> int:
    """A user namespace that has the maps, as a descriptor; no process stays in it. Raises StartFailed, OSError."""
    if ids.path:
        return os.open(ids.path, os.O_RDONLY | os.O_CLOEXEC)
    pid, pidfd = _sleeper(CloneFlag.NEWUSER)
    try:
        write(pid, ids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        _end(pidfd)


def root_of(descriptor: int) -> tuple[int, int]:
    """User and group out here of the namespace's root. Raises StartFailed where it has none."""
    pid, pidfd = _sleeper(CloneFlag(0), descriptor)
    try:
        found = Mapping.read(f"/proc/{pid}")
    finally:
        _end(pidfd)
    uid, gid = (next((one.outside for one in some if one.inside == 0), -1) for some in (found.uids, found.gids))
    if uid < 0 or gid < 0:
        raise StartFailed("the user namespace maps no root")
    return uid, gid


def _sleeper(flags: CloneFlag, joins: int = -1) -> tuple[int, int]:
    """A process that waits in a user namespace, new or joined, to be looked at and ended."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = clone.clone3(flags)
    if pid == 0:
        try:
            if joins >= 0:
                clone.setns(joins, CloneFlag.NEWUSER)
            os.write(writer, b"!")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    ready = os.read(reader, 1)
    os.close(reader)
    if not ready:
        _end(pidfd)
        raise StartFailed("the user namespace cannot be entered")
    return pid, pidfd


def _end(pidfd: int) -> None:
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
