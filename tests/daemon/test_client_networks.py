"""Networks of a user's own, by Docker's client and by its SDK."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import docker
import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


@pytest.fixture
def town(ready: Daemon) -> Iterator[str]:
    ready.docker("network", "create", "--label", "kind=town", "--subnet", "10.97.3.0/24", "--internal", "town")
    yield "town"
    ready.docker("network", "rm", "town", check=False)


def names(ready: Daemon, *filters: str) -> list[str]:
    words = [word for found in filters for word in ("--filter", found)]
    return sorted(ready.docker("network", "ls", "--format", "{{.Name}}", *words).stdout.split())


def test_it_is_made_listed_inspected_used_and_removed(ready: Daemon, town: str, container: Callable[..., str]) -> None:
    (shown,) = json.loads(ready.docker("network", "inspect", town).stdout)
    assert (shown["Driver"], shown["Internal"], shown["Labels"]) == ("bridge", True, {"kind": "town"})
    assert shown["IPAM"]["Config"] == [{"Subnet": "10.97.3.0/24", "Gateway": "10.97.3.1"}]
    assert names(ready) == ["bridge", "host", "none", town]
    assert names(ready, "type=custom") == names(ready, "label=kind=town") == names(ready, "dangling=true") == [town]
    one = container("-d", "--network", town, "busybox", "sleep", "60")
    other = container("-d", "--network", town, "--ip", "10.97.3.99", "busybox", "sleep", "60")
    assert ready.docker("exec", one, "ping", "-c", "1", "-W", "5", "10.97.3.99").returncode == 0
    (shown,) = json.loads(ready.docker("network", "inspect", town).stdout)
    assert {member["Name"] for member in shown["Containers"].values()} == {one, other}
    settings = ready.get(f"/containers/{other}/json")[1]["NetworkSettings"]
    assert settings["Networks"][town]["IPAddress"] == "10.97.3.99"
    refused = ready.docker("network", "rm", town, check=False)
    assert "has active endpoints" in refused.stderr
    assert refused.returncode == 1
    ready.docker("rm", "-f", one, other)
    assert ready.docker("network", "rm", town).stdout == f"{town}\n"
    assert names(ready) == ["bridge", "host", "none"]


def test_what_docker_refuses_is_refused_in_its_words(ready: Daemon, town: str) -> None:
    for words, message in (
        (("create", town), f"network with name {town} already exists"),
        (("create", "--subnet", "10.97.3.0/25", "other"), "Pool overlaps with other one on this address space"),
        (("create", "-d", "host", "other"), 'only one instance of "host" network is allowed'),
        (("create", "--ipv6", "other"), "IPv6 networks: not built here"),
        (("rm", "bridge"), "bridge is a pre-defined network and cannot be removed"),
        (("rm", "nowhere"), "network nowhere not found"),
    ):
        done = ready.docker("network", *words, check=False)
        assert message in done.stderr
        assert done.returncode == 1


def test_prune_takes_what_nobody_uses(ready: Daemon, town: str, container: Callable[..., str]) -> None:
    ready.docker("network", "create", "empty")
    name = container("-d", "--network", town, "busybox", "sleep", "60")
    assert "empty" not in ready.docker("network", "prune", "-f", "--filter", "label=kind=town").stdout
    done = ready.docker("network", "prune", "-f").stdout
    assert done.split() == ["Deleted", "Networks:", "empty"]
    ready.docker("rm", "-f", name)
    assert ready.docker("network", "prune", "-f", "--filter", "label!=kind=town").stdout == ""
    assert town in ready.docker("network", "prune", "-f").stdout


def test_the_sdk_makes_and_removes_one_and_hears_of_it(ready: Daemon) -> None:
    pool = docker.types.IPAMPool(subnet="10.97.4.0/24", gateway="10.97.4.254")
    made = ready.sdk.networks.create(
        "hamlet", driver="bridge", ipam=docker.types.IPAMConfig(pool_configs=[pool]), labels={"a": "b"}
    )
    assert made.attrs["IPAM"]["Config"] == [{"Subnet": "10.97.4.0/24", "Gateway": "10.97.4.254"}]
    assert [found.id for found in ready.sdk.networks.list(names=["hamlet"])] == [made.id]
    made.remove()
    with pytest.raises(docker.errors.NotFound):
        ready.sdk.networks.get("hamlet")
    heard = ready.sdk.events(since=0, until=int(time.time()) + 1, decode=True, filters={"type": "network"})
    assert [event["Action"] for event in heard if event["Actor"]["ID"] == made.id] == ["create", "destroy"]
