"""The OCI runtime spec that a container's record means.

Interface: `runtime_spec(container, folder, tag)`, `check(container)` (what can be refused at create is refused
there), `warnings(container)`, and small readings of a record: `ports`, `signal_number`.

Rules: a pure function of the record and the machine's defaults; nothing is touched. Defaults are Docker's.

Source: https://github.com/opencontainers/runtime-spec, https://github.com/moby/moby/tree/master/oci (for the values)
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec

from glassdock.containers import devices, files, limits, logging, modes, mountpoints, reach, restarts, security
from glassdock.containers.config import HostConfig, check_health, refuse_unsupported
from glassdock.containers.model import Container
from glassdock.errors import CommandNotExecutable, CommandNotFound, InvalidParameter
from glassdock.network.model import PortBinding
from glassdock.oci import runtime as oci
from glassdock.runtime import capabilities, cgroups, defaults
from glassdock.runtime.process import RLIMITS

_OWN = modes.Joins()
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def check(container: Container) -> None:
    """Raise InvalidParameter or NotSupported for what no start could do."""
    refuse_unsupported(container.host)
    restarts.check(container.host.restart_policy, auto_remove=container.host.auto_remove)
    check_health(container.config.healthcheck)
    logging.check(container.host.log_config)
    modes.check(container)
    devices.check(container.host)
    signal_number(container.config.stop_signal or "TERM")
    # Whether a device is there is seen when it starts.
    runtime_spec(msgspec.structs.replace(container, host=_without_devices(container.host)), Path("/"), "")
    ports(container)


def runtime_spec(container: Container, folder: Path, tag: str, joins: modes.Joins = _OWN) -> oci.Spec:
    """The spec of a start; `folder` holds hosts, hostname and resolv.conf, `tag` sets this engine's cgroup apart."""
    config, host = container.config, container.host
    caps = _capabilities(host)
    return oci.Spec(
        hostname="" if host.u_t_s_mode == "host" else container.hostname,
        domainname=config.domainname or "",
        root=oci.Root(readonly=host.readonly_rootfs),
        process=oci.Process(
            args=container.argv,
            env=environment(container, tty=container.config.tty),
            cwd=config.working_dir or "/",
            terminal=config.tty,
            console_size=_console(host),
            capabilities=capabilities.sets(caps),
            rlimits=_rlimits(host),
            no_new_privileges=security.read(host).no_new_privileges,
            oom_score_adj=host.oom_score_adj,
            apparmor_profile=security.apparmor_of(host),
        ),
        annotations=dict(host.annotations or {}),
        mounts=_mounts(container, folder),
        linux=oci.Linux(
            namespaces=modes.namespaces(host, joins),
            devices=devices.nodes(host),
            cgroups_path="" if cgroups.unavailable() else cgroup_of(container.id, tag),
            resources=limits.resources(host, devices.rules(host)),
            sysctl=dict(host.sysctls or {}),
            seccomp=security.seccomp_of(host, caps),
            masked_paths=() if host.privileged else _or(host.masked_paths, defaults.masked_paths()),
            readonly_paths=() if host.privileged else _or(host.readonly_paths, defaults.readonly_paths()),
        ),
    )


def _without_devices(host: HostConfig) -> HostConfig:
    return msgspec.structs.replace(host, devices=())


def cgroup_of(identity: str, tag: str) -> str:
    """The cgroup of a container, relative to each hierarchy's root."""
    return f"{cgroups.parent_for(f'glassdock-{tag}' if tag else 'glassdock')}/{identity}"


def ports(container: Container) -> tuple[PortBinding, ...]:
    """The ports to publish; raises InvalidParameter for one that is not a port."""
    found = []
    for key, bindings in (container.host.port_bindings or {}).items():
        private, _, protocol = key.partition("/")
        for binding in bindings or ():
            found.append(
                PortBinding(
                    container_port=_port(private),
                    protocol=protocol or "tcp",
                    host_ip=binding.host_ip,
                    host_port=_port(binding.host_port or "0"),
                )
            )
    return tuple(found)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise InvalidParameter(f"invalid port: {text!r}", "A port is a number from 1 to 65535.")
    return int(text)


def signal_number(name: str) -> int:
    """15, "15", "TERM" or "SIGTERM"; raises InvalidParameter."""
    upper = name.upper()
    if upper.isdigit() and 0 < int(upper) <= signal.SIGRTMAX:
        return int(upper)
    known = getattr(signal, upper if upper.startswith("SIG") else f"SIG{upper}", None)
    if not isinstance(known, signal.Signals):
        raise InvalidParameter(f"invalid signal: {name}", "Use a name such as SIGTERM, or its number.")
    return int(known)


