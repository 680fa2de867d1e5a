"""Where one id is all there is, root in a container is told that it could give files and itself to other ids.

Interface:
- `profile()`: the filter as a specification's value. `steps()`: the step where it is wanted, nothing elsewhere.
- `FakeOwners`: the step.

Rules: apt, tar, adduser and su end if chown(2) or setuid(2) fails, and an id that is not mapped makes both fail. So
these calls, asked for an id other than 0, do nothing and succeed. This is told as what it is: the container's owner
stays the owner, `stat` and `id` say root. Only a container's root gets the filter, another user is refused as
everywhere. What COPY --chown and an image's layers say is not lost: it is remembered (unionfs/ownership.py).

Sources: seccomp(2), user_namespaces(7); fakeroot(1) and PRoot's `-0` do the same
"""

from __future__ import annotations

from glassdock.errors import NotSupported
from glassdock.linux import ids
from glassdock.linux.seccomp import set_mode_filter
from glassdock.oci.runtime import Seccomp, SeccompArg, SeccompRule
from glassdock.runtime import seccomp, seccomp_profile
from glassdock.runtime.stage import Stage, Step

# The call's names, and at which places it takes ids.
_CALLS = (
    (("chown", "lchown", "fchown", "chown32", "lchown32", "fchown32"), (1, 2)),
    (("fchownat",), (2, 3)),
    (("setuid", "setgid", "setuid32", "setgid32"), (0,)),
    (("setreuid", "setregid", "setreuid32", "setregid32"), (0, 1)),
    (("setresuid", "setresgid", "setresuid32", "setresgid32"), (0, 1, 2)),
)
_GROUPS = ("setgroups", "setgroups32")


class FakeOwners(Step, frozen=True, tag="fake_owners"):
    """Let calls that name another id succeed and do nothing, for the container's root."""

    program: bytes

    def describe(self) -> str:
        return "let chown and setuid to other ids succeed without doing anything: there is one id"

    def apply(self, stage: Stage) -> None:
        if stage.uid:
            return
        try:
            set_mode_filter(self.program)
        except PermissionError:  # the container's own filter forbids another one
            stage.warnings.append("chown and setuid to other ids fail here: there is one id")


def profile() -> Seccomp:
    """Every call is allowed; those with an id other than 0 succeed without being made."""
    rules = [SeccompRule(_GROUPS, "SCMP_ACT_ERRNO", errno_ret=0)]
    for names, places in _CALLS:
        for place in places:
            # "As it is" (-1) is greater than 0, too: then there is nothing to do, or the other id decides.
            other = SeccompArg(place, 0, "SCMP_CMP_GT")
            rules.append(SeccompRule(names, "SCMP_ACT_ERRNO", errno_ret=0, args=(other,)))
    return Seccomp("SCMP_ACT_ALLOW", syscalls=tuple(rules), architectures=seccomp_profile.architectures())


def steps(*, own_user: bool) -> list[FakeOwners]:
    """The step, where there is a single id and the container has no user namespace of its own."""
    if ids.mapping().kind != "single" or own_user:
        return []
    try:
        return [FakeOwners(seccomp.compile(profile()))]
    except NotSupported:
        return []  # without libseccomp: the calls fail, as the kernel has it
