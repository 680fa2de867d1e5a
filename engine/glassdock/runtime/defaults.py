"""What Docker gives a container that says nothing, as parts of a runtime specification.

Interface: `mounts(...)`, `masked_paths()`, `readonly_paths()`, `device_rules()`, `namespaces(...)`, `capabilities`
(its own file), `cgroup_parent(paths)`.

Source: https://github.com/moby/moby/tree/master/oci describes the same defaults; https://docs.docker.com/engine/security/
"""

from __future__ import annotations

from glassdock.oci.runtime import DeviceRule, Mount, Namespace
from glassdock.paths import Paths
from glassdock.runtime import plan

SHM_SIZE = 64 << 20


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
    """The device cgroup's list."""
    return plan.default_device_rules()


def namespaces(*, network: bool = True) -> tuple[Namespace, ...]:
    """The six of every container; without `network` it stays on the machine's."""
    kinds = ("mount", "uts", "ipc", "pid", "cgroup") + (("network",) if network else ())
    return tuple(Namespace(kind) for kind in kinds)


def cgroup_parent(paths: Paths) -> str:
    """The group above all containers of this engine."""
    return f"/glassdock-{paths.tag}" if paths.tag else "/glassdock"
