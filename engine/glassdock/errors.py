"""Everything that can go wrong, by meaning.

Each class carries the HTTP status that the daemon answers with, and each error may carry a `remedy`:
one sentence on what to do. `str(error)` is one sentence on what happened.

    GlassdockError                500
    ├── InvalidParameter          400   the request cannot be understood or is not allowed
    │   └── BuildError            400   a Dockerfile, with file and line
    ├── Unauthorized              401   a registry wants other credentials
    ├── Forbidden                 403   understood, and refused by policy
    ├── NotFound                  404   container, image, network, volume, file
    ├── NotModified               304   already so: started twice, stopped twice
    ├── Conflict                  409   a name or a state is in the way
    ├── Corrupt                   500   a digest, a size or an archive is not as described
    ├── StartFailed               500   the kernel refused a step of a start
    │   ├── CommandNotFound       400   the program is not in the image (exit code 127)
    │   └── CommandNotExecutable  400   the program cannot be executed (exit code 126)
    ├── NotSupported              501   this machine cannot do it; the remedy says what would help
    ├── StorageFull               507   no space left, or a read-only state folder
    └── Unavailable               503   a daemon or a registry does not answer

Interface:
- `GlassdockError(message, remedy=None)`: `.message`, `.remedy`, `.status`.
- `to_body(error)` and `from_body(status, body)`: the one map to and from the API's error body.

Rules: raise the class that says what it means; never return False; never log and raise.
Statuses are those of the Docker Engine API (https://docs.docker.com/reference/api/engine/).
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar


class GlassdockError(Exception):
    """The root of the tree: something went wrong that no other class describes."""

    status: ClassVar[int] = 500

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class InvalidParameter(GlassdockError):
    """The request cannot be understood, or asks for something that is not allowed."""

    status = 400


class BuildError(InvalidParameter):
    """A Dockerfile cannot be built; `file` and `line` (from 1) say where, `code` how a failed command ended."""

    def __init__(
        self, message: str, remedy: str | None = None, *, file: str = "Dockerfile", line: int = 0, code: int = 0
    ) -> None:
        super().__init__(message, remedy)
        self.file = file
        self.line = line
        self.code = code


class Unauthorized(GlassdockError):
    """A registry wants other credentials."""

    status = 401


class Forbidden(GlassdockError):
    """The request is understood, and refused."""

    status = 403


class NotFound(GlassdockError):
    """There is no such container, image, network, volume or file."""

    status = 404


class NotModified(GlassdockError):
    """The object is already in the state that was asked for."""

    status = 304


class Conflict(GlassdockError):
    """A name is taken, or the object's state is in the way."""

    status = 409


class Corrupt(GlassdockError):
    """A digest, a size or an archive is not what its description says."""


class StartFailed(GlassdockError):
    """The kernel refused a step between clone and exec; `step` names it, `errno` is the kernel's answer."""

    def __init__(self, message: str, remedy: str | None = None, *, step: str = "", errno: int = 0) -> None:
        super().__init__(message, remedy)
        self.step = step
        self.errno = errno


class CommandNotFound(StartFailed):
    """The program to run is not in the container's root (a shell would say 127)."""

    status = 400


class CommandNotExecutable(StartFailed):
    """The program is there and cannot be executed (a shell would say 126)."""

    status = 400


class NotSupported(GlassdockError):
    """This machine, or this version of Glassdock, cannot do it."""

    status = 501


class StorageFull(GlassdockError):
    """The state folder cannot be written."""

    status = 507


class Unavailable(GlassdockError):
    """A daemon, a launcher or a registry does not answer."""

    status = 503


def from_oserror(error: OSError, doing: str) -> GlassdockError:
    """The error of the tree for `error`, met while `doing` ("writing the layer's blob")."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"{doing}: no space left on the device", "Free some space: `glassdock system prune`.")
    if error.errno == errno.EROFS:
        return StorageFull(f"{doing}: the state folder is read-only", "Choose a writable one with --root.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Forbidden(f"{doing}: {error.strerror}", "Check who owns the state folder, or choose one with --root.")
    return GlassdockError(f"{doing}: {error}")


def to_body(error: GlassdockError) -> dict[str, Any]:
    """The API's error body: `message` is Docker's field, `remedy` and `kind` are ours."""
    body: dict[str, Any] = {"message": error.message, "kind": type(error).__name__}
    if error.remedy:
        body["remedy"] = error.remedy
    return body


def from_body(status: int, body: dict[str, Any]) -> GlassdockError:
    """The error that `to_body` described; an unknown kind falls back to the class of the status."""
    kinds = {kind.__name__: kind for kind in _tree(GlassdockError)}
    by_status = {kind.status: kind for kind in reversed(list(_tree(GlassdockError)))}
    kind = kinds.get(str(body.get("kind")), by_status.get(status, GlassdockError))
    return kind(str(body.get("message", f"HTTP {status}")), body.get("remedy"))


def _tree(root: type[GlassdockError]) -> list[type[GlassdockError]]:
    return [root] + [kind for child in root.__subclasses__() for kind in _tree(child)]
