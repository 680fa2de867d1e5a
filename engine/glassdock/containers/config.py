"""What a client asks for: the body of `POST /containers/create`, checked, and merged with the image's defaults.

Interface:
- `CreateRequest.parse(body)`: the typed request; InvalidParameter with the place of the fault.
- `merge(config, image)`: the container's configuration on top of the image's, by Docker's rules.
- `refuse_unsupported(host)`: an option that this version would ignore is refused, never dropped in silence.

Rules: field names are the API's (PascalCase on the wire); null, absent and empty mean the same.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container/operation/ContainerCreate
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from glassdock.errors import InvalidParameter, NotSupported
from glassdock.oci import image as oci

Words = tuple[str, ...] | str | None


class Config(msgspec.Struct, frozen=True, rename="pascal"):
    """The part of a request that travels with the image: what to run and as whom."""

    hostname: str | None = None
    domainname: str | None = None
    user: str | None = None
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Any] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] | None = None
    cmd: Words = None
    healthcheck: oci.Healthcheck | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, Any] | None = None
    working_dir: str | None = None
    entrypoint: Words = None
    network_disabled: bool = False
    mac_address: str | None = None
    on_build: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    shell: tuple[str, ...] | None = None


class PortBinding(msgspec.Struct, frozen=True, rename="pascal"):
    """Where a container's port appears on the host; an empty port is chosen by the kernel."""

    host_ip: str = ""
    host_port: str = ""


class RestartPolicy(msgspec.Struct, frozen=True, rename="pascal"):
    """What happens after the end: no, always, unless-stopped, on-failure."""

    name: str | None = "no"
    maximum_retry_count: int = 0


class LogConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """Where output goes: json-file or none."""

    type: str = "json-file"
    config: dict[str, str] | None = None


class Ulimit(msgspec.Struct, frozen=True, rename="pascal"):
    """One rlimit: name without RLIMIT_, soft and hard; -1 is unlimited."""

    name: str
    soft: int
    hard: int


class MountPoint(msgspec.Struct, frozen=True, rename="pascal"):
    """One `--mount`."""

    type: str
    target: str
    source: str | None = None
    read_only: bool = False
    tmpfs_options: dict[str, Any] | None = None
    bind_options: dict[str, Any] | None = None
    volume_options: dict[str, Any] | None = None


class WeightDevice(msgspec.Struct, frozen=True, rename="pascal"):
    """The weight of one block device, 10 to 1000."""

    path: str
    weight: int


class RateDevice(msgspec.Struct, frozen=True, rename="pascal"):
    """A rate for one block device: bytes or operations a second."""

    path: str
    rate: int


class HostConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """The part of a request that belongs to this machine: limits, mounts, ports, privileges. Sizes are bytes."""

    binds: tuple[str, ...] | None = None
    mounts: tuple[MountPoint, ...] | None = None
    tmpfs: dict[str, str] | None = None
    volumes_from: tuple[str, ...] | None = None
    network_mode: str | None = "default"
    port_bindings: dict[str, tuple[PortBinding, ...] | None] | None = None
    publish_all_ports: bool = False
    auto_remove: bool = False
    restart_policy: RestartPolicy = RestartPolicy()
    log_config: LogConfig = LogConfig()
    init: bool | None = None
    cap_add: tuple[str, ...] | str | None = None
    cap_drop: tuple[str, ...] | str | None = None
    privileged: bool = False
    security_opt: tuple[str, ...] | None = None
    readonly_rootfs: bool = False
    group_add: tuple[str, ...] | None = None
    memory: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    kernel_memory: int = 0
    pids_limit: int | None = None
    oom_score_adj: int = 0
    oom_kill_disable: bool | None = None
    ulimits: tuple[Ulimit, ...] | None = None
    sysctls: dict[str, str] | None = None
    shm_size: int | None = 67108864
    extra_hosts: tuple[str, ...] | None = None
    dns: tuple[str, ...] | None = None
    dns_search: tuple[str, ...] | None = None
    dns_options: tuple[str, ...] | None = None
    pid_mode: str = ""
    ipc_mode: str = ""
    u_t_s_mode: str = msgspec.field(default="", name="UTSMode")
    userns_mode: str = ""
    cgroupns_mode: str = ""
    cgroup_parent: str = ""
    devices: tuple[dict[str, Any], ...] | None = None
    device_requests: tuple[dict[str, Any], ...] | None = None
    device_cgroup_rules: tuple[str, ...] | None = None
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    blkio_weight: int = 0
    blkio_weight_device: tuple[WeightDevice, ...] | None = None
    blkio_device_read_bps: tuple[RateDevice, ...] | None = None
    blkio_device_write_bps: tuple[RateDevice, ...] | None = None
    blkio_device_read_i_ops: tuple[RateDevice, ...] | None = None
    blkio_device_write_i_ops: tuple[RateDevice, ...] | None = None
    links: tuple[str, ...] | None = None
    runtime: str | None = None
    storage_opt: dict[str, str] | None = None
    volume_driver: str = ""
    isolation: str | None = ""
    console_size: tuple[int, int] | None = None
    annotations: dict[str, str] | None = None


class EndpointConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """How the container joins one network."""

    aliases: tuple[str, ...] | None = None
    links: tuple[str, ...] | None = None
    mac_address: str | None = None
    gw_priority: int = 0
    driver_opts: dict[str, str] | None = None
    i_p_a_m_config: dict[str, Any] | None = msgspec.field(default=None, name="IPAMConfig")


class NetworkingConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """The networks to join at the start."""

    endpoints_config: dict[str, EndpointConfig | None] | None = None


class _Body(Config, frozen=True, rename="pascal"):
    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


class CreateRequest(msgspec.Struct, frozen=True):
    """A whole request."""

    config: Config
    host: HostConfig
    networking: NetworkingConfig

    @classmethod
    def parse(cls, body: bytes) -> CreateRequest:
        """Read the API's body; raises InvalidParameter with the place of the fault."""
        if body.strip() in (b"", b"null", b"{}"):
            raise InvalidParameter("config cannot be empty in order to create a container")
        try:
            read = msgspec.json.decode(body, type=_Body)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise InvalidParameter(f"invalid request body: {error}") from error
        config = Config(**{name: getattr(read, name) for name in Config.__struct_fields__})
        return cls(config, read.host_config or HostConfig(), read.networking_config or NetworkingConfig())


def words(value: Words) -> tuple[str, ...]:
    """A command as a tuple; a bare string is one word, as in Docker's strslice."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def merge(config: Config, image: oci.ContainerConfig) -> Config:
    """`config` on top of the image's defaults; raises InvalidParameter where there is nothing to run."""
    entrypoint, cmd = words(config.entrypoint), words(config.cmd)
    if not entrypoint:
        entrypoint = image.entrypoint or ()
        cmd = cmd or image.cmd or ()
    elif entrypoint == ("",):
        entrypoint = ()
    if not entrypoint and not cmd:
        raise InvalidParameter("no command specified", "Give one after the image, or build an image with CMD.")
    return msgspec.structs.replace(
        config,
        user=config.user or image.user,
        env=merge_env(image.env or (), config.env or ()),
        cmd=cmd,
        entrypoint=entrypoint or None,
        working_dir=config.working_dir or image.working_dir,
        exposed_ports={**(image.exposed_ports or {}), **(config.exposed_ports or {})} or None,
        volumes={**(image.volumes or {}), **(config.volumes or {})} or None,
        labels={**(image.labels or {}), **(config.labels or {})},
        stop_signal=config.stop_signal or image.stop_signal,
        healthcheck=_merge_healthcheck(config.healthcheck, image.healthcheck),
        shell=config.shell or image.shell,
        on_build=image.on_build,
    )


def _merge_healthcheck(own: oci.Healthcheck | None, image: oci.Healthcheck | None) -> oci.Healthcheck | None:
    """What the container says, and field by field where it says nothing, the image; null is said by nobody."""
    if own is None and image is None:
        return None
    first, second = own or oci.Healthcheck(), image or oci.Healthcheck()
    names = oci.Healthcheck.__struct_fields__
    merged = (getattr(first, name) or getattr(second, name) or 0 for name in names[1:])
    return oci.Healthcheck(first.test or second.test, *merged)


def merge_env(lower: tuple[str, ...], upper: tuple[str, ...]) -> tuple[str, ...]:
    """`KEY=value` words, the upper ones winning. A bare `KEY` stays in the record and is not set in the process."""
    return tuple({word.partition("=")[0]: word for word in (*lower, *upper)}.values())


# What this version would have to ignore: refused unless it has one of these values (each means "off").
_OFF: Mapping[str, tuple[Any, ...]] = {
    "publish_all_ports": (False,),
    "links": (None, ()),
    "storage_opt": (None, {}),
    "device_requests": (None, ()),
    "cgroup_parent": ("",),
    "isolation": (None, "", "default"),
}


def refuse_unsupported(host: HostConfig) -> None:
    """Raise NotSupported for an option that is not built yet, InvalidParameter for one that never made sense."""
    for name, allowed in _OFF.items():
        if getattr(host, name) not in allowed:
            option = name.replace("_", "-")
            raise NotSupported(f"--{option} is not supported yet", "Leave it out; `engine/README.md` lists the gaps.")
    if host.runtime not in (None, "", "glassdock", "runc"):
        raise InvalidParameter(f"unknown or invalid runtime name: {host.runtime}", "Leave --runtime out.")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if (host.shm_size or 0) < 0:
        raise InvalidParameter("SHM size can not be less than 0")


def check_health(healthcheck: oci.Healthcheck | None) -> None:
    """Raise InvalidParameter for a check that Docker refuses."""
    if healthcheck is None:
        return
    for name in ("interval", "timeout", "start_period", "start_interval"):
        value = getattr(healthcheck, name) or 0
        if value != 0 and value < 1_000_000:
            word = "".join(part.capitalize() for part in name.split("_"))
            raise InvalidParameter(f"{word} in Healthcheck cannot be less than 1ms")
    if (healthcheck.retries or 0) < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")
