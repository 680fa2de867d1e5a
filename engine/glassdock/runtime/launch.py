"""The daemon's side of a launch: ask the launcher for a container, and hold what comes back.

Interface:
- `Launcher.start(paths)`, `.launch(request, netns=..., attach=...)`, `.close()`.
- `Process`: `.pid`, `.spans`, `wait()`, `signal()`, `attach()`, `resize()`, `detach()`.
- `reconnect(run_dir)`: after a daemon's restart, the `Process`, or the `ExitStatus` if it has ended.

Rules: nothing here forks but the start of the launcher itself. A launch that fails has left nothing behind when it
raises. A launcher that died is started again by the next launch. A shim that was killed is cleared up after.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from glassdock import trace
from glassdock.errors import Conflict, NotFound, NotSupported, Unavailable
from glassdock.linux.mount import AT_FDCWD, MountAttr, OpenTree, mount_setattr, open_tree
from glassdock.oci.runtime import Linux, Spec
from glassdock.paths import Paths
from glassdock.runtime import capabilities, cgroups, defaults, messages, plan, plan_process, seccomp, seccomp_profile
from glassdock.runtime.jsonlog import LogOptions
from glassdock.runtime.messages import (
    AnyMessage,
    Exited,
    ExitStatus,
    Failed,
    Failure,
    Order,
    OutOfMemory,
    Refused,
    Started,
    Task,
)
from glassdock.runtime.remains import POOL_PREFIX, bury, holder, settle, settled, short_path
from glassdock.trace import Span
from glassdock.unionfs.mounts import Mount

__all__ = ["Attach", "ExitStatus", "LaunchRequest", "Launcher", "Process", "reconnect"]

READY = 3
PATIENCE = 60.0  # seconds; a start takes milliseconds, unless the kernel waits for a file server that is gone
_GRACE = 5.0


class LaunchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a launch needs, as values; descriptors are passed beside it.

    `run_dir` is the container's own and holds nothing else: the root is mounted over it in the child's namespace.
    `user` is Docker's `name|uid[:group|gid]`, looked up in the container's own /etc/passwd and /etc/group; empty
    means the numbers in `spec.process.user`. `groups` are added ones, by name or number. HOME is set from the entry
    where the environment has none. `log_path` is the json-file, "" for none. A terminal is `spec.process.terminal`.
    `init`: a small process 1 of ours starts the program, reaps and passes signals on.
    """

    id: str
    run_dir: str
    spec: Spec
    root: Mount
    user: str = ""
    groups: tuple[str, ...] = ()
    log_path: str = ""
    log: LogOptions = LogOptions()
    stdin: bool = False
    stdin_once: bool = False
    syscalls: bool = False
    init: bool = False


@dataclass(frozen=True, slots=True)
class Attach:
    """A client that is there before the process starts: the shim's end of a stream socketpair, given away here."""

    fd: int
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


@dataclass(slots=True)
class Process:
    """A container's first process, seen from the daemon. Times are wall-clock nanoseconds.

    `on_oom` are called when the kernel kills one of the container's processes because memory is short.
    """

    run_dir: Path
    pid: int
    started_at_ns: int
    end: asyncio.Task[ExitStatus]
    spans: list[Span] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    on_oom: list[Callable[[], None]] = field(default_factory=list)

    async def wait(self) -> ExitStatus:
        """Until it has ended and its output is in the log; as often as one likes."""
        return await asyncio.shield(self.end)

    async def signal(self, number: int) -> None:
        """Send a signal to the first process; raises Conflict when it has ended."""
        await ask(self.run_dir, messages.Signal(number))

    async def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> socket.socket:
        """A non-blocking stream socket: out comes what the process writes from now on (framed unless a terminal).

        The shim closes it when the process has ended and all is written. Raises Conflict when it has ended.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                request = messages.Attach(stdin, stdout, stderr)
                await ask(self.run_dir, request, (theirs.fileno(),))
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        return ours

    async def resize(self, height: int, width: int) -> None:
        """Set the terminal's size in characters; raises Conflict where there is none."""
        await ask(self.run_dir, messages.Resize(height, width))

    def detach(self) -> None:
        """Stop watching; the container goes on."""
        self.end.cancel()


