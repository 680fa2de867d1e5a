"""Restart policies: whether a container that has ended starts again by itself, and after which pause.

Interface:
- `check(policy, auto_remove)`: refuses a policy that makes no sense, in Docker's words.
- `again(container, code)`: the decision at an end. `at_boot(container)`: the decision when the daemon starts.
- `Backoff`: `.next(ran)`: seconds to wait: 0.1, doubling to 60, and 0.1 again after a life of ten seconds.

Rules: a container that was stopped by hand stays so, until it is started by hand; with `always` the daemon's own start
starts it too.

Source: https://docs.docker.com/engine/containers/start-containers-automatically/
"""

from __future__ import annotations

from dataclasses import dataclass

from glassdock.containers.config import RestartPolicy
from glassdock.containers.model import Container, Status
from glassdock.errors import InvalidParameter

_FIRST, _LONGEST, _STEADY = 0.1, 60.0, 10.0
_NAMES = ("no", "always", "on-failure", "unless-stopped")


@dataclass(slots=True)
class Backoff:
    """How long the last pause was; 0.0 before the first."""

    last: float = 0.0

    def next(self, ran: float) -> float:
        """The pause after a life of `ran` seconds."""
        self.last = _FIRST if ran >= _STEADY or not self.last else min(2 * self.last, _LONGEST)
        return self.last


def check(policy: RestartPolicy, *, auto_remove: bool) -> None:
    """Raise InvalidParameter for a policy that Docker refuses."""
    name, count = policy.name or "no", policy.maximum_retry_count
    if name not in _NAMES:
        words = "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        raise InvalidParameter(f"invalid restart policy: unknown policy '{name}'; {words}")
    if name != "on-failure" and count:
        more = " and cannot be negative" if count < 0 else ""
        raise InvalidParameter(f"invalid restart policy: maximum retry count can only be used with 'on-failure'{more}")
    if count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    if auto_remove and name != "no":
        raise InvalidParameter(
            "can't create 'AutoRemove' container with restart policy", "Leave --rm or --restart out."
        )


def again(container: Container, code: int) -> bool:
    """Whether a container that just ended with `code` starts again."""
    policy = container.host.restart_policy
    if container.stopped_by_hand:
        return False
    if policy.name == "on-failure":
        most = policy.maximum_retry_count
        return code != 0 and (not most or container.restart_count < most)
    return policy.name in ("always", "unless-stopped")


def at_boot(container: Container) -> bool:
    """Whether the daemon, when it starts, starts a container that has ended some time before."""
    if container.state.status is not Status.EXITED:
        return False
    name = container.host.restart_policy.name
    return name == "always" or (name == "unless-stopped" and not container.stopped_by_hand)
