"""Light `socket` and `signal`: the C modules below them, without the enumerations that name their numbers.

Interface: `modules()`: the stand-ins by name.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket

from glassdock.cli.light import module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_INT = 4


def modules() -> dict[str, ModuleType]:
    """The stand-ins by name."""
    ours = {"socket": socket, "socketpair": socketpair, "recv_fds": recv_fds, "send_fds": send_fds}
    return {"socket": module("socket", {**vars(_socket), **ours}), "signal": module("signal", dict(vars(_signal)))}


class socket(_socket.socket):
    """A socket that is a context and gives its own kind for a connection."""

    def __enter__(self) -> socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def accept(self) -> tuple[socket, Any]:
        """The next connection."""
        descriptor, address = self._accept()  # type: ignore[attr-defined]
        return socket(self.family, self.type, self.proto, descriptor), address


def socketpair(family: int = _socket.AF_UNIX, kind: int = _socket.SOCK_STREAM, proto: int = 0) -> tuple[socket, socket]:
    """Two that are connected."""
    one, other = _socket.socketpair(family, kind, proto)
    return socket(family, kind, proto, one.detach()), socket(family, kind, proto, other.detach())


def recv_fds(sock: socket, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int], int, Any]:
    """Bytes and descriptors."""
    data, extra, seen, address = sock.recvmsg(size, _socket.CMSG_LEN(most * _INT), flags)
    found: list[int] = []
    for level, kind, rights in extra:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            found += memoryview(rights[: len(rights) - len(rights) % _INT]).cast("i").tolist()
    return data, found, seen, address


def send_fds(sock: socket, buffers: Any, descriptors: Any) -> int:
    """Bytes and descriptors."""
    rights = b"".join(number.to_bytes(_INT, "little") for number in descriptors)
    return sock.sendmsg(buffers, [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
