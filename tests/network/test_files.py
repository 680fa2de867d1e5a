"""The contents of hosts, hostname and resolv.conf."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassdock.network import files


def lines(data: bytes) -> list[str]:
    return data.decode().splitlines()


def test_hosts_names_localhost_and_the_container() -> None:
    found = lines(files.hosts("web", ["172.17.0.2"]))
    assert found[0] == "127.0.0.1\tlocalhost"
    assert found[-1] == "172.17.0.2\tweb"


def test_hosts_without_an_address_names_localhost_only() -> None:
    assert not any("web" in line for line in lines(files.hosts("web", [])))


def test_hosts_with_a_domain_names_the_long_form_first() -> None:
    assert lines(files.hosts("web", ["172.17.0.2"], domainname="lab"))[-1] == "172.17.0.2\tweb.lab web"


@pytest.mark.parametrize(
    "extra, line",
    [
        ("db:10.0.0.9", "10.0.0.9\tdb"),
        ("db=10.0.0.9", "10.0.0.9\tdb"),
        ("db:fd00::9", "fd00::9\tdb"),
        ("db=[fd00::9]", "fd00::9\tdb"),
        ("host.docker.internal:host-gateway", "172.17.0.1\thost.docker.internal"),
    ],
)
def test_added_hosts(extra: str, line: str) -> None:
    assert line in lines(files.hosts("web", ["172.17.0.2"], extra=[extra], gateway="172.17.0.1"))


def test_hostname_ends_its_line() -> None:
    assert files.hostname("web") == b"web\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "resolv.conf"
    path.write_text("# mine\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch a.example b.example\noptions ndots:2\n")
    return path


def test_a_loopback_server_is_left_out(source: Path) -> None:
    assert lines(files.resolv_conf(source=source)) == [
        "nameserver 10.0.0.2",
        "search a.example b.example",
        "options ndots:2",
    ]


def test_on_the_machines_network_the_loopback_server_stays(source: Path) -> None:
    assert lines(files.resolv_conf(source=source, machine=True))[:2] == ["nameserver 127.0.0.53", "nameserver 10.0.0.2"]


def test_what_was_asked_for_comes_first(source: Path) -> None:
    found = lines(files.resolv_conf(servers=["9.9.9.9"], search=["."], options=["timeout:1"], source=source))
    assert found == ["nameserver 9.9.9.9", "options timeout:1"]


def test_without_any_server_the_public_ones_are_named(tmp_path: Path) -> None:
    assert lines(files.resolv_conf(source=tmp_path / "missing"))[0] == "nameserver 8.8.8.8"


def test_a_stand_in_answers_where_only_loopback_servers_are_named(tmp_path: Path, source: Path) -> None:
    stub = tmp_path / "stub"
    stub.write_text("nameserver 127.0.0.53\n")
    assert lines(files.resolv_conf(source=stub, stand_in="10.0.2.3")) == ["nameserver 10.0.2.3"]
    assert lines(files.resolv_conf(source=source, stand_in="10.0.2.3"))[0] == "nameserver 10.0.0.2"
