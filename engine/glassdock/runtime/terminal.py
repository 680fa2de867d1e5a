"""The terminal of a container: a pair made in the container's own devpts, one end kept by the shim.

Interface: `Terminal` and `ExecTerminal` (steps), `open_pair(root, ...)`, `resize(fd, height, width)`.

Rules: the child makes the pair inside, because the other end's name must exist there; the end is opened through the
first one (TIOCGPTPEER), never by a path in the image (2025-52565). The first end goes to the shim over the channel.

Sources: pty(7), ioctl_tty(2).
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import stat
import struct
import termios

from glassdock.errors import StartFailed
from glassdock.linux import mount as linux
from glassdock.linux.mount import OpenTree
from glassdock.linux.openat2 import open_in_root
from glassdock.runtime.rootfs import place
from glassdock.runtime.stage import Stage, Step, attempt

TERMINAL_MESSAGE = b"terminal"
_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430


class Terminal(Step, frozen=True, tag="terminal"):
    """Make the pair, show its inner end as /dev/console, send the outer end to the shim."""

    height: int = 0
    width: int = 0

    def describe(self) -> str:
        return "open a terminal in the container's devpts, as /dev/console"

    def apply(self, stage: Stage) -> None:
        with attempt("opening the terminal"):
            outer, inner = open_pair(stage.root, self.height, self.width)
            number = struct.unpack("I", fcntl.ioctl(outer, _TIOCGPTN, bytes(4)))[0]
            node = open_in_root(stage.root, f"/dev/pts/{number}", os.O_PATH)
            if os.fstat(node).st_rdev != os.fstat(inner).st_rdev:
                raise StartFailed("opening the terminal: /dev/pts shows another device")
            tree = linux.open_tree(node, "", OpenTree.CLONE | OpenTree.EMPTY_PATH)
            target = place(stage, "/dev/console", directory=False)
            linux.move_mount(tree, target)
            for descriptor in (node, tree, target):
                os.close(descriptor)
            hand_over(stage, outer, inner)


class ExecTerminal(Step, frozen=True, tag="exec_terminal"):
    """Make a pair for an exec in the devpts of the container; /dev/console stays what it is."""

    height: int = 0
    width: int = 0

    def describe(self) -> str:
        return "open another terminal in the container's devpts"

    def apply(self, stage: Stage) -> None:
        with attempt("opening the terminal"):
            hand_over(stage, *open_pair(stage.root, self.height, self.width))


def open_pair(root: int, height: int, width: int) -> tuple[int, int]:
    """(outer, inner) end of a new terminal in the devpts of `root`; no path in it is trusted."""
    outer = open_in_root(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    if not stat.S_ISCHR(os.fstat(outer).st_mode) or os.fstat(outer).st_rdev != os.makedev(5, 2):
        raise StartFailed("opening the terminal: /dev/pts/ptmx is not devpts' own")
    fcntl.ioctl(outer, _TIOCSPTLCK, struct.pack("i", 0))
    inner = fcntl.ioctl(outer, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if height and width:
        resize(outer, height, width)
    return outer, inner


def hand_over(stage: Stage, outer: int, inner: int) -> None:
    """The outer end to the shim, the inner one stays."""
    assert stage.channel is not None
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [outer]))]
    stage.channel.sendmsg([TERMINAL_MESSAGE], rights)
    os.close(outer)
    stage.terminal = inner


def resize(terminal: int, height: int, width: int) -> None:
    """Set the size in characters; the foreground process is told by SIGWINCH."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
