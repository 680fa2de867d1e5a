"""A container out of a bundle, without a daemon: created behind a gate, started, deleted.

Interface:
- `load(bundle)` → `Bundle`: its config.json and its root, checked.
- `create(place, bundle, wishes)` → `Record`: the first process has done the plan's steps and waits for `start`.
- `start(place)`, `kill(place, number, everything)`, `delete(place, force)`, `freeze(place, frozen)`; warnings returned.

Rules: the plan, its steps and the exec are the daemon's own; what differs is that nobody stays: no shim, no log, and
streams are inherited. A create that fails leaves neither process nor cgroup nor folder.

Source: https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#lifecycle
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from glassdock.errors import Conflict, InvalidParameter, NotFound, StartFailed
from glassdock.linux import clone, mount
from glassdock.oci import runtime as oci
from glassdock.runtime import (
    birth,
    bundle_init,
    bundle_root,
    bundle_state,
    cgroups,
    defaults,
    init,
    listener,
    messages,
    namespaces,
    plan,
    plan_process,
)
from glassdock.runtime.bundle_root import BindRoot, MoveRoot
from glassdock.runtime.bundle_state import Place, Record
from glassdock.runtime.cgroups import Cgroup
from glassdock.runtime.child import open_sources
from glassdock.runtime.messages import Report
from glassdock.runtime.plan import AnyStep, Plan
from glassdock.runtime.rootfs import MountRoot, Pivot
from glassdock.runtime.stage import Step, attempt
from glassdock.runtime.terminal import TERMINAL_MESSAGE
from glassdock.unionfs.mounts import Mount

_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder with a config.json, and the root that this names. `data` is the file as it was read."""

    path: str
    spec: oci.Spec
    rootfs: str
    data: bytes = b""


class Wishes(msgspec.Struct, frozen=True):
    """What a line says beside the bundle. `console` gets the terminal's outer end; `preserved` descriptors go along."""

    console: Callable[[int], None] | None = None
    preserved: int = 0
    pivot: bool = True
    keyring: bool = True


