"""The bundle's config.json as values: process, root, mounts, hooks, and what is Linux's own.

Interface: `Spec` and its parts; `decode(data)`, `encode(spec)`.

Rules: unknown members are ignored, members at their default are left out, `None` means "not said".
JSON's names are the specification's; the Python names are the same words in snake case.

Source: https://github.com/opencontainers/runtime-spec/blob/main/config.md and config-linux.md (1.3)
"""

from __future__ import annotations

from typing import Any

import msgspec

from glassdock.errors import InvalidParameter

# Members whose own names are the user's.
_FREE = frozenset({"annotations", "sysctl", "unified", "netDevices", "rdma"})


class Box(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The size of a terminal in characters."""

    height: int = 0
    width: int = 0


class User(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Who the process is; `umask` None leaves the engine's 022."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


class Capabilities(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Five sets of names such as CAP_CHOWN."""

    effective: tuple[str, ...] = ()
    bounding: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A resource limit, `type` as RLIMIT_NOFILE."""

    type: str
    hard: int
    soft: int


class Scheduler(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """sched_setattr(2)."""

    policy: str = ""
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime: int = 0
    deadline: int = 0
    period: int = 0


class IOPriority(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """ioprio_set(2)."""

    priority: int = 0
    class_: str = msgspec.field(name="class", default="IOPRIO_CLASS_NONE")


class CPUAffinity(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Lists of processors such as 0-3,7: where an exec begins, and where it stays once it is in the cgroup."""

    initial: str = ""
    final: str = ""


class Process(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What runs: arguments, environment, user, working directory, limits."""

    cwd: str = "/"
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: User = User()
    terminal: bool = False
    console_size: Box | None = None
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    oom_score_adj: int | None = None
    scheduler: Scheduler | None = None
    io_priority: IOPriority | None = None
    exec_cpu_affinity: CPUAffinity | None = msgspec.field(name="execCPUAffinity", default=None)


class Root(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The root filesystem; `path` is for bundles, the daemon gives the runtime a mount instead."""

    path: str = "rootfs"
    readonly: bool = False


class IDMapping(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A range of user or group ids."""

    container_id: int = msgspec.field(name="containerID")
    host_id: int = msgspec.field(name="hostID")
    size: int


class Mount(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One mount, in the order in which they are made. `type` bind with a `source` path, or a file system."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()


class Hook(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A program that runs at a point of the container's life; `timeout` in seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class Hooks(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The six points of life at which hooks run."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Namespace(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A kind (pid, network, mount, ipc, uts, user, cgroup, time), and the path of one to join instead of a new one."""

    type: str
    path: str = ""


class Device(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A device node to provide; `type` c, b, u or p."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class DeviceRule(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A line of the device cgroup; `type` a, c or b; None is "any number"; `access` out of r, w, m."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Memory(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Bytes; -1 is unlimited. `swap` is memory and swap together. `swappiness` is a percentage."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = msgspec.field(name="kernelTCP", default=None)
    swappiness: int | None = None
    disable_oom_killer: bool = msgspec.field(name="disableOOMKiller", default=False)
    use_hierarchy: bool = False
    check_before_update: bool = False


class CPU(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Shares are v1's weight (2 to 262144); quota and period are microseconds; cpus and mems are lists like 0-3,5."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class Pids(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """How many processes and threads; less than 0 is unlimited, None is not said."""

    limit: int | None = None


class WeightDevice(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A weight for one block device."""

    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class ThrottleDevice(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A rate (bytes or operations a second) for one block device."""

    major: int
    minor: int
    rate: int


class BlockIO(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Weights (10 to 1000) and rates of block devices."""

    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(name="throttleReadIOPSDevice", default=())
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(name="throttleWriteIOPSDevice", default=())


class HugepageLimit(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A limit in bytes for one page size such as 2MB."""

    page_size: str
    limit: int


class InterfacePriority(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The priority of what is sent over one network interface."""

    name: str
    priority: int


class NetworkMarks(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """How version 1 marks what is sent: a class for tc(8), priorities by interface."""

    class_id: int | None = msgspec.field(name="classID", default=None)
    priorities: tuple[InterfacePriority, ...] = ()


class Rdma(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Limits for one RDMA device."""

    hca_handles: int | None = None
    hca_objects: int | None = None


class Resources(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What the cgroup allows; `unified` are files of cgroup v2 by name."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: CPU | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = msgspec.field(name="blockIO", default=None)
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: NetworkMarks | None = None
    rdma: dict[str, Rdma] = {}
    unified: dict[str, str] = {}


class SeccompArg(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A condition on one argument of a system call, `op` as SCMP_CMP_EQ."""

    index: int
    value: int
    op: str
    value_two: int = 0


class SeccompRule(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """System calls and what becomes of them, `action` as SCMP_ACT_ALLOW."""

    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SeccompArg, ...] = ()


class Seccomp(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A filter of system calls: a default action and rules."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[SeccompRule, ...] = ()


class Personality(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """personality(2): LINUX or LINUX32."""

    domain: str
    flags: tuple[str, ...] = ()


class MemoryPolicy(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """set_mempolicy(2): MPOL_BIND and the like, on a list of memory nodes such as 0-1,3."""

    mode: str = ""
    nodes: str = ""
    flags: tuple[str, ...] = ()


class Linux(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Namespaces, cgroup, devices, seccomp, and what of /proc and /sys is hidden."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources | None = None
    rootfs_propagation: str = ""
    sysctl: dict[str, str] = {}
    seccomp: Seccomp | None = None
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    personality: Personality | None = None
    time_offsets: dict[str, dict[str, int]] = {}
    intel_rdt: dict[str, Any] | None = None
    net_devices: dict[str, Any] = {}
    memory_policy: MemoryPolicy | None = None


class Spec(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The whole document."""

    oci_version: str = "1.2.0"
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: dict[str, str] = {}
    linux: Linux | None = None


def decode(data: bytes | str) -> Spec:
    """Read a config.json; raises InvalidParameter with the place of the fault."""
    try:
        found: Spec = read(data, Spec)
        return found
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"not a valid config.json: {error}") from error


def read(data: bytes | str, kind: type) -> Any:
    """Decode one of these documents; raises msgspec.DecodeError, UnicodeDecodeError.

    Where it is not as it should be, it is read once more as runc's language reads it: null is what is not said, and a
    member's name counts in any case. Bundles that others wrote have both.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        kinds = (one for one in globals().values() if isinstance(one, type) and issubclass(one, msgspec.Struct))
        names = {name.lower(): name for one in kinds for name in getattr(one, "__struct_encode_fields__", ())}
        try:
            return msgspec.json.decode(msgspec.json.encode(_loosely(msgspec.json.decode(data), names)), type=kind)
        except msgspec.ValidationError:
            raise error from None


def _loosely(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_loosely(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    found = {names.get(key.lower(), key): part for key, part in value.items() if part is not None}
    return {key: part if key in _FREE else _loosely(part, names) for key, part in found.items()}


def encode(spec: Spec | Any) -> bytes:
    """The document's bytes; defaults are left out, except the version, which readers ask for."""
    body = msgspec.to_builtins(spec)
    body.setdefault("ociVersion", spec.oci_version)
    return msgspec.json.encode(body)
