"""What `glassdock-runtime spec` and `features` print.

Interface: `example()`: a config.json to begin with. `features()`: what the runtime can do.
Source: https://github.com/opencontainers/runtime-spec/blob/main/features.md
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from glassdock.linux.clone import KINDS
from glassdock.linux.scheduling import MemoryFlag, MemoryMode
from glassdock.oci import runtime as oci
from glassdock.runtime import capabilities, cgroups, defaults, options, seccomp_stub


def example(*, rootless: bool = False) -> dict[str, Any]:
    """A shell in `rootfs`, with what runc's example lets it do."""
    caps = capabilities.sets(("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"))
    body = oci.Process(
        args=("sh",),
        env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"),
        cwd="/",
        terminal=True,
        capabilities=caps,
        no_new_privileges=True,
        rlimits=(oci.Rlimit("RLIMIT_NOFILE", hard=1024, soft=1024),),
    )
    spec = oci.Spec(
        process=body,
        root=oci.Root("rootfs", readonly=True),
        hostname="glassdock",
        mounts=defaults.mounts(),
        linux=oci.Linux(
            # As runc's: with version 1 the container's own groups are shown to it without a namespace, too.
            namespaces=tuple(one for one in defaults.namespaces() if one.type != "cgroup" or cgroups.version() == "2"),
            masked_paths=defaults.masked_paths(),
            readonly_paths=defaults.readonly_paths(),
        ),
    )
    found: dict[str, Any] = {"ociVersion": spec.oci_version, **msgspec.to_builtins(spec)}
    found["process"].setdefault("user", {"uid": 0, "gid": 0})
    found["process"]["cwd"] = "/"
    found["root"]["path"] = "rootfs"
    for mount in found["mounts"]:
        if mount["destination"] == "/dev":  # other runtimes make nodes in it; ours binds them and adds nodev itself
            mount["options"] = [word for word in mount["options"] if word != "nodev"]
    # The devices that every container has are opened by the runtime; a default is written out where runc asks for it.
    found["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    return _without_root(found) if rootless else found


def _without_root(found: dict[str, Any]) -> dict[str, Any]:
    """A user namespace in which the caller alone is root, no network of its own, and no cgroup limits."""
    linux = found["linux"]
    kept = [entry for entry in linux["namespaces"] if entry["type"] != "network"]
    linux["namespaces"] = [*kept, {"type": "user"}]
    linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    del linux["resources"]
    mounts = []
    for entry in found["mounts"]:
        if entry["destination"] == "/sys":  # sysfs belongs to the network namespace's owner: the machine's is shown
            entry = {"destination": "/sys", "type": "none", "source": "/sys"} | {
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]
            }
        entry["options"] = [word for word in entry["options"] if not word.startswith(("gid=", "uid="))]
        mounts.append(entry)
    found["mounts"] = mounts
    return found


def features() -> dict[str, Any]:
    """The specification's document of features."""
    layout = cgroups.layout()
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": sorted(options.known()),
        "linux": {
            "namespaces": sorted(KINDS),
            "capabilities": list(capabilities.ALL),
            "cgroup": {"v1": bool(layout.v1), "v2": bool(layout.unified), "systemd": False, "systemdUser": False},
            "seccomp": {
                "enabled": True,
                "actions": [f"SCMP_ACT_{word}" for word in _ACTIONS.split()],
                "operators": [f"SCMP_CMP_{word}" for word in "NE LT LE EQ GE GT MASKED_EQ".split()],
                "archs": [f"SCMP_ARCH_{word}" for word in seccomp_stub.ARCHITECTURES],
                "knownFlags": [f"SECCOMP_FILTER_FLAG_{word}" for word in _FLAGS.split()],
                "supportedFlags": [f"SECCOMP_FILTER_FLAG_{word}" for word in _FLAGS.split()],
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "netDevices": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "memoryPolicy": {
                "modes": list(MemoryMode.__members__),
                "flags": list(MemoryFlag.__members__),
            },
        },
    }


_ACTIONS = "ALLOW ERRNO KILL KILL_PROCESS KILL_THREAD LOG NOTIFY TRACE TRAP"
_FLAGS = "TSYNC LOG SPEC_ALLOW WAIT_KILLABLE_RECV"