class Launcher:
    """The connection to the launcher process."""

    def __init__(self, paths: Paths, ready: int) -> None:
        self._parent = defaults.cgroup_parent(paths)
        self._root = paths.root
        self._ready = ready
        self._starting = asyncio.Lock()
        self._socket: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    async def start(cls, paths: Paths, *, ready: int = READY) -> Launcher:
        """Start the launcher process; also clears what a killed one left. `ready`: shims kept in reserve."""
        made = cls(paths, ready)
        await made._start()
        profile = seccomp_profile.default_profile(capabilities.DEFAULT)
        with contextlib.suppress(NotSupported):  # where libseccomp is missing, the launch that needs it says so
            await asyncio.to_thread(seccomp.compile, profile)
        return made

    @property
    def pid(self) -> int:
        """The launcher process' number."""
        return self._process.pid if self._process else 0

    async def close(self) -> None:
        """End the launcher process; containers and their shims live on."""
        if self._socket:
            self._socket.close()
            self._socket = None
        if self._process:
            await self._process.wait()
            self._process = None

    async def launch(self, request: LaunchRequest, *, netns: int | None, attach: Sequence[Attach] = ()) -> Process:
        """Start a container. `netns` stays the caller's; the descriptors in `attach` are closed here in any case.

        Raises InvalidParameter, StartFailed, CommandNotFound, CommandNotExecutable; nothing is left then.
        """
        run_dir = Path(request.run_dir)
        try:
            if not settled(run_dir):  # the shim of the life before is still clearing up
                await asyncio.to_thread(settle, run_dir)
            with trace.span("runtime.plan"):
                order, task, warnings = _prepare(request, netns, attach)
            with trace.span("runtime.order"):
                control = await self._send(order, task, netns, attach)
                answer = await self._outcome(control, run_dir)
        finally:
            for client in attach:
                os.close(client.fd)
        if isinstance(answer, Started):
            on_oom: list[Callable[[], None]] = []
            end = asyncio.create_task(_watch(control, run_dir, on_oom))
            warnings += answer.warnings
            return Process(run_dir, answer.pid, answer.started_at_ns, end, answer.spans, warnings, on_oom)
        control.close()
        trace.adopt(answer.spans)
        raise answer.failure.error()

    async def _send(self, order: Order, task: Task, netns: int | None, attach: Sequence[Attach]) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        memory = messages.pack_task(task)
        try:
            descriptors = [memory, theirs.fileno(), *([netns] if netns is not None else [])]
            descriptors += [client.fd for client in attach]
            await self._deliver(order, descriptors)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(memory)
        return ours

    async def _outcome(self, control: socket.socket, run_dir: Path) -> Started | Failed:
        """What became of the launch. Cancelled meanwhile: it is taken back; a start takes milliseconds."""
        receiving = asyncio.ensure_future(receive(control))
        try:
            await asyncio.wait({receiving}, timeout=PATIENCE)
        except asyncio.CancelledError:
            await asyncio.wait({receiving}, timeout=PATIENCE)
            if receiving.done() and isinstance(receiving.result(), Started):
                await ask(run_dir, messages.Signal(signal.SIGKILL))
                await _watch(control, run_dir)
                await asyncio.to_thread(settle, run_dir)
            elif not receiving.done():
                await self._give_up(receiving, run_dir)
            control.close()
            raise
        if not receiving.done():
            return await self._give_up(receiving, run_dir)
        answer = receiving.result()
        if isinstance(answer, Started | Failed):
            return answer
        await asyncio.to_thread(bury, run_dir, record=False)
        return Failed(Failure("StartFailed", "the container's shim died while starting it"))

    async def _give_up(self, receiving: asyncio.Future[AnyMessage | None], run_dir: Path) -> Failed:
        """End a shim that hangs: its child and, soon after, its cgroup go with it."""
        pid = holder(run_dir)
        os.kill(pid or self.pid, signal.SIGKILL)
        gone, _ = await asyncio.wait({receiving}, timeout=_GRACE)
        receiving.cancel()
        if gone:
            await asyncio.to_thread(bury, run_dir, record=False)
        await asyncio.to_thread(cgroups.clear, self._parent, POOL_PREFIX)
        what = (
            "it was ended" if gone else f"its process {pid or self.pid} cannot be killed, the kernel waits for a device"
        )
        reason = f"the container did not start within {PATIENCE:.0f} seconds; {what}"
        return Failed(Failure("StartFailed", f"{reason}. Is a bind mount's file server gone?"))

    async def _deliver(self, order: Order, descriptors: list[int]) -> None:
        """Give the order, to a new launcher if the old one is gone; raises Unavailable."""
        if not self._said(order, descriptors):
            await self._start()
            if not self._said(order, descriptors):
                raise Unavailable("the launcher does not answer")

    def _said(self, order: Order, descriptors: list[int]) -> bool:
        """Give the order; false where the launcher is gone."""
        try:
            if self._socket is not None:
                messages.send(self._socket, order, descriptors)
        except ConnectionError:
            return False
        return self._socket is not None

    async def _start(self) -> None:
        """Start the process, once, also where several launches find it dead at the same time."""
        seen = self._socket
        async with self._starting:
            if self._socket is not seen:
                return
            if self._process:
                assert self._socket is not None
                self._socket.close()
                await self._process.wait()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, _unwritable(sys.executable) as program:
                # The name it is called by finds the virtual environment; the file that is executed is the copy.
                arguments = (sys.executable, "-m", "glassdock.runtime.launcher", str(theirs.fileno()), self._parent)
                self._process = await asyncio.create_subprocess_exec(
                    *arguments,
                    str(self._ready),
                    str(self._root),
                    executable=program,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    stdin=asyncio.subprocess.DEVNULL,
                    cwd="/",
                )
            self._socket = ours


