"""What a container may use: checked, adjusted to the machine, turned into the specification's resources, changed.

Interface:
- `fit(host, support, update=False)`: refuses a wrong limit in Docker's words; drops what this machine has no means
  for, with Docker's warning.
- `resources(host, devices)`: the specification's resources.
- `Update.parse(body)`, `changed(host, update)`: the configuration that `docker update` asks for.

Rules: pure functions, but for the numbers of block devices, which are looked up by their path. A field that is zero or
empty was not asked for.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#operation/ContainerUpdate, and the wording of
https://github.com/moby/moby/blob/master/daemon/daemon_unix.go
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Any

import msgspec

from glassdock.containers.config import HostConfig, RateDevice, RestartPolicy
from glassdock.errors import Conflict, InvalidParameter
from glassdock.oci import runtime as oci
from glassdock.runtime.cgroup_support import Support

_LEAST = 6 << 20
_CAPABILITIES = "Your kernel does not support {} capabilities or the cgroup is not mounted. {}"
_PLAIN = "Your kernel does not support {} or the cgroup is not mounted. {}"
_RATES = ("blkio_device_read_bps", "blkio_device_write_bps", "blkio_device_read_i_ops", "blkio_device_write_i_ops")
# Which fields need what, how a client is told that it is not there, and what the fields are then.
_MEANS: tuple[tuple[tuple[str, ...], str, str, dict[str, Any]], ...] = (
    (
        ("memory",),
        "memory",
        _CAPABILITIES.format("memory limit", "Limitation discarded."),
        {"memory": 0, "memory_swap": 0},
    ),
    (
        ("memory_swappiness",),
        "swappiness",
        _CAPABILITIES.format("memory swappiness", "Memory swappiness discarded."),
        {"memory_swappiness": None},
    ),
    (
        ("memory_reservation",),
        "reservation",
        _CAPABILITIES.format("memory soft limit", "Limitation discarded."),
        {"memory_reservation": 0},
    ),
    (
        ("oom_kill_disable",),
        "oom_kill_disable",
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
        {"oom_kill_disable": None},
    ),
    (
        ("pids_limit",),
        "pids",
        _CAPABILITIES.format("PIDs limit", "PIDs limit discarded."),
        {"pids_limit": None},
    ),
    (("cpu_shares",), "shares", _PLAIN.format("CPU shares", "Shares discarded."), {"cpu_shares": 0}),
    (
        ("cpu_period", "cpu_quota"),
        "quota",
        "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
        {"cpu_period": 0, "cpu_quota": 0},
    ),
    (("blkio_weight",), "weight", _PLAIN.format("Block I/O weight", "Weight discarded."), {"blkio_weight": 0}),
    (
        ("blkio_weight_device",),
        "weight",
        _PLAIN.format("Block I/O weight_device", "Weight-device discarded."),
        {"blkio_weight_device": None},
    ),
    *(
        ((name,), "throttle", _PLAIN.format(limit, f"{discarded} discarded."), {name: None})
        for name, limit, discarded in (
            (_RATES[0], "BPS Block I/O read limit", "Block I/O BPS read limit"),
            (_RATES[1], "BPS Block I/O write limit", "Block I/O BPS write limit"),
            (_RATES[2], "IOPS Block read limit", "Block I/O IOPS read limit"),
            (_RATES[3], "IOPS Block write limit", "Block I/O IOPS write limit"),
        )
    ),
)


class Update(HostConfig, frozen=True, rename="pascal"):
    """The body of `POST /containers/{id}/update`: limits and a restart policy; a policy without a name is none."""

    restart_policy: RestartPolicy = RestartPolicy(name="")

    @classmethod
    def parse(cls, body: bytes) -> Update:
        """Read it; raises InvalidParameter with the place of the fault."""
        try:
            return msgspec.json.decode(body, type=cls)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise InvalidParameter(f"invalid request body: {error}") from error


def fit(host: HostConfig, support: Support, *, update: bool = False) -> tuple[HostConfig, list[str]]:
    """The limits as this machine can have them, and what the client is to be told of the others.

    Raises InvalidParameter for limits that make no sense anywhere.
    """
    if host.memory_swappiness == -1:
        host = _with(host, memory_swappiness=None)
    _refuse([*_memory_faults(host, update=update), *_cpu_faults(host, support)])
    warnings: list[str] = []
    for names, there, warning, otherwise in _MEANS:
        if any(getattr(host, name) for name in names) and not getattr(support, there):
            warnings.append(warning)
            host = _with(host, **otherwise)
    if host.memory > 0 and host.memory_swap != -1 and not support.swap:
        warnings.append(_CAPABILITIES.format("swap limit", "Memory limited without swap."))
        host = _with(host, memory_swap=-1)
    if host.memory > 0 and host.memory_swap == 0 and not update:
        host = _with(host, memory_swap=2 * host.memory)
    if (host.cpuset_cpus or host.cpuset_mems) and not support.cpuset:
        warnings.append(_PLAIN.format("cpuset", "Cpuset discarded."))
        host = _with(host, cpuset_cpus="", cpuset_mems="")
    _available("CPUs", "cpus", host.cpuset_cpus, support.processors)
    _available("memory nodes", "mems", host.cpuset_mems, support.nodes)
    if host.kernel_memory:
        warnings.append("Kernel memory limits are not in this kernel any longer. Limitation discarded.")
        host = _with(host, kernel_memory=0)
    if host.oom_kill_disable and not host.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )
    return host, warnings


def _refuse(faults: list[tuple[bool, str]]) -> None:
    """Raise InvalidParameter for the first that is one."""
    for found, words in faults:
        if found:
            raise InvalidParameter(words)


def _memory_faults(host: HostConfig, *, update: bool) -> list[tuple[bool, str]]:
    limit, swap, reservation, swappiness = (
        host.memory,
        host.memory_swap,
        host.memory_reservation,
        host.memory_swappiness or 0,
    )
    return [
        (0 < limit < _LEAST, "Minimum memory limit allowed is 6MB"),
        (0 < swap < limit, "Minimum memoryswap limit should be larger than memory limit, see usage"),
        (
            limit == 0 and swap > 0 and not update,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            not 0 <= swappiness <= 100,
            f"Invalid value: {swappiness}, valid memory swappiness range is 0-100",
        ),
        (0 < reservation < _LEAST, "Minimum memory reservation allowed is 6MB"),
        (
            0 < limit < reservation,
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            host.blkio_weight != 0 and not 10 <= host.blkio_weight <= 1000,
            "Range of blkio weight is from 10 to 1000",
        ),
    ]


def _cpu_faults(host: HostConfig, support: Support) -> list[tuple[bool, str]]:
    nano, period, quota = host.nano_cpus, host.cpu_period, host.cpu_quota
    runtime, every = host.cpu_realtime_runtime, host.cpu_realtime_period
    most = os.cpu_count() or 1
    return [
        (nano > 0 and period > 0, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        (nano > 0 and quota > 0, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (
            nano > 0 and not support.quota,
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        ),
        (
            not 0 <= nano <= most * 1_000_000_000,
            f"range of CPUs is from 0.01 to {most}.00, as there are only {most} CPUs available",
        ),
        (host.cpu_shares < 0, f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer"),
        (
            period != 0 and not 1000 <= period <= 1_000_000,
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (0 < quota < 1000, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (
            bool(runtime or every) and not support.realtime,
            "Your kernel does not support CPU real-time scheduler",
        ),
        (0 < every < runtime, "cpu real-time runtime cannot be higher than cpu real-time period"),
    ]


def _available(things: str, word: str, asked: str, there: str) -> None:
    if not asked:
        return
    try:
        wanted, available = numbers(asked), numbers(there)
    except ValueError as error:
        raise InvalidParameter(f"Invalid value {asked} for cpuset {word}") from error
    if not wanted <= available:
        raise InvalidParameter(f"Requested {things} are not available - requested {asked}, available: {there}")


def numbers(text: str) -> set[int]:
    """The numbers of a list like 0-3,5; raises ValueError."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        low, high = int(first), int(last if dash else first)
        if not 0 <= low <= high < 1 << 16:
            raise ValueError(f"{part} is not a range")
        found |= set(range(low, high + 1))
    return found


