"""Restart policies: what is decided at an end and at the daemon's start, and how long the pauses are."""

from __future__ import annotations

import pytest

from glassdock.containers import restarts
from glassdock.containers.config import Config, HostConfig, NetworkingConfig, RestartPolicy
from glassdock.containers.model import Container, State, Status
from glassdock.errors import InvalidParameter


def made(name: str, most: int = 0, **more: object) -> Container:
    host = HostConfig(restart_policy=RestartPolicy(name, most))
    ended = State(status=Status.EXITED)
    return Container("1" * 64, "a", 0, "", Config(), host, NetworkingConfig(), ended, **more)  # type: ignore[arg-type]


def test_the_pause_doubles_up_to_a_minute_and_begins_anew_after_ten_seconds_of_life() -> None:
    pauses = restarts.Backoff()
    assert [pauses.next(0.5) for _ in range(4)] == [0.1, 0.2, 0.4, 0.8]
    assert [pauses.next(0.5) for _ in range(9)][-2:] == [60.0, 60.0]
    assert [pauses.next(11), pauses.next(1)] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("policy", "most", "count", "code", "by_hand", "expected"),
    [
        ("no", 0, 0, 1, False, False),
        ("always", 0, 9, 0, False, True),
        ("always", 0, 0, 0, True, False),
        ("unless-stopped", 0, 0, 1, False, True),
        ("unless-stopped", 0, 0, 1, True, False),
        ("on-failure", 0, 5, 1, False, True),
        ("on-failure", 0, 0, 0, False, False),
        ("on-failure", 2, 1, 1, False, True),
        ("on-failure", 2, 2, 1, False, False),
    ],
)
def test_an_end_is_followed_by_a_start_where_the_policy_says_so(
    policy: str, most: int, count: int, code: int, by_hand: bool, expected: bool
) -> None:
    container = made(policy, most, restart_count=count, stopped_by_hand=by_hand)
    assert restarts.again(container, code) is expected


def test_the_daemons_start_starts_always_even_after_a_stop_and_unless_stopped_only_else() -> None:
    assert restarts.at_boot(made("always", stopped_by_hand=True))
    assert restarts.at_boot(made("unless-stopped"))
    assert not restarts.at_boot(made("unless-stopped", stopped_by_hand=True))
    assert not restarts.at_boot(made("on-failure"))
    assert not restarts.at_boot(made("no"))


@pytest.mark.parametrize(
    ("policy", "most", "auto_remove", "message"),
    [
        ("sometimes", 0, False, "unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure'"),
        ("always", 3, False, "maximum retry count can only be used with 'on-failure'"),
        ("on-failure", -1, False, "maximum retry count cannot be negative"),
        ("always", 0, True, "can't create 'AutoRemove' container with restart policy"),
    ],
)
def test_what_makes_no_sense_is_refused(policy: str, most: int, auto_remove: bool, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        restarts.check(RestartPolicy(policy, most), auto_remove=auto_remove)