def exit_code_of(error: BaseException) -> int:
    """What a shell would report of a start that failed this way."""
    if isinstance(error, CommandNotFound):
        return 127
    return 126 if isinstance(error, CommandNotExecutable) else 128


def warnings(container: Container) -> list[str]:
    """What the client is told beside the new id."""
    names = _capabilities(container.host)
    limited = reach.warnings(container.host, names)
    missing = set(names) - capabilities.available()
    if not missing:
        return limited
    return [*limited, f"This machine does not let the engine grant {', '.join(sorted(missing))}: left out."]


def environment(container: Container, *, tty: bool) -> tuple[str, ...]:
    """The variables of a process in the container: what was given, and what Docker adds."""
    words = container.config.env or ()
    names = {word.partition("=")[0] for word in words}
    given = [word for word in words if "=" in word]  # a bare name is asked for as "not set"
    base = [] if "PATH" in names else [_PATH]
    if "HOSTNAME" not in names:
        base.append(f"HOSTNAME={container.hostname}")
    if tty and "TERM" not in names:
        base.append("TERM=xterm")
    return (*base, *given)


def _capabilities(host: HostConfig) -> tuple[str, ...]:
    return capabilities.resolve(_list(host.cap_add), _list(host.cap_drop), privileged=host.privileged)


def _list(value: tuple[str, ...] | str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _mounts(container: Container, folder: Path) -> tuple[oci.Mount, ...]:
    host = container.host
    shm = host.shm_size or 67108864
    base = [
        msgspec.structs.replace(mount, options=tuple(_shm(option, shm) for option in mount.options))
        if mount.destination == "/dev/shm"
        else mount
        for mount in defaults.mounts()
    ]
    if host.privileged:
        base = [
            msgspec.structs.replace(mount, options=tuple(option for option in mount.options if option != "ro"))
            for mount in base
        ]
    base = [_shared(mount) for mount in base] if host.ipc_mode == "host" else base
    if host.ipc_mode == "none":
        base = [mount for mount in base if mount.destination != "/dev/shm"]
    own = [oci.Mount(target, "bind", str(folder / name), ("rbind", "rprivate")) for name, target in files.NAMES.items()]
    asked = [mountpoints.entry(point) for point in container.mounts]
    asked += [
        oci.Mount(mountpoints.absolute(target), "tmpfs", "tmpfs", ("nosuid", "nodev", "noexec", *_words(options)))
        for target, options in (host.tmpfs or {}).items()
    ]
    asked.sort(key=lambda mount: mount.destination.count("/"))  # a mount inside a mount comes later
    taken = {mount.destination for mount in asked}
    return tuple(mount for mount in (*base, *own) if mount.destination not in taken) + tuple(asked)


def _words(options: str) -> tuple[str, ...]:
    return tuple(options.split(",")) if options else ()


def _shared(mount: oci.Mount) -> oci.Mount:
    """With the machine's IPC namespace come its shared memory and message queues."""
    if mount.destination not in ("/dev/shm", "/dev/mqueue") or not os.path.isdir(mount.destination):
        return mount
    return oci.Mount(mount.destination, "bind", mount.destination, ("rbind", "rprivate", "nosuid", "noexec"))


def _shm(option: str, size: int) -> str:
    return f"size={size}" if option.startswith("size=") else option


def _rlimits(host: HostConfig) -> tuple[oci.Rlimit, ...]:
    for limit in host.ulimits or ():
        if f"RLIMIT_{limit.name.upper()}" not in RLIMITS:
            raise InvalidParameter(f"invalid ulimit type: {limit.name}")
        if 0 <= limit.hard < limit.soft:
            words = "ulimit soft limit must be less than or equal to hard limit"
            raise InvalidParameter(f"{words}: {limit.soft} > {limit.hard}")
    found = {limit.name.upper(): (_unlimited(limit.hard), _unlimited(limit.soft)) for limit in host.ulimits or ()}
    if most := reach.processes():
        found.setdefault("NPROC", (most, most))
    return tuple(oci.Rlimit(f"RLIMIT_{name}", hard=hard, soft=soft) for name, (hard, soft) in found.items())


def _unlimited(value: int) -> int:
    return 2**64 - 1 if value < 0 else value


def _console(host: HostConfig) -> oci.Box | None:
    return oci.Box(*host.console_size) if host.console_size and any(host.console_size) else None


def _or(asked: tuple[str, ...] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    return default if asked is None else asked
