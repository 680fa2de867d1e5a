"""Docker's flags as the API's body."""

from __future__ import annotations

from typing import Any

import pytest

from glassdock.client.create import Options, body, ports, size
from glassdock.errors import InvalidParameter


def test_an_image_alone_says_nothing_that_the_image_could_say_itself() -> None:
    made = body(Options(image="busybox"))
    assert made["Image"] == "busybox"
    assert "Entrypoint" not in made
    assert "Cmd" not in made
    assert "User" not in made
    assert made["AttachStdout"] is True
    assert made["AttachStdin"] is False
    assert made["HostConfig"]["NetworkMode"] == "default"


@pytest.mark.parametrize(
    ("word", "bindings"),
    [
        ("80", {"80/tcp": [{"HostIp": "", "HostPort": ""}]}),
        ("8080:80", {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}),
        ("127.0.0.1:8080:80/udp", {"80/udp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}),
        ("127.0.0.1::80", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}),
        ("[::1]:8080:80", {"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]}),
        (
            "8000-8001:80-81",
            {"80/tcp": [{"HostIp": "", "HostPort": "8000"}], "81/tcp": [{"HostIp": "", "HostPort": "8001"}]},
        ),
        ("8000-8009:80", {"80/tcp": [{"HostIp": "", "HostPort": "8000-8009"}]}),
    ],
)
def test_a_published_port_becomes_a_binding(word: str, bindings: dict[str, Any]) -> None:
    made, exposed = ports([word])
    assert made == bindings
    assert set(exposed) == set(bindings)


@pytest.mark.parametrize("word", ["", "x", "8080:", "1:2:3:x", "1-2:3-5", "99999", "-1"])
def test_a_port_that_cannot_be_read_is_refused(word: str) -> None:
    with pytest.raises(InvalidParameter):
        ports([word])


@pytest.mark.parametrize(
    ("text", "value"), [("64m", 64 << 20), ("1g", 1 << 30), ("1.5k", 1536), ("100", 100), ("2GiB", 2 << 30), ("-1", -1)]
)
def test_sizes_are_read_as_docker_reads_them(text: str, value: int) -> None:
    assert size(text, "--memory") == value


@pytest.mark.parametrize("text", ["", "x", "5x", "m", "1 2"])
def test_a_size_that_cannot_be_read_names_its_option(text: str) -> None:
    with pytest.raises(InvalidParameter, match="--memory"):
        size(text, "--memory")


def test_limits_capabilities_and_volumes_reach_the_host_configuration() -> None:
    options = Options(
        image="x",
        memory="64m",
        cpus="0.5",
        pids_limit=20,
        cap_add=("NET_ADMIN",),
        cap_drop=("ALL",),
        read_only=True,
        volumes=("/data:/inside:ro", "/anonymous"),
        tmpfs=("/run:size=1m",),
        ulimits=("nofile=64:128",),
        restart="on-failure:3",
    )
    host = body(options)["HostConfig"]
    assert host["Memory"] == 64 << 20
    assert host["NanoCpus"] == 500_000_000
    assert host["PidsLimit"] == 20
    assert (host["CapAdd"], host["CapDrop"]) == (["NET_ADMIN"], ["ALL"])
    assert host["ReadonlyRootfs"] is True
    assert host["Binds"] == ["/data:/inside:ro"]
    assert host["Tmpfs"] == {"/run": "size=1m"}
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 64, "Hard": 128}]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert body(options)["Volumes"] == {"/anonymous": {}}


def test_an_empty_entrypoint_resets_the_images_own() -> None:
    assert body(Options(image="x", entrypoint=""))["Entrypoint"] == [""]


def test_stdin_of_an_attached_interactive_container_is_read_once() -> None:
    made = body(Options(image="x", interactive=True))
    assert (made["OpenStdin"], made["StdinOnce"], made["AttachStdin"]) == (True, True, True)
    made = body(Options(image="x", interactive=True, detach=True))
    assert (made["OpenStdin"], made["StdinOnce"], made["AttachStdin"]) == (True, False, False)


def test_what_checks_health_becomes_the_apis_document() -> None:
    made = body(Options(image="busybox", health_cmd="test -f /up", health_interval="1m30s", health_retries=2))
    assert made["Healthcheck"] == {"Test": ["CMD-SHELL", "test -f /up"], "Interval": 90 * 10**9, "Retries": 2}
    assert body(Options(image="busybox", no_healthcheck=True))["Healthcheck"] == {"Test": ["NONE"]}
    assert "Healthcheck" not in body(Options(image="busybox"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"no_healthcheck": True, "health_cmd": "true"}, "--no-healthcheck conflicts with --health-\\* options"),
        ({"health_interval": "soon"}, 'invalid argument "soon" for "--health-interval" flag'),
        ({"health_timeout": "-1s"}, "--health-timeout cannot be negative"),
        ({"health_retries": -1}, "--health-retries cannot be negative"),
        ({"annotations": ("word",)}, "key=value is needed"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        body(Options(image="busybox", **flags))


def test_flags_of_the_machine_arrive_under_the_apis_names() -> None:
    host = body(
        Options(
            image="busybox",
            log_opts=("max-size=1m",),
            annotations=("a=b",),
            cgroupns="host",
            runtime="runc",
            oom_score_adj=500,
            device_cgroup_rules=("c 42:* rwm",),
            dns_options=("ndots:2",),
            memory_reservation="16m",
            memory_swappiness=0,
            cpu_period=50_000,
            cpu_quota=25_000,
        )
    )["HostConfig"]
    assert host["LogConfig"] == {"Type": "", "Config": {"max-size": "1m"}}
    assert (host["Annotations"], host["CgroupnsMode"], host["Runtime"]) == ({"a": "b"}, "host", "runc")
    assert (host["OomScoreAdj"], host["MemoryReservation"], host["MemorySwappiness"]) == (500, 16 << 20, 0)
    assert (host["DeviceCgroupRules"], host["DnsOptions"]) == (["c 42:* rwm"], ["ndots:2"])
    assert (host["CpuPeriod"], host["CpuQuota"]) == (50_000, 25_000)
