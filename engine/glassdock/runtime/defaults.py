"""What Docker gives a container that says nothing, as parts of a runtime specification.

Interface: `mounts(...)`, `masked_paths()`, `readonly_paths()`, `DEVICES`, `device_rules()`, `namespaces(...)`,
`cgroup_parent(paths)`; the capabilities and the system calls have files of their own.

Source: https://github.com/moby/moby/tree/master/oci describes the same defaults; https://docs.docker.com/engine/security/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from glassdock.oci.runtime import DeviceRule, Mount, Namespace, Resources

if TYPE_CHECKING:  # it brings pathlib, which costs glassdock-runtime more than a clone
    from glassdock.paths import Paths
from glassdock.runtime import cgroups

SHM_SIZE = 64 << 20
DEVICES = (
    ("/dev/null", "c", 1, 3),
    ("/dev/zero", "c", 1, 5),
    ("/dev/full", "c", 1, 7),
    ("/dev/random", "c", 1, 8),
    ("/dev/urandom", "c", 1, 9),
    ("/dev/tty", "c", 5, 0),
)


def mounts(*, shm_size: int = SHM_SIZE, cgroup_writable: bool = False, sys_writable: bool = False) -> tuple[Mount, ...]:
    """proc, dev, devpts, sys, cgroup, mqueue and shm; the container's files and volumes come behind them."""
    quiet = ("nosuid", "noexec")
    sys_mode, cgroup_mode = "rw" if sys_writable else "ro", "rw" if cgroup_writable else "ro"
    return (
        Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
        Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "nodev", "strictatime", "mode=755", "size=65536k")),
        Mount("/dev/pts", "devpts", "devpts", (*quiet, "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
        Mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", sys_mode)),
        Mount("/sys/fs/cgroup", "cgroup", "cgroup", (cgroup_mode, "nosuid", "noexec", "nodev")),
        Mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
        Mount("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}")),
    )


def masked_paths() -> tuple[str, ...]:
    """Hidden: what tells about the machine, or steers it."""
    return (
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    )


def readonly_paths() -> tuple[str, ...]:
    """Readable, not writable."""
    return ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def device_rules() -> tuple[DeviceRule, ...]:
    """The device cgroup's list: everything closed, mknod of anything, and the devices of every container."""
    usual = [(kind, major, minor) for _, kind, major, minor in DEVICES]
    usual += [("c", 5, 1), ("c", 5, 2)]  # the console and ptmx
    return (
        DeviceRule(False, "a", access="rwm"),
        DeviceRule(True, "c", access="m"),
        DeviceRule(True, "b", access="m"),
        *(DeviceRule(True, kind, major, minor, "rwm") for kind, major, minor in usual),
        DeviceRule(True, "c", 136, None, "rwm"),  # the terminals of devpts
    )


def resources() -> Resources:
    """The limits that a group in reserve has already: the device list alone."""
    return Resources(devices=device_rules())


def namespaces(*, network: bool = True) -> tuple[Namespace, ...]:
    """The six of every container; without `network` it stays on the machine's."""
    kinds = ("mount", "uts", "ipc", "pid", "cgroup") + (("network",) if network else ())
    return tuple(Namespace(kind) for kind in kinds)


def cgroup_parent(paths: Paths) -> str:
    """The group above all containers of this engine."""
    return cgroups.parent_for(f"glassdock-{paths.tag}" if paths.tag else "glassdock")
