"""`--security-opt`: what a container's record asks for beside capabilities.

Interface: `read(host)` → `Security`: the options taken apart; raises InvalidParameter in Docker's words.
`seccomp_of(host, capabilities)`, `apparmor_of(host)`: as the specification has them.

Rules: the client sends a profile's content, not its name. As with Docker, labels of a security module that this kernel
does not run are accepted and mean nothing.

Source: https://docs.docker.com/reference/cli/docker/container/run/#security-opt
"""

from __future__ import annotations

from dataclasses import dataclass

from glassdock.containers.config import HostConfig
from glassdock.errors import InvalidParameter
from glassdock.oci import runtime as oci
from glassdock.runtime import labels, seccomp_profile

_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_REMEDY = "Known are apparmor=, label=, no-new-privileges, seccomp= and systempaths=unconfined."


@dataclass(frozen=True, slots=True)
class Security:
    """The options; `seccomp` is "", builtin, unconfined or a profile. Later ones win."""

    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""


def read(host: HostConfig) -> Security:
    """Take the options of a record apart."""
    promise, profile, apparmor = False, "", ""
    for option in host.security_opt or ():
        if option == "no-new-privileges":
            promise = True
            continue
        if option == "disable":  # labels, in a form that is older than the name
            continue
        equals, colon = option.find("="), option.find(":")
        cut = equals if equals >= 0 else colon  # a colon is how it was written at first
        if cut < 0:
            raise InvalidParameter(f'invalid --security-opt 1: "{option}"', _REMEDY)
        name, value = option[:cut], option[cut + 1 :]
        if name == "no-new-privileges":
            if value not in (*_TRUE, *_FALSE):
                raise InvalidParameter(f'invalid --security-opt 2: "{option}"', "Write true or false.")
            promise = value in _TRUE
        elif name == "seccomp":
            profile = value
        elif name == "apparmor":
            apparmor = value
        elif name not in ("label", "systempaths"):
            raise InvalidParameter(f'invalid --security-opt 2: "{option}"', _REMEDY)
    return Security(promise, profile, apparmor)


def seccomp_of(host: HostConfig, capabilities: tuple[str, ...]) -> oci.Seccomp | None:
    """The filter: the one that was sent, or Docker's default; none for the privileged and the unconfined."""
    asked = read(host).seccomp
    if asked == "unconfined" or (host.privileged and not asked):
        return None
    if asked in ("", "builtin"):
        return seccomp_profile.default_profile(capabilities)
    return seccomp_profile.load(asked, capabilities)


def apparmor_of(host: HostConfig) -> str:
    """The profile, where the kernel runs AppArmor."""
    asked = read(host).apparmor
    return asked if asked != "unconfined" and not host.privileged and labels.apparmor() else ""
