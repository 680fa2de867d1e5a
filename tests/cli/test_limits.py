"""`glassdock stats` and `update`, against a real engine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from glassdock.client.limits import Usage, usage
from tests.support.daemon import Daemon

COMMAND = (sys.executable, "-m", "glassdock")


@pytest.fixture
def life(engine: Daemon) -> Iterator[str]:
    """A container that is busy."""
    engine.docker("pull", "-q", "busybox")
    engine.docker("run", "-d", "--name", "limited", "-m", "64m", "busybox", "sh", "-c", "while :; do :; done")
    yield "limited"
    engine.docker("rm", "-f", "limited")


def glassdock(engine: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, env=engine.env, timeout=60, check=False)


@pytest.mark.needs_root
def test_stats_are_one_line_a_container(engine: Daemon, life: str) -> None:
    done = glassdock(engine, "stats", "--no-stream", life)
    header, line = done.stdout.splitlines()
    assert header.split("  ")[0] == "CONTAINER ID"
    assert header.rstrip().endswith("PIDS")
    assert line.split()[1] == life
    assert "/ 64MiB" in line
    share = glassdock(engine, "stats", "--no-stream", "--format", "{{.CPUPerc}}", life).stdout
    assert float(share.rstrip("%\n")) > 3
    row = json.loads(glassdock(engine, "container", "stats", "--no-stream", "--format", "json", life).stdout)
    assert (row["Name"], row["PIDs"]) == (life, "1")
    engine.docker("kill", life)
    assert (
        glassdock(engine, "stats", "-a", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}")
        .stdout.splitlines()[-1]
        .startswith(f"{life} -- / --")
    )
    assert "No such container" in glassdock(engine, "stats", "--no-stream", "nobody").stderr


@pytest.mark.needs_root
def test_stats_go_on_until_they_are_interrupted(engine: Daemon, life: str) -> None:
    # What a shell starts in its background ignores SIGINT, and so would this.
    command = ["env", "--default-signal=INT", *COMMAND, "stats", "--format", "{{.Name}}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=engine.env) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [f"{life}\n"] * 2
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait() == 130


@pytest.mark.needs_root
def test_update_changes_limits_and_says_what_is_wrong(engine: Daemon, life: str) -> None:
    flags = ("-m", "32m", "--memory-swap", "64m", "--cpus", "0.5", "--pids-limit", "9", "--restart", "on-failure:2")
    assert glassdock(engine, "update", *flags, life).stdout == f"{life}\n"
    host = json.loads(engine.docker("inspect", "-f", "{{json .HostConfig}}", life).stdout)
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (32 << 20, 500_000_000, 9)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    for words, message in (
        (("-m", "1m", life), "Minimum memory limit allowed is 6MB"),
        (("-m", "much", life), "invalid size"),
        (("--restart", "on-failure:x", life), "must be an integer"),
        ((life,), "you must provide one or more flags"),
        (("--cpus", "1", "nobody"), "No such container: nobody"),
    ):
        done = glassdock(engine, "update", *words)
        assert done.returncode == 1
        assert message in done.stderr


def test_a_line_is_the_difference_of_two_looks() -> None:
    def look(total: int, machine: int) -> dict[str, object]:
        operations = [{"op": "Read", "value": 5}, {"op": "write", "value": 7}, {"op": "Total", "value": 12}]
        return {
            "id": "a" * 64,
            "name": "/x",
            "cpu_stats": {"cpu_usage": {"total_usage": total}, "system_cpu_usage": machine, "online_cpus": 2},
            "memory_stats": {"usage": 100, "limit": 200, "stats": {"inactive_file": 40}},
            "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
            "blkio_stats": {"io_service_bytes_recursive": operations},
            "pids_stats": {"current": 3},
        }

    assert usage(look(150, 1200), look(100, 1000)) == Usage("a" * 64, "x", True, 50.0, 60, 200, 11, 22, 5, 7, 3)
    assert usage(look(150, 1200), None).cpu == 0.0
