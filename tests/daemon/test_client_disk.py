"""What takes space and giving it back, by the official client: system df, the prunes; and what is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker")]


def test_df_counts_what_there_is(ready: Daemon) -> None:
    ready.docker("run", "--name", "grown", "busybox", "sh", "-c", "dd if=/dev/zero of=/big bs=1k count=300")
    try:
        rows = [json.loads(line) for line in ready.docker("system", "df", "--format", "{{json .}}").stdout.splitlines()]
        assert [row["Type"] for row in rows] == ["Images", "Containers", "Local Volumes", "Build Cache"]
        (own,) = (row for row in ready.get("/system/df?type=container")[1]["Containers"] if row["Names"] == ["/grown"])
        assert 300 * 1024 <= own["SizeRw"] < own["SizeRootFs"]
        assert "busybox" in ready.docker("system", "df", "-v").stdout
    finally:
        ready.docker("rm", "grown")


def test_prune_takes_what_has_ended_and_nothing_else(ready: Daemon) -> None:
    ready.docker("run", "--name", "ended", "--label", "heap=a", "busybox", "sh", "-c", "echo content > /file")
    ready.docker("create", "--name", "other", "--label", "heap=b", "busybox")
    ready.docker("run", "-d", "--name", "alive", "--label", "heap=a", "busybox", "sleep", "100")
    try:
        old = ready.docker("container", "prune", "-f", "--filter", "label=heap", "--filter", "until=1h").stdout
        assert old == "Total reclaimed space: 0B\n"
        shown = ready.docker("container", "prune", "-f", "--filter", "label=heap=a").stdout
        assert "Total reclaimed space: 8B" in shown
        left = ready.docker("ps", "-a", "--filter", "label=heap", "--format", "{{.Names}}").stdout.split()
        assert left == ["alive", "other"]
    finally:
        ready.docker("rm", "-f", "ended", "other", "alive", check=False)


def test_prune_of_images_keeps_names_and_what_is_used(ready: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo waste > /waste\nLABEL heap=images\n")
    ready.docker("build", "-q", "-t", "waste:1", str(tmp_path))
    ready.docker("create", "--name", "holds", "waste:1")
    everything = ("image", "prune", "-a", "-f", "--filter", "label=heap=images")
    try:
        assert "Total reclaimed space: 0B" in ready.docker(*everything).stdout
        ready.docker("rm", "holds")
        assert "Deleted" not in ready.docker("image", "prune", "-f", "--filter", "label=heap=images").stdout
        shown = ready.docker(*everything).stdout
        assert "untagged: waste:1" in shown and "deleted: sha256:" in shown
    finally:
        ready.docker("rm", "-f", "holds", check=False)
        ready.docker("rmi", "-f", "waste:1", check=False)


def test_prune_of_the_build_cache_gives_its_layers_back(ready: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN dd if=/dev/zero of=/cached bs=1k count=64\n")
    ready.docker("build", "-q", "-t", "cached:1", str(tmp_path))
    ready.docker("rmi", "cached:1")
    ready.docker("builder", "prune", "-f")
    assert ready.get("/system/df?type=build-cache")[1]["BuildCache"] == []
    ready.docker("system", "prune", "-f", "--filter", "label=nobody")


@pytest.mark.parametrize("until", ["soon", "24x"])
def test_a_moment_that_is_none_is_refused(ready: Daemon, until: str) -> None:
    ready.docker("create", "--name", "kept", "busybox")
    try:
        done = ready.docker("container", "prune", "-f", "--filter", f"until={until}", check=False)
        assert done.returncode == 1 and "invalid value for until" in done.stderr
    finally:
        ready.docker("rm", "kept")


def test_what_needs_a_swarm_says_so(ready: Daemon) -> None:
    for words in (("node", "ls"), ("service", "ls"), ("secret", "ls")):
        assert "This node is not a swarm manager" in ready.docker(*words, check=False).stderr
    assert ready.docker("plugin", "ls", "-q").stdout == ""
    done = ready.docker("inspect", "nothing-of-this-name", check=False)
    assert "No such object: nothing-of-this-name" in done.stderr
