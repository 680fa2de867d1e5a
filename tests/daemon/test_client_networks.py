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


def address(ready: Daemon, name: str, network: str) -> str:
    found = ready.get(f"/containers/{name}/json")[1]["NetworkSettings"]["Networks"][network]["IPAddress"]
    return str(found)


def test_a_running_container_joins_a_network_and_leaves_it(
    ready: Daemon, town: str, container: Callable[..., str]
) -> None:
    since = str(time.time())
    one = container("-d", "busybox", "sleep", "60")
    ready.docker("network", "connect", "--ip", "10.97.3.50", "--alias", "uncle", town, one)
    assert address(ready, one, town) == "10.97.3.50"
    assert "10.97.3.50/24" in ready.docker("exec", one, "ip", "addr", "show", "eth1").stdout
    other = container("-d", "--network", town, "busybox", "sleep", "60")
    for name in (one, "uncle", f"{one}.{town}"):
        assert "10.97.3.50" in ready.docker("exec", other, "ping", "-c", "1", "-W", "5", name).stdout
    ready.docker("exec", one, "ping", "-c", "1", "-W", "5", other)
    assert "10.97.3.50" in ready.docker("exec", one, "cat", "/etc/hosts").stdout
    again = ready.docker("network", "connect", town, one, check=False)
    assert f"endpoint with name {one} already exists in network {town}" in again.stderr
    ready.docker("network", "disconnect", town, one)
    assert "eth1" not in ready.docker("exec", one, "ip", "addr").stdout
    assert "10.97.3.50" not in ready.docker("exec", one, "cat", "/etc/hosts").stdout
    refused = ready.docker("network", "disconnect", town, one, check=False)
    assert f"is not connected to network {town}" in refused.stderr
    until = str(int(time.time()) + 1)
    words = ("events", "--since", since, "--until", until, "--filter", f"network={town}")
    heard = ready.docker(*words, "--format", "{{.Action}} {{.Actor.Attributes.container}}").stdout.splitlines()
    identity = ready.get(f"/containers/{one}/json")[1]["Id"]
    assert [line for line in heard if identity in line] == [f"connect {identity}", f"disconnect {identity}"]


def test_what_is_connected_while_it_stands_still_is_there_at_the_start(ready: Daemon, town: str) -> None:
    made = ready.docker("create", "--name", "still", "--network", town, "busybox", "sleep", "60").stdout.strip()
    try:
        ready.docker("network", "connect", "bridge", "still")
        ready.docker("network", "connect", "--alias", "uncle", town, "still")
        ready.docker("start", "still")
        shown = ready.get(f"/containers/{made}/json")[1]["NetworkSettings"]["Networks"]
        assert set(shown) == {town, "bridge"}
        assert shown[town]["Aliases"] == ["uncle"]
        assert {"still", "uncle", made[:12]} == set(shown[town]["DNSNames"])
        # The one network is internal, so the way out is the other one's.
        assert f"default via {shown['bridge']['Gateway']}" in ready.docker("exec", "still", "ip", "route").stdout
        ready.docker("stop", "-t", "0", "still")
        ready.docker("network", "disconnect", "bridge", "still")
        ready.docker("start", "still")
        assert "default" not in ready.docker("exec", "still", "ip", "route").stdout
        ready.docker("network", "disconnect", town, "still")
        assert ready.get(f"/containers/{made}/json")[1]["NetworkSettings"]["Networks"] == {}
        assert ready.docker("exec", "still", "ip", "-o", "link").stdout.count("\n") == 1
    finally:
        ready.docker("rm", "-f", "still")


def test_several_networks_at_the_start_names_and_a_new_name(
    ready: Daemon, town: str, container: Callable[..., str]
) -> None:
    ready.docker("network", "create", "city")
    try:
        one = container("-d", "--network", town, "--network", "name=city,alias=a", "busybox", "sleep", "60")
        twin = container("-d", "--network", "city", "--network-alias", "a", "busybox", "sleep", "60")
        assert "nameserver 127.0.0.11" in ready.docker("exec", one, "cat", "/etc/resolv.conf").stdout
        found = ready.docker("exec", twin, "nslookup", "a", check=False).stdout
        assert {address(ready, one, "city"), address(ready, twin, "city")} <= set(found.split())
        ready.docker("rename", twin, "newname")
        try:
            assert ready.docker("exec", one, "ping", "-c", "1", "-W", "5", "newname").returncode == 0
        finally:
            ready.docker("rename", "newname", twin)
        ready.docker("rm", "-f", one, twin)
    finally:
        ready.docker("network", "rm", "city")


def test_what_a_network_has_not_is_refused(ready: Daemon, town: str, container: Callable[..., str]) -> None:
    one = container("-d", "busybox", "sleep", "60")
    machine = container("-d", "--network", "host", "busybox", "sleep", "60")
    alone = container("-d", "--network", "none", "busybox", "sleep", "60")
    for words, message in (
        (("connect", "--ip", "10.1.2.3", town, one), "no configured subnet contains IP address 10.1.2.3"),
        (("connect", town, machine), "cannot be connected to any other network"),
        (("connect", "host", one), "container cannot be disconnected from host network or connected to host network"),
        (("connect", town, alone), "with one of the networks in private (none) mode"),
        (("connect", "nowhere", one), "network nowhere not found"),
        (("connect", town, "nobody"), "No such container: nobody"),
    ):
        done = ready.docker("network", *words, check=False)
        assert message in done.stderr
        assert done.returncode == 1
    done = ready.docker("run", "--rm", "--ip", "10.1.2.3", "busybox", "true", check=False)
    assert "user specified IP address is supported on user defined networks only" in done.stderr
