"""The launcher: a small process without threads that forks shims, so that a start costs milliseconds.

Interface: `python -m glassdock.runtime.launcher FD CGROUP_PARENT POOL ROOT`; FD is a SOCK_SEQPACKET socket to the
daemon, ROOT its state folder, which is there for those who read `ps`.

Rules: it holds no state that matters: killed, it is started again, and containers and shims live on. It ends when the
daemon's end of the socket closes. Its pages are shared by all shims, so it imports little and freezes the collector.
It keeps POOL shims ready, each with a child already in new namespaces and a cgroup (see decisions/0010).

Source: https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import NoReturn

from glassdock import trace
from glassdock.errors import GlassdockError, StartFailed
from glassdock.linux.process import rt_sigaction
from glassdock.runtime import capabilities, cgroups, defaults, messages, plan, shim
from glassdock.runtime.child import Child, failure_of, hide
from glassdock.runtime.devices import device_path
from glassdock.runtime.messages import Failed, Order
from glassdock.runtime.namespaces import USUAL
from glassdock.runtime.remains import POOL_PREFIX
from glassdock.runtime.stage import keep_only

_AFTER_AN_ORDER = 0.02
_BETWEEN = 0.005


@dataclass(slots=True)
class Launcher:
    """The daemon's socket, the shims that wait for an order, and the hold on the group above all containers."""

    daemon: socket.socket
    cgroup_parent: str
    wanted: int
    held: int = -1
    due: float = 0.0
    ready: list[tuple[int, socket.socket]] = field(default_factory=list)

    def serve(self) -> None:
        """Carry out orders until the daemon is gone."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        waiting = select.poll()
        waiting.register(self.daemon, select.POLLIN)
        waiting.register(reader, select.POLLIN)
        while True:
            missing = len(self.ready) < self.wanted
            patience = max(0.0, self.due - time.monotonic()) if missing else None
            if waiting.poll(None if patience is None else patience * 1000):
                self._reap(reader)
                if not self._hear():
                    break
            if missing and time.monotonic() >= self.due:
                self._make_ready()
                self.due = time.monotonic() + _BETWEEN
        self._end()

    def _hear(self) -> bool:
        """One order, if there is one; False when the daemon is gone."""
        try:
            self.daemon.setblocking(False)
            message, descriptors = messages.receive(self.daemon)
        except BlockingIOError:
            return True
        if message is None:
            return False
        assert isinstance(message, Order)
        try:
            self._carry_out(message, descriptors)
        except OSError as error:
            control = socket.socket(fileno=os.dup(descriptors[1]))
            messages.send(control, Failed(failure_of(StartFailed(f"cannot fork a shim: {error}"))))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _carry_out(self, order: Order, descriptors: list[int]) -> None:
        if order.namespaces == USUAL and order.cgroup_parent == self.cgroup_parent:
            # The next one is made when this one has started: both at once would slow both. But when orders come one
            # upon the other, the reserve is filled between them: without it each would take longer still.
            if len(self.ready) > 1:
                self.due = max(self.due, time.monotonic() + _AFTER_AN_ORDER)
            while self.ready:
                _, waiting = self.ready.pop(0)
                try:
                    with waiting:
                        messages.send(waiting, order, descriptors)
                    return
                except OSError:
                    continue  # it died meanwhile
        if os.fork() == 0:
            _separate(descriptors)
            shim.run(order, descriptors)

    def _make_ready(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            _separate([theirs.fileno()])
            _wait_for_order(theirs, f"{self.cgroup_parent}/{POOL_PREFIX}{os.getpid()}")
        theirs.close()
        self.ready.append((pid, ours))

    def _end(self) -> None:
        """Send home those who waited for an order, and take away the group above all if nobody is in it."""
        for _, waiting in self.ready:
            waiting.close()
        for pid, _ in self.ready:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if self.held >= 0:
            os.close(self.held)
            cgroups.leave(self.cgroup_parent)

    def _reap(self, reader: int) -> None:
        try:
            os.read(reader, 4096)
        except BlockingIOError:
            return
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return
            if ended is None:
                return
            if self.wanted and ended.si_code != os.CLD_EXITED:
                self._bury(ended.si_pid)

    def _bury(self, pid: int) -> None:
        """After a shim that was killed while its child, dead by now, was in a group that only the two of them knew."""
        group = cgroups.open_cgroup(f"{self.cgroup_parent}/{POOL_PREFIX}{pid}")
        if group.exists():
            with contextlib.suppress(OSError):  # a member that does not die: the next launcher clears it
                group.remove()


def _separate(kept: list[int]) -> None:
    """A fork of the launcher becomes a shim: a session of its own, and nothing of the launcher's but `kept`."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    keep_only(kept)


def _wait_for_order(orders: socket.socket, cgroup_path: str) -> NoReturn:
    """Make a child ahead, wait, carry out; if the launcher goes first, clear away and go too.

    Where the machine has no room for a child now, the order, which may be on its way already, is carried out without.
    """
    group = cgroups.open_cgroup(cgroup_path)
    child: Child | None = None
    try:
        try:
            child = _prepared(group)
        except (GlassdockError, OSError):
            group.remove()
        order, descriptors = messages.receive(orders)
        if isinstance(order, Order):
            orders.close()
            shim.run(order, descriptors, child)
    finally:
        if child is not None:
            child.kill()
        group.remove()
        os._exit(0)


def _prepared(group: cgroups.Cgroup) -> Child:
    """A child in its group, with all mounted that can be mounted ahead."""
    with trace.recording("shim") as recording, contextlib.ExitStack() as undo:
        with trace.span("runtime.prepare"):
            group.create()
            group.apply(defaults.resources())
            child = Child.make(USUAL, group)
            undo.callback(child.kill)
            child.stock()
        child.spans = recording.spans
        for span in child.spans:
            span.attributes["prepared"] = True
        undo.pop_all()
    return child


def _can_make_ready(parent: str) -> bool:
    """What is made ahead needs a group that can be given its container's name later (see decisions/0120)."""
    if cgroups.unavailable():
        return False
    return isinstance(cgroups.open_cgroup(f"{parent}/{POOL_PREFIX}"), cgroups.Renamable)


def main() -> None:
    """The process' whole life; arguments as in the module's docstring."""
    descriptor, parent, pool = sys.argv[1:4]
    hide("glassdock-run")
    daemon = socket.socket(fileno=int(descriptor))
    daemon.set_inheritable(False)
    # Programs that posix_spawn starts (make's, for one) get these ignored, and so would every container.
    for number in (32, 33):
        rt_sigaction(number)
    cgroups.clear(parent, POOL_PREFIX)
    held = -1 if cgroups.unavailable() else cgroups.hold(parent)
    wanted = int(pool) if _can_make_ready(parent) else 0
    # Everything that is looked up once is looked up before the first fork.
    capabilities.available()
    plan.ahead(cgroups.layout())
    for _, _, major, minor in defaults.DEVICES:
        device_path("char", major, minor)
    gc.collect()
    gc.disable()
    gc.freeze()
    Launcher(daemon, parent, wanted, held).serve()


if __name__ == "__main__":
    main()
