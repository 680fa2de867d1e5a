"""The shim: one process a container, which starts it, holds its streams, reaps it and records how it ended.

Interface:
- `run(order, descriptors, child)`: never returns; `child` is one that was made ahead, or None.
- files in the run folder: `shim.json` (who the shim is, and the cgroup), `shim.sock` (messages.py), `exit.json`.

Rules: the daemon may come and go. Output goes to the log first, then to clients. When the process has ended: what is
left of the container is killed, exit.json written at once (rename), and only then is anybody told. What nobody waits
for comes after that: its file systems are unmounted, its cgroup is removed; shim.json goes last, and remains.py clears
up after a shim that did not come so far. A launch that fails leaves nothing. Execs are `exec_shim.py`'s.

Source: https://github.com/containerd/containerd/blob/main/core/runtime/v2/README.md describes the same role.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from glassdock import trace
from glassdock.errors import GlassdockError
from glassdock.oci.runtime import Resources
from glassdock.paths import atomic_write
from glassdock.runtime import cgroups, defaults, messages, orphans, terminal
from glassdock.runtime.cgroups import Cgroup
from glassdock.runtime.child import Child, failure_of, hide
from glassdock.runtime.exec_shim import Execs, Wants, refusal
from glassdock.runtime.jsonlog import JsonLog
from glassdock.runtime.messages import (
    AnyMessage,
    Attach,
    Done,
    Exec,
    Exited,
    ExitStatus,
    Failed,
    Order,
    OutOfMemory,
    Refused,
    Resize,
    Signal,
    Started,
    Task,
    Watch,
)
from glassdock.runtime.remains import ShimRecord, hold, short_path
from glassdock.runtime.streams import Streams

_LINGER = 10.0
_STUCK_OUTPUT = 1.0


def run(order: Order, descriptors: list[int], child: Child | None = None) -> NoReturn:
    """Start the container and stay with it. Descriptors as in `Order`."""
    code = 1
    try:
        Shim(order, descriptors, child).live()
        code = 0
    except BaseException:  # noqa: BLE001 - the last place: into the daemon's log
        traceback.print_exc()
    finally:
        os._exit(code)


class Shim:
    """The container's keeper."""

    def __init__(self, order: Order, descriptors: list[int], child: Child | None) -> None:
        memory, control, *rest = descriptors
        self._memory = memory
        self._task: Task = messages.unpack_task(memory)
        self._netns = rest.pop(0) if self._task.netns else -1
        self._early_clients = rest
        self._control = socket.socket(fileno=control)
        self._watchers: list[socket.socket] = [self._control]
        self._child = child
        self._selector = selectors.DefaultSelector()
        self._run_dir = Path(self._task.run_dir)
        self._listener: socket.socket | None = None
        self._started: Started | None = None
        self._exit_code: int | None = None
        self._oom_kills = 0
        self._log = JsonLog("")
        self._streams = self._new_streams()
        self._execs = Execs(self._selector, self._tell)

    def live(self) -> None:
        """Launch, serve until the end, tell everybody, go."""
        hide("glassdock-shim")
        with trace.recording("shim", syscalls=self._task.syscalls) as recording:
            if self._child:
                recording.spans += self._child.spans
            try:
                with trace.span("runtime.shim", id=self._task.id[:12]):
                    hold(self._run_dir)
                    started = self._launch(recording)
            except (GlassdockError, OSError) as error:
                self._clear_after_failure()
                messages.send(self._control, Failed(failure_of(error), recording.spans))
                return
        # The spans are told once, to the one who asked for the launch; later watchers get the bare fact.
        self._started = Started(started.pid, started.started_at_ns)
        try:
            messages.send(self._control, started)
        except OSError:
            self._take_back()  # the daemon was killed: nobody knows that it runs (decision 0200)
            return
        self._serve()

    def _launch(self, recording: trace.Recording) -> Started:
        task = self._task
        self._watch_children()
        warnings = self._make_child(task) if self._child is None else None
        child = self._child
        assert child is not None
        streams = self._streams.open()
        with trace.span("runtime.child") as above:
            try:
                child.begin(task, self._memory, self._netns, streams)
            finally:
                for descriptor in (*streams, self._memory, *([self._netns] if self._netns >= 0 else [])):
                    os.close(descriptor)
            # What follows is done while the child mounts, on a processor of its own.
            with trace.span("runtime.open_log"):
                self._log = self._streams.log = JsonLog(task.log_path, task.log)
                self._listen()
            if warnings is None:
                warnings = self._name_child(task, child)
            report, executed = child.execute()
        for seen in report.spans:
            if seen.name == "runtime.exec" and not report.failure:
                seen.duration = executed - seen.start
        trace.adopt(report.spans, above)
        if report.failure:
            raise report.failure.error()
        if child.terminal >= 0:
            self._streams.adopt_terminal(child.terminal)
        # Nothing has been read from the streams yet: who is attached now misses nothing.
        for (stdin, stdout, stderr), descriptor in zip(task.attaches, self._early_clients, strict=True):
            self._streams.attach(socket.socket(fileno=descriptor), stdin=stdin, stdout=stdout, stderr=stderr)
        return Started(child.pid, time.time_ns(), recording.spans, warnings + report.warnings)

    def _make_child(self, task: Task) -> list[str]:
        """The child in its cgroup, with the limits set; returns warnings."""
        group = self._open_group(task)
        with trace.span("runtime.cgroup", path=task.cgroup):
            if group:
                group.create()
            warnings = group.apply(task.resources or Resources()) if group else []
        self._child = Child.make(task.plan.namespaces, group, task.plan, self._netns)
        return warnings

    def _name_child(self, task: Task, child: Child) -> list[str]:
        """Give the cgroup of a child that was made ahead its name and its limits; returns warnings."""
        with trace.span("runtime.cgroup", path=task.cgroup):
            self._open_group(task)
            assert isinstance(child.cgroup, cgroups.Renamable)
            child.cgroup.rename(task.cgroup)
            limits = task.resources or Resources()
            if limits.devices == defaults.resources().devices:
                limits = msgspec.structs.replace(limits, devices=())
            return child.cgroup.apply(limits)

    def _open_group(self, task: Task) -> Cgroup | None:
        """The container's group, its name on disk before it is used, and free."""
        self._record(task.cgroup)
        group = cgroups.open_cgroup(task.cgroup) if task.cgroup else None
        if group and group.exists():
            group.remove()  # of an earlier life that was cut off
        return group

    def _take_back(self) -> None:
        """End what runs already, as if it had never started."""
        assert self._child is not None
        if "pid" not in self._child.kinds and self._child.cgroup is None:
            orphans.end(self._reap)
        self._clear_after_failure()

    def _clear_after_failure(self) -> None:
        if self._child:
            group = self._child.cgroup
            self._child.kill()
        else:
            group = cgroups.open_cgroup(self._task.cgroup) if self._task.cgroup else None
        if group:
            group.remove()
        self._streams.close()
        self._log.close()
        for name in ("shim.sock", "shim.json"):
            (self._run_dir / name).unlink(missing_ok=True)

    def _new_streams(self) -> Streams:
        task = self._task
        return Streams(self._selector, self._log, terminal=task.terminal, stdin=task.stdin, once=task.stdin_once)

    def _record(self, cgroup: str) -> None:
        record = ShimRecord(os.getpid(), cgroup, time.time_ns())
        atomic_write(self._run_dir / "shim.json", msgspec.json.encode(record), sync=False)

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = self._run_dir / "shim.sock"
        path.unlink(missing_ok=True)
        with short_path(self._run_dir) as short:
            listener.bind(f"{short}/shim.sock")
        listener.listen(64)
        listener.setblocking(False)
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def _watch_children(self) -> None:
        """SIGCHLD wakes the selector."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(reader, selectors.EVENT_READ, lambda _events: os.read(reader, 4096) and None)

    def _serve(self) -> None:
        self._selector.register(self._control, selectors.EVENT_READ, self._reader(self._control))
        self._watch_memory()
        self._reap()
        while self._exit_code is None:
            self._turn(self._execs.patience())
            self._reap()
            self._execs.turn()
        self._finish(self._exit_code)

    def _watch_memory(self) -> None:
        """Where memory is limited, a kill for it is told when it happens; otherwise it is noticed at the end."""
        assert self._child is not None
        limits, group = self._task.resources, self._child.cgroup
        if group is None or limits is None or limits.memory is None or not limits.memory.limit:
            return
        with contextlib.suppress(OSError):  # this kernel does not tell; or the group is gone already
            watch = group.oom_watch()
            self._selector.register(watch, selectors.EVENT_READ, lambda _events: self._short_of_memory(watch, group))

    def _short_of_memory(self, watch: int, group: Cgroup) -> None:
        os.read(watch, 4096)
        kills = group.oom_kills_after(self._oom_kills)
        if kills > self._oom_kills:
            self._oom_kills = kills
            for watcher in list(self._watchers):
                self._tell(watcher, OutOfMemory())

    def _turn(self, timeout: float | None) -> None:
        for key, events in self._selector.select(timeout):
            handler: Callable[[int], Any] = key.data
            handler(events)

    def _reap(self) -> None:
        """Collect all that have ended: the container's first process, and orphans that came to us."""
        assert self._child is not None
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return
            if ended is None:
                return
            code = ended.si_status + (128 if ended.si_code != os.CLD_EXITED else 0)
            if ended.si_pid == self._child.pid:
                self._exit_code = code
            else:
                self._execs.ended(ended.si_pid, code)

    def _finish(self, code: int) -> None:
        assert self._child is not None
        assert self._started is not None
        finished, error, killed = time.time_ns(), "", False
        group = self._child.cgroup
        try:
            killed = group is not None and group.oom_kills() > 0
            if "pid" not in self._child.kinds:  # else the kernel has killed all of it already
                if group:
                    group.kill()
                else:
                    orphans.end(self._reap)
        except OSError as failure:
            error = f"clearing the cgroup: {failure}"
        self._reap()
        self._execs.end_all()
        deadline = time.monotonic() + _STUCK_OUTPUT
        while not self._streams.finished and time.monotonic() < deadline:
            self._turn(deadline - time.monotonic())
        self._streams.drain()
        self._log.close()
        if self._log.lost:
            error = f"{error} {self._log.lost} log entries could not be written".strip()
        status = ExitStatus(code, killed, finished, self._started.started_at_ns, error)
        atomic_write(self._run_dir / "exit.json", msgspec.json.encode(status), sync=False)
        for watcher in list(self._watchers):
            self._tell(watcher, Exited(status))
        (self._run_dir / "shim.sock").unlink(missing_ok=True)
        deadline = time.monotonic() + _LINGER
        while not self._streams.drained and time.monotonic() < deadline:
            self._turn(deadline - time.monotonic())
        self._streams.close()
        self._child.close()
        if group:
            group.remove()
        (self._run_dir / "shim.json").unlink(missing_ok=True)

    def _accept(self, _events: int) -> None:
        assert self._listener is not None
        connection, _ = self._listener.accept()
        connection.set_inheritable(False)
        self._selector.register(connection, selectors.EVENT_READ, self._reader(connection))

    def _reader(self, connection: socket.socket) -> Callable[[int], None]:
        return lambda _events: self._hear(connection)

    def _hear(self, connection: socket.socket) -> None:
        try:
            message, descriptors = messages.receive(connection)
        except (OSError, msgspec.DecodeError, msgspec.ValidationError):
            message, descriptors = None, []
        if message is None:
            self._forget(connection)
            return
        try:
            answer = self._answer(connection, message, descriptors)
        except (GlassdockError, OSError, ValueError) as error:
            answer = Refused(str(error))
            for descriptor in descriptors:
                os.close(descriptor)
        if answer is not None:
            self._tell(connection, answer)

    def _answer(self, connection: socket.socket, message: AnyMessage, descriptors: list[int]) -> AnyMessage | None:
        assert self._child is not None
        assert self._started is not None
        match message:
            case Watch():
                self._watchers.append(connection)
                return self._started
            case Attach(stdin=stdin, stdout=stdout, stderr=stderr):
                (descriptor,) = descriptors
                client = socket.socket(fileno=os.dup(descriptor))
                os.close(descriptor)
                self._streams.attach(client, stdin=stdin, stdout=stdout, stderr=stderr)
            case Signal(number=number):
                self._child.signal(number)
            case Exec():
                return self._exec(connection, message, descriptors)
            case Resize(height=height, width=width, exec=identity) if identity:
                self._execs.resize(identity, height, width)
            case Resize(height=height, width=width):
                target = self._streams.resize_target()
                if target < 0:
                    return Refused("the container has no terminal")
                terminal.resize(target, height, width)
            case _:
                return Refused(f"a shim does not understand {type(message).__name__}")
        return Done()

    def _exec(self, connection: socket.socket, message: Exec, descriptors: list[int]) -> Failed | None:
        """Begin an exec; it is answered when the program runs."""
        assert self._child is not None
        memory, *rest = descriptors
        task = messages.unpack_exec_task(memory)
        os.close(memory)
        client = socket.socket(fileno=rest[0]) if rest else None
        try:
            wants = Wants(message.stdout, message.stderr, message.framed, message.leash)
            self._execs.begin(task, self._task.plan, self._child, connection, client, wants)
        except (GlassdockError, OSError) as error:
            if client:
                client.close()
            return refusal(error)
        return None

    def _tell(self, connection: socket.socket, message: AnyMessage) -> None:
        try:
            messages.send(connection, message)
        except OSError:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        if connection in self._watchers:
            self._watchers.remove(connection)
        self._execs.abandoned(connection)
        if connection.fileno() >= 0:
            with contextlib.suppress(KeyError):
                self._selector.unregister(connection)
            connection.close()