async def reconnect(run_dir: Path) -> Process | ExitStatus:
    """The process whose shim lives in `run_dir`, or how it ended; clears what a killed shim left.

    Raises NotFound where no container was ever started there.
    """
    if (run_dir / "exit.json").exists():
        if not settled(run_dir):
            await asyncio.to_thread(settle, run_dir)
        return msgspec.json.decode((run_dir / "exit.json").read_bytes(), type=ExitStatus)
    if not (run_dir / "shim.json").exists():
        raise NotFound(f"no container was started in {run_dir}")
    try:
        connection = connect(run_dir)
        messages.send(connection, messages.Watch())
        answer = await receive(connection)
    except OSError:
        return await asyncio.to_thread(bury, run_dir)
    if isinstance(answer, Started):
        on_oom: list[Callable[[], None]] = []
        end = asyncio.create_task(_watch(connection, run_dir, on_oom))
        return Process(run_dir, answer.pid, answer.started_at_ns, end, on_oom=on_oom)
    connection.close()
    return await asyncio.to_thread(bury, run_dir)


def _prepare(request: LaunchRequest, netns: int | None, attach: Sequence[Attach]) -> tuple[Order, Task, list[str]]:
    spec = request.spec
    linux = spec.linux or Linux()
    if linux.resources:
        cgroups.check(linux.resources)
    os.makedirs(request.run_dir, mode=0o711, exist_ok=True)
    for name in ("exit.json", "shim.json", "shim.sock"):  # of an earlier life
        Path(request.run_dir, name).unlink(missing_ok=True)
    made = plan.make(
        spec,
        request.root,
        request.run_dir,
        user=request.user,
        groups=request.groups,
        netns=netns is not None,
        layout=cgroups.layout(),
    )
    task = Task(
        id=request.id,
        run_dir=request.run_dir,
        plan=made,
        cgroup=linux.cgroups_path,
        resources=linux.resources,
        log_path=request.log_path,
        log=request.log,
        stdin=request.stdin,
        stdin_once=request.stdin_once,
        terminal=bool(spec.process and spec.process.terminal),
        attaches=tuple((client.stdin, client.stdout, client.stderr) for client in attach),
        netns=netns is not None,
        syscalls=request.syscalls,
        init=request.init,
    )
    # What is done outside is not done in reserve.
    usual = () if made.outside else made.namespaces
    order = Order(request.id, usual, os.path.dirname(linux.cgroups_path))
    return order, task, plan_process.warnings(spec)


async def receive(connection: socket.socket) -> AnyMessage | None:
    """One message; None where the other side is gone."""
    try:
        data = await asyncio.get_running_loop().sock_recv(connection, messages.LARGEST)
    except ConnectionError:
        return None
    return messages.decode(data) if data else None


async def _watch(connection: socket.socket, run_dir: Path, on_oom: Sequence[Callable[[], None]] = ()) -> ExitStatus:
    with connection:
        while isinstance(answer := await receive(connection), OutOfMemory):
            for call in on_oom:
                call()
    if isinstance(answer, Exited):
        return answer.status
    return await asyncio.to_thread(bury, run_dir)


async def ask(run_dir: Path, request: AnyMessage, descriptors: tuple[int, ...] = ()) -> None:
    """Say something to the shim and wait for its answer; raises Conflict where it refuses or is gone."""
    try:
        connection = connect(run_dir)
    except OSError:
        raise Conflict("the container is not running") from None
    with connection:
        messages.send(connection, request, descriptors)
        answer = await receive(connection)
    if isinstance(answer, Refused):
        raise Conflict(answer.message)
    if answer is None:
        raise Conflict("the container is not running")


def connect(run_dir: Path) -> socket.socket:
    """A non-blocking connection to the shim; raises OSError where there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with short_path(run_dir) as short:
            connection.connect(f"{short}/shim.sock")
    except BaseException:
        connection.close()
        raise
    connection.setblocking(False)
    return connection


@contextlib.contextmanager
def _unwritable(program: str) -> Iterator[str]:
    """A path of a read-only mount of the program, so that nobody can write to it through /proc/PID/exe (2019-5736)."""
    try:
        tree = open_tree(AT_FDCWD, os.path.realpath(program), OpenTree.CLONE)
        mount_setattr(tree, add=MountAttr.RDONLY)
    except OSError:
        yield program  # not root, or Linux before 5.12
        return
    try:
        yield f"/proc/{os.getpid()}/fd/{tree}"
    finally:
        os.close(tree)