def resources(host: HostConfig, devices: tuple[oci.DeviceRule, ...] = ()) -> oci.Resources:
    """The specification's resources. Raises InvalidParameter for a block device that is none."""
    quota, period = host.cpu_quota, host.cpu_period
    if host.nano_cpus:
        period = 100_000
        quota = host.nano_cpus * period // 1_000_000_000
    swap = host.memory_swap or (2 * host.memory if host.memory > 0 else 0)
    return oci.Resources(
        devices=devices,
        memory=oci.Memory(
            limit=host.memory or None,
            reservation=host.memory_reservation or None,
            swap=swap or None,
            swappiness=None if host.memory_swappiness in (None, -1) else host.memory_swappiness,
            disable_oom_killer=bool(host.oom_kill_disable),
        ),
        cpu=oci.CPU(
            shares=host.cpu_shares or None,
            quota=quota or None,
            period=period or None,
            realtime_period=host.cpu_realtime_period or None,
            realtime_runtime=host.cpu_realtime_runtime or None,
            cpus=host.cpuset_cpus,
            mems=host.cpuset_mems,
        ),
        pids=None if host.pids_limit is None else oci.Pids(limit=host.pids_limit if host.pids_limit > 0 else -1),
        block_io=_block_io(host),
    )


def _block_io(host: HostConfig) -> oci.BlockIO | None:
    weights = tuple(
        oci.WeightDevice(*_device(device.path), weight=device.weight) for device in host.blkio_weight_device or ()
    )
    rates = [_rates(getattr(host, name)) for name in _RATES]
    if not host.blkio_weight and not weights and not any(rates):
        return None
    return oci.BlockIO(host.blkio_weight or None, None, weights, *rates)


