"""The process itself: who it is, where it stands, what it may use, and which program it becomes.

Interface (steps, in the order of a plan): `Rlimits`, `OomScore`, `ResolveUser`, `WorkingDirectory`, `NewSession`,
`FindProgram`, `KeepCapabilities`, `SetUser`, `NoNewPrivileges`. The exec is `init.py`'s.

Rules: the container's /etc/passwd and /etc/group are parsed as text, after the pivot, from regular files only; no name
service, no import, no codec is loaded from inside the root (2019-14271). Docker's and runc's words for what goes wrong.

Sources: credentials(7), execvp(3), https://docs.docker.com/reference/cli/docker/container/run/#user
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator

from glassdock.errors import CommandNotExecutable, CommandNotFound, InvalidParameter, StartFailed
from glassdock.linux import ids, prctl
from glassdock.linux.openat2 import make_directories, open_in_root
from glassdock.oci.runtime import Rlimit
from glassdock.runtime.stage import Stage, Step, attempt, reason

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RLIMITS = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
_LARGEST_FILE = 4 << 20
_LARGEST_ID = 2**31 - 1


class Rlimits(Step, frozen=True, tag="rlimits"):
    """Resource limits: (name, soft, hard); -1 is unlimited."""

    limits: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, limits: tuple[Rlimit, ...]) -> Rlimits:
        """The step for the specification's limits; raises InvalidParameter for an unknown one."""
        for limit in limits:
            if limit.type not in RLIMITS:
                raise InvalidParameter(f"unknown rlimit {limit.type!r}")
        return cls(tuple((limit.type, limit.soft, limit.hard) for limit in limits))

    def describe(self) -> str:
        return "limit " + ", ".join(f"{name[7:].lower()} {soft}:{hard}" for name, soft, hard in self.limits)

    def apply(self, stage: Stage) -> None:
        for name, soft, hard in self.limits:
            try:
                resource.setrlimit(RLIMITS[name], (_limit(soft), _limit(hard)))
            except (OSError, ValueError) as error:
                # Python turns EPERM into ValueError: this machine lacks CAP_SYS_RESOURCE to raise a hard limit.
                raise StartFailed(f"setting rlimit {name} to {soft}:{hard}: {error}", errno=errno.EPERM) from error


class OomScore(Step, frozen=True, tag="oom_score"):
    """How willingly the kernel kills it when memory is short."""

    adjustment: int

    def describe(self) -> str:
        return f"oom_score_adj {self.adjustment}"

    def apply(self, stage: Stage) -> None:
        file = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, b"%d" % self.adjustment)
        except PermissionError:
            # Lowering it needs CAP_SYS_RESOURCE, which this machine may not give.
            stage.warnings.append(f"this machine does not let oom_score_adj be {self.adjustment}")
        finally:
            os.close(file)


class ResolveUser(Step, frozen=True, tag="user"):
    """Find numbers, home and groups of Docker's `user[:group]` in the container's own files."""

    user: str
    groups: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"look up user {self.user or '0'} in /etc/passwd"

    def apply(self, stage: Stage) -> None:
        name, _, group = self.user.partition(":")
        entry = _passwd(stage, name or "0")
        if entry is None and not name.isdecimal() and name:
            raise StartFailed(f"unable to find user {name}: no matching entries in passwd file")
        stage.uid = _number(entry[2]) if entry else _number(name or "0")
        stage.gid = _number(entry[3]) if entry else 0
        stage.home = entry[5] or "/" if entry else "/"
        named = entry[0] if entry else ""
        extra: set[int] = set()
        if group:
            stage.gid = self._group(stage, group)
        elif named:
            extra = {_number(row[2]) for row in _rows(stage, "/etc/group", 4) if named in row[3].split(",")}
            # What an image's file lists is taken as far as ids go; what is asked for is never left out.
            extra = {number for number in extra if ids.has_gid(number)}
        extra |= {self._group(stage, word) for word in self.groups}
        stage.groups = (*sorted(extra - {stage.gid}), stage.gid)

    @staticmethod
    def _group(stage: Stage, word: str) -> int:
        for row in _rows(stage, "/etc/group", 3):
            if row[0] == word:
                return _number(row[2])
        if word.isdecimal():
            return _number(word)
        raise StartFailed(f"unable to find group {word}: no matching entries in group file")