def load(path: str) -> Bundle:
    """Read and check a bundle. Raises InvalidParameter, NotFound."""
    from glassdock.runtime import hooks

    folder = os.path.realpath(path)
    if not os.path.isdir(folder):
        raise NotFound(f"chdir {path}: no such file or directory")
    try:
        with open(f"{folder}/config.json", "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise NotFound(f"JSON specification file config.json not found in {folder}") from None
    spec = oci.decode(data)
    if spec.oci_version.split(".")[0] != "1" or len(spec.oci_version.split(".")) < 3:
        raise InvalidParameter(f"ociVersion {spec.oci_version!r} is not supported: versions 1.0.0 to 1.2.0 are")
    if spec.root is None:
        raise InvalidParameter("Root must be specified")
    rootfs = os.path.realpath(os.path.join(folder, spec.root.path))
    if not os.path.isdir(rootfs):
        raise InvalidParameter(f"invalid rootfs: {rootfs} is not a directory")
    if spec.process and spec.process.terminal is False and spec.process.console_size:
        spec = msgspec.structs.replace(spec, process=msgspec.structs.replace(spec.process, console_size=None))
    hooks.check(spec.hooks)
    spec = msgspec.structs.replace(spec, mounts=bundle_root.absolute(spec.mounts, folder))
    return Bundle(folder, spec, rootfs, data)


def steps_of(bundle: Bundle, *, pivot: bool = True) -> tuple[Plan, tuple[Step, ...]]:
    """The plan, and its steps with the bundle's own root in the place of layers."""
    # Hooks are run by this file and bundle_init.py, which stand on both sides of the clone.
    spec = msgspec.structs.replace(bundle.spec, hooks=None)
    made = plan.make(spec, Mount((bundle.rootfs,)), bundle.rootfs, shift=False, layout=cgroups.layout())
    steps: list[Step] = []
    for step in made.steps:
        if isinstance(step, MountRoot):
            steps.append(BindRoot(bundle.rootfs, step.propagation))
        elif isinstance(step, Pivot) and not pivot:
            steps.append(MoveRoot(bundle.rootfs))
        else:
            steps.append(step)
    return made, tuple(steps)


def explain(bundle: Bundle) -> list[str]:
    """What `create` and `start` do, a line a step."""
    made, steps = steps_of(bundle)
    return msgspec.structs.replace(made, steps=cast("tuple[AnyStep, ...]", steps)).describe()


def create(place: Place, bundle: Bundle, wishes: Wishes) -> tuple[Record, list[str]]:
    """Make the container up to its gate: (record, warnings).

    Raises InvalidParameter, Conflict, NotSupported, StartFailed; nothing is left then.
    """
    spec, linux_part = bundle.spec, bundle.spec.linux or oci.Linux()
    cgroup_path = "/" + (linux_part.cgroups_path.strip("/") or place.id)
    linux_part = msgspec.structs.replace(linux_part, cgroups_path=cgroup_path)
    bundle = Bundle(bundle.path, msgspec.structs.replace(spec, linux=linux_part), bundle.rootfs, bundle.data)
    resources = _with_usual_devices(linux_part.resources or oci.Resources())
    cgroups.check(resources)
    made, steps = steps_of(bundle, pivot=wishes.pivot)
    place.claim()
    with contextlib.ExitStack() as undo:
        undo.callback(place.remove)
        place.keep(bundle.data)
        if not made.has_own_mounts():
            undo.callback(_unmount, bundle.rootfs)
        group = cgroups.open_cgroup(cgroup_path)
        if group.exists() and group.pids():
            raise Conflict(f"container's cgroup is not empty: {cgroup_path}")
        undo.callback(group.remove)
        group.create()
        warnings = group.apply(resources) + plan_process.warnings(spec)
        record = Record(
            oci_version=spec.oci_version,
            id=place.id,
            status="creating",
            pid=0,
            bundle=bundle.path,
            annotations=spec.annotations,
            rootfs=bundle.rootfs,
            created=_now(),
            cgroup=cgroup_path,
            hooks=spec.hooks,
            own_pids="pid" in made.namespaces,
        )
        birth = _Birth(place, bundle, made, steps, group, record, wishes)
        pid = birth.clone()
        undo.callback(_end, pid)
        record, told = birth.accompany()
        undo.pop_all()
    return record, warnings + told


def _now() -> str:
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def _with_usual_devices(resources: oci.Resources) -> oci.Resources:
    """The bundle's rules, then those of the devices that every container has: runc adds them, so bundles lack them."""
    if not resources.devices:
        return resources
    usual = tuple(rule for rule in defaults.device_rules() if rule.allow)
    return msgspec.structs.replace(resources, devices=(*resources.devices, *usual))


@dataclass(slots=True)
class _Birth:
    """A container between its clone and its gate."""

    place: Place
    bundle: Bundle
    plan: Plan
    steps: tuple[Step, ...]
    group: Cgroup
    record: Record
    wishes: Wishes
    channel: socket.socket | None = None

    def clone(self) -> int:
        """Fork the first process into its namespaces and cgroup; returns its number."""
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sources = open_sources(cast("tuple[AnyStep, ...]", self.steps), self.group)
        gate = self.place.listen()
        trees: dict[str, list[int]] = {}
        names = [name for step in self.steps for name in step.sources()]
        for name, descriptor in zip(names, sources, strict=True):
            trees.setdefault(name, []).append(descriptor)
        hooks = self.bundle.spec.hooks or oci.Hooks()
        # The maps of a new user namespace are written from out here, and the root of one may not move itself.
        away = bool(self.plan.outside) or "user" in self.plan.namespaces
        inside = self.group.descriptor() if not away else -1
        # A process that moves itself costs 1 ms for all hierarchies, being moved 8 (decision 0080).
        joins = inside < 0 and not away
        entry = bundle_init.Entry(
            self.place.id,
            self.plan,
            self.steps,
            terminal=bool(self.bundle.spec.process and self.bundle.spec.process.terminal),
            channel=theirs,
            gate=gate,
            trees=trees,
            preserved=self.wishes.preserved,
            keyring=self.wishes.keyring,
            group=self.group if joins else None,
            create_hooks=self._inside("createContainer", "creating", hooks.create_container),
            start_hooks=self._inside("startContainer", "created", hooks.start_container),
        )
        with attempt("clone"):
            if away:
                born = birth.bear(self.plan, -1, functools.partial(bundle_init.run, entry))
                pid, pidfd = born.pid, born.pidfd
            else:
                pid, pidfd = clone.clone3(namespaces.flags(self.plan.namespaces), cgroup=inside)
        if pid == 0:
            self.channel.close()
            bundle_init.run(entry)
        for descriptor in (*sources, pidfd, *([inside] if inside >= 0 else [])):
            os.close(descriptor)
        theirs.close()
        gate.close()
        if inside < 0 and not joins:
            try:
                with attempt("joining the cgroup"):
                    self.group.join(pid)
            except BaseException:
                _end(pid)
                raise
        self.record = msgspec.structs.replace(self.record, pid=pid, began=bundle_state.began(pid))
        return pid

    def accompany(self) -> tuple[Record, list[str]]:
        """Hand the terminal on, run the hooks outside, until the gate is reached: (record, warnings)."""
        assert self.channel is not None
        self.place.save(self.record)
        self.channel.send(init.JOINED)
        while True:
            data, received, _, _ = socket.recv_fds(self.channel, messages.LARGEST, 4, socket.MSG_CMSG_CLOEXEC)
            if data == TERMINAL_MESSAGE:
                assert self.wishes.console is not None
                self.wishes.console(received[0])
            elif data == bundle_init.HOOKS:
                self._run_hooks()
                self.channel.send(bundle_init.GO + str(self.record.pid).encode())
            elif data:
                report = messages.decode(data)
                assert isinstance(report, Report)
                if report.failure:
                    raise report.failure.error()
                self.record = msgspec.structs.replace(self.record, status="created", ready=True)
                self.place.save(self.record)
                self.channel.close()
                return self.record, report.warnings
            else:
                raise StartFailed("the container's first process died before it was created")

    def _run_hooks(self) -> None:
        found = self.bundle.spec.hooks
        if found and (found.prestart or found.create_runtime):
            from glassdock.runtime import hooks

            told = hook_state(self.record, "creating")
            os.chdir(self.bundle.path)
            hooks.run("prestart", found.prestart, told)
            hooks.run("createRuntime", found.create_runtime, told)

    def _inside(
        self, kind: str, status: str, found: tuple[oci.Hook, ...]
    ) -> Callable[[int, bundle_init.Environment], None] | None:
        if not found:
            return None
        from glassdock.runtime import hooks

        hooks.prepare()

        # The process learns the machine's number of itself from the maker: its own may be 1.
        def call(pid: int, environment: bundle_init.Environment) -> None:
            hooks.run(kind, found, hook_state(msgspec.structs.replace(self.record, pid=pid), status), environment)

        return call


def hook_state(record: Record, status: str) -> bytes:
    """The specification's state as hooks read it."""
    found: dict[str, Any] = {
        "ociVersion": record.oci_version,
        "id": record.id,
        "status": status,
        "pid": record.pid,
        "bundle": record.bundle,
        "annotations": record.annotations,
    }
    return msgspec.json.encode(found)


def start(place: Place) -> list[str]:
    """Open the gate; returns when the program runs, with warnings. Raises StartFailed, Conflict.

    A poststart hook that fails ends the container.
    """
    record = place.read()
    now = bundle_state.status(place, record)
    if now == "stopped":
        raise Conflict("cannot start a container that has stopped")
    if now != "created":
        raise Conflict("cannot start an already running container")
    with place.connect() as connection:
        reports: list[Report] = []
        while True:
            data, received, _, _ = socket.recv_fds(connection, messages.LARGEST, 1, socket.MSG_CMSG_CLOEXEC)
            if not data:
                break
            message = messages.decode(data)
            assert isinstance(message, Report)
            reports.append(message)
            if message.call:
                more = {"bundle": record.bundle, "annotations": record.annotations}
                listener.hand_over(message.call, received[0], record.pid, "creating", **more)
    place.open_gate()
    if not reports:
        raise StartFailed("the container's first process died before it could execute the program")
    if reports[-1].failure:
        raise reports[-1].failure.error()
    warnings = list(reports[-1].warnings)
    if record.hooks and record.hooks.poststart:
        from glassdock.runtime import hooks

        try:
            hooks.run("poststart", record.hooks.poststart, hook_state(record, "running"))
        except StartFailed:
            with contextlib.suppress(Conflict):  # it has just ended by itself
                kill(place, signal.SIGKILL)
            raise
    return warnings


def kill(place: Place, number: int, *, everything: bool = False) -> None:
    """Signal the first process, or all in the cgroup. Raises Conflict where it has ended.

    SIGKILL ends all: where the PID namespace is somebody else's, the end of the first process does not see to that.
    """
    record = place.read()
    group = cgroups.open_cgroup(record.cgroup)
    if number == signal.SIGKILL and not record.own_pids and group.pids():
        group.kill()
        return
    if everything:
        for pid in group.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return
    try:
        bundle_state.send(record, number)
    except ProcessLookupError:
        raise Conflict("container not running") from None


def delete(place: Place, *, force: bool = False) -> list[str]:
    """Remove what has stopped, or what waits at its gate; with `force` whatever it does. Returns warnings."""
    record = place.read()
    now = bundle_state.status(place, record)
    if now not in ("stopped", "created") and not force:
        raise Conflict(f"cannot delete container {place.id} that is not stopped: {now}")
    group = cgroups.open_cgroup(record.cgroup)
    if now != "stopped":
        with contextlib.suppress(ProcessLookupError):
            bundle_state.send(record, signal.SIGKILL)
        if now == "paused":
            group.freeze(frozen=False)
        _wait_for_end(record)
    group.remove()
    place.remove()
    if record.hooks and record.hooks.poststop:
        from glassdock.runtime import hooks

        return hooks.run_all("poststop", record.hooks.poststop, hook_state(record, "stopped"))
    return []


def freeze(place: Place, *, frozen: bool) -> None:
    """Stop every process where it is, or let them go on."""
    record = place.read()
    now = bundle_state.status(place, record)
    if frozen and now not in ("running", "created"):
        raise Conflict(f"container not running or created: {now}")
    if not frozen and now != "paused":
        raise Conflict("container not paused")
    cgroups.open_cgroup(record.cgroup).freeze(frozen)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _unmount(rootfs: str) -> None:
    """What a create that failed has mounted on the machine itself."""
    with contextlib.suppress(OSError):  # nothing yet
        mount.umount2(rootfs, mount.UmountFlag.DETACH)


def _wait_for_end(record: Record) -> None:
    deadline = time.monotonic() + _PATIENCE
    while bundle_state.alive(record):
        if time.monotonic() > deadline:
            raise StartFailed(f"the first process of {record.id} does not end")
        time.sleep(0.002)