def _rates(devices: Iterable[RateDevice] | None) -> tuple[oci.ThrottleDevice, ...]:
    return tuple(oci.ThrottleDevice(*_device(device.path), rate=device.rate) for device in devices or ())


def _device(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InvalidParameter(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if not stat.S_ISBLK(found.st_mode):
        raise InvalidParameter(f"{path} is not a block device")
    return os.major(found.st_rdev), os.minor(found.st_rdev)


# What `docker update` can change; each is taken over where it is not zero or empty.
_CHANGEABLE = (
    "blkio_weight", "cpu_shares", "nano_cpus", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems", "memory",
    "memory_swap", "memory_reservation", "cpu_realtime_period", "cpu_realtime_runtime",
)  # fmt: skip
_AGAINST = (
    ("nano_cpus", "cpu_period", "Nano CPUs cannot be updated as CPU Period has already been set"),
    ("nano_cpus", "cpu_quota", "Nano CPUs cannot be updated as CPU Quota has already been set"),
    ("cpu_period", "nano_cpus", "CPU Period cannot be updated as NanoCPUs has already been set"),
    ("cpu_quota", "nano_cpus", "CPU Quota cannot be updated as NanoCPUs has already been set"),
)


def changed(host: HostConfig, update: HostConfig) -> HostConfig:
    """`host` with what the update asks for; raises Conflict where the one contradicts the other."""
    for new, old, words in _AGAINST:
        if getattr(update, new) > 0 and getattr(host, old) > 0:
            raise Conflict(f"Conflicting options: {words}")
    if update.memory and 0 < host.memory_swap < update.memory and not update.memory_swap:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    values: dict[str, Any] = {name: getattr(update, name) for name in _CHANGEABLE if getattr(update, name)}
    if update.pids_limit is not None:
        values["pids_limit"] = update.pids_limit
    if update.restart_policy.name:
        if host.auto_remove and update.restart_policy.name != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        values["restart_policy"] = update.restart_policy
    return _with(host, **values)


def _with(host: HostConfig, **values: Any) -> HostConfig:
    return msgspec.structs.replace(host, **values)