class UseIds(Step, frozen=True, tag="ids"):
    """The numbers that the specification gives: user, group, additional groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def describe(self) -> str:
        return f"user {self.uid}:{self.gid}"

    def apply(self, stage: Stage) -> None:
        entry = _passwd(stage, str(self.uid))
        stage.uid, stage.gid, stage.home = self.uid, self.gid, entry[5] or "/" if entry else "/"
        # The primary group is listed too (2023-25173), so that dropping it from the list gains nothing.
        stage.groups = tuple(dict.fromkeys((*self.groups, self.gid)))


class WorkingDirectory(Step, frozen=True, tag="cwd"):
    """Stand in the working directory, made if it is missing, and make sure that it is inside (2024-21626)."""

    path: str

    def describe(self) -> str:
        return f"chdir {self.path}"

    def apply(self, stage: Stage) -> None:
        try:
            if self.path != "/":
                folder = make_directories(stage.root, self.path)
                os.fchdir(folder)
                os.close(folder)
            # The kernel answers with a path that does not begin with "/" where the directory is outside the root.
            inside = os.getcwd().startswith("/")
        except OSError as error:
            raise StartFailed(
                f"chdir to cwd ({self.path!r}) set in config.json failed: {reason(error)}", errno=error.errno or 0
            ) from error
        if not inside:
            raise StartFailed("current working directory is outside of container mount namespace root")


class FindProgram(Step, frozen=True, tag="program"):
    """Find the program as the shell would, along the container's PATH, inside its root."""

    name: str
    path: str = DEFAULT_PATH

    def describe(self) -> str:
        return f"find {self.name} in {self.path}" if "/" not in self.name else f"find {self.name}"

    def apply(self, stage: Stage) -> None:
        if "/" in self.name:
            self._check(self.name, f'exec: "{self.name}": stat {self.name}: ')
            stage.program = self.name
            return
        denied = ""
        for folder in self.path.split(":"):
            candidate = f"{folder or '.'}/{self.name}"
            try:
                mode = os.stat(candidate).st_mode
            except OSError as error:
                denied = denied or (candidate if error.errno == errno.EACCES else "")
                continue
            if stat.S_ISREG(mode) and os.access(candidate, os.X_OK, effective_ids=True):
                stage.program = candidate
                return
        # As Go's LookPath: a file without the x bit on the way is not the one that was meant.
        raise CommandNotFound(f'exec: "{self.name}": executable file not found in $PATH', errno=errno.ENOENT)

    def _check(self, path: str, prefix: str) -> None:
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            kind = CommandNotFound if error.errno in (errno.ENOENT, errno.ENOTDIR) else CommandNotExecutable
            raise kind(prefix + reason(error), errno=error.errno or 0) from error
        if stat.S_ISDIR(mode):
            raise CommandNotExecutable(f'exec: "{path}": is a directory: permission denied', errno=errno.EISDIR)
        if not os.access(path, os.X_OK, effective_ids=True):
            raise CommandNotExecutable(f'exec: "{path}": permission denied', errno=errno.EACCES)


class SetUser(Step, frozen=True, tag="set_user"):
    """Become the user that was found; the permitted capabilities stay until they are set."""

    umask: int = 0o022

    def describe(self) -> str:
        return f"become the user, umask {self.umask:03o}"

    def apply(self, stage: Stage) -> None:
        if not ids.has_uid(stage.uid) and os.getuid() != stage.uid:
            most = max(extent.inside + extent.count - 1 for extent in ids.mapping().uids)
            raise StartFailed(f"user {stage.uid} is not among the ids of this engine, which end at {most}")
        with attempt(f"setting the user to {stage.uid}:{stage.gid}"):
            os.umask(self.umask)
            self._give_streams(stage)
            prctl.set_keep_capabilities(True)
            self._set_groups(stage)
            os.setresgid(stage.gid, stage.gid, stage.gid)
            os.setresuid(stage.uid, stage.uid, stage.uid)

    @staticmethod
    def _set_groups(stage: Stage) -> None:
        try:
            os.setgroups(stage.groups)
        except PermissionError:
            # Given up for ever in the user namespace of an ordinary user who mapped his own group (2014-8989).
            if set(stage.groups) - {stage.gid}:
                raise StartFailed("cannot set any additional groups in a rootless container") from None

    @staticmethod
    def _give_streams(stage: Stage) -> None:
        """Pipes and the terminal become the user's, so that /dev/stdout can be opened; no device of the machine's."""
        for descriptor in (stage.terminal,) if stage.terminal >= 0 else (0, 1, 2):
            found = os.fstat(descriptor)
            if stage.terminal < 0 and not stat.S_ISFIFO(found.st_mode):
                continue
            try:
                if found.st_uid != stage.uid:
                    os.fchown(descriptor, stage.uid, -1)
            except OSError as error:
                # A pipe of somebody's who has no id in this user namespace: it stays his, as with runc.
                if error.errno not in (errno.EPERM, errno.EINVAL):
                    raise


class NoNewPrivileges(Step, frozen=True, tag="no_new_privileges"):
    """No exec raises anything, setuid programs included."""

    def describe(self) -> str:
        return "no new privileges"

    def apply(self, stage: Stage) -> None:
        with attempt("setting no_new_privs"):
            prctl.set_no_new_privileges()


def _limit(value: int) -> int:
    return resource.RLIM_INFINITY if value < 0 or value >= 1 << 63 else value


def environment(env: tuple[str, ...], home: str) -> dict[bytes, bytes]:
    """The environment as exec wants it; HOME is the user's where none is given. Later entries win."""
    found: dict[bytes, bytes] = {}
    for entry in env:
        name, _, value = os.fsencode(entry).partition(b"=")
        found[name] = value
    if not found.get(b"HOME"):
        found[b"HOME"] = os.fsencode(home)
    return found


def search_path(env: tuple[str, ...]) -> str:
    """The PATH of the environment, or Docker's where it has none."""
    for entry in reversed(env):
        if entry.startswith("PATH="):
            return entry[5:]
    return DEFAULT_PATH


def _passwd(stage: Stage, word: str) -> list[str] | None:
    """The row of that name, or of that number."""
    rows = list(_rows(stage, "/etc/passwd", 6))
    named = next((row for row in rows if row[0] == word), None)
    if named is None and word.isdecimal():
        named = next((row for row in rows if row[2] == word), None)
    return named


def _rows(stage: Stage, path: str, fields: int) -> Iterator[list[str]]:
    """The colon-separated rows of a regular file inside the root that have enough fields; none where it is missing."""
    try:
        file = open_in_root(stage.root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise StartFailed(f"{path} in the image is not a regular file")
        text = os.read(file, _LARGEST_FILE)
    finally:
        os.close(file)
    for line in text.decode("utf-8", "replace").splitlines():
        row = line.strip().split(":")
        if len(row) >= fields and not line.startswith("#"):
            yield row


def _number(text: str) -> int:
    """A user's or group's number; raises InvalidParameter outside 0 to 2147483647, as Docker does."""
    number = int(text) if text.isdecimal() else -1
    if not 0 <= number <= _LARGEST_ID:
        raise InvalidParameter("uids and gids must be in range 0-2147483647")
    return number
