"""Subnets and leases."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from glassdock.errors import Conflict, InvalidParameter, NotSupported
from glassdock.network.addresses import POOLS, Leases, free_subnet, mac_of


def leases(subnet: str = "172.17.0.0/16") -> Leases:
    return Leases(IPv4Network(subnet))


def test_the_first_pool_is_dockers() -> None:
    assert str(free_subnet([])) == "172.17.0.0/16"


def test_a_pool_that_a_route_overlaps_is_left_out_and_the_default_route_is_not_one() -> None:
    taken = [IPv4Network("0.0.0.0/0"), IPv4Network("172.17.8.0/24"), IPv4Network("172.18.0.0/15")]
    assert str(free_subnet(taken)) == "172.20.0.0/16"


def test_a_preferred_subnet_is_kept_while_it_is_free() -> None:
    preferred = IPv4Network("10.9.0.0/24")
    assert free_subnet([], preferred) == preferred
    assert str(free_subnet([IPv4Network("10.0.0.0/8")], preferred)) == "172.17.0.0/16"


def test_all_pools_taken_is_said_with_a_remedy() -> None:
    with pytest.raises(NotSupported, match="fully subnetted") as caught:
        free_subnet(POOLS)
    assert caught.value.remedy


def test_addresses_go_up_from_two_and_the_lowest_free_one_comes_again() -> None:
    some = leases()
    assert [str(some.take(name)) for name in "abc"] == ["172.17.0.2", "172.17.0.3", "172.17.0.4"]
    some.free("b")
    some.free("a")
    assert [str(some.take(name)) for name in "def"] == ["172.17.0.2", "172.17.0.3", "172.17.0.5"]


def test_a_chosen_address_is_not_given_again() -> None:
    some = leases()
    some.take("a", IPv4Address("172.17.0.3"))
    assert [str(some.take(name)) for name in "bc"] == ["172.17.0.2", "172.17.0.4"]
    with pytest.raises(Conflict, match="already in use"):
        some.take("d", IPv4Address("172.17.0.3"))


@pytest.mark.parametrize("address", ["172.18.0.2", "172.17.0.0", "172.17.255.255"])
def test_an_address_outside_is_refused(address: str) -> None:
    with pytest.raises(InvalidParameter):
        leases().take("a", IPv4Address(address))


def test_the_gateway_is_in_use_from_the_beginning() -> None:
    with pytest.raises(Conflict):
        leases().take("a", IPv4Address("172.17.0.1"))


def test_a_full_subnet_is_said_and_one_free_address_helps() -> None:
    some = leases("10.0.0.0/29")
    for name in "abcde":
        some.take(name)
    with pytest.raises(Conflict, match="no available IPv4 addresses"):
        some.take("f")
    some.free("c")
    assert str(some.take("f")) == "10.0.0.4"


def test_nobody_has_two_addresses_and_freeing_twice_is_harmless() -> None:
    some = leases()
    some.take("a")
    with pytest.raises(Conflict, match="already has"):
        some.take("a")
    some.free("a")
    some.free("a")
    assert str(some.take("b")) == "172.17.0.2"


def test_the_hardware_address_is_made_of_the_address() -> None:
    assert mac_of(IPv4Address("172.17.0.2")) == "02:42:ac:11:00:02"
