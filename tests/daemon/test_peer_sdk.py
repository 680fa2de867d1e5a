"""What the suite of Docker's own SDK for Python expects of containers and images, in tests of our own."""

from __future__ import annotations

from typing import Any

import docker
import pytest

from tests.support.daemon import Daemon

pytestmark = pytest.mark.needs_root


def host_config(ready: Daemon, **options: Any) -> dict[str, Any]:
    """The HostConfig that a container shows which was created with these options."""
    made = ready.sdk.containers.create("busybox", "true", **options)
    try:
        found: dict[str, Any] = ready.sdk.api.inspect_container(made.id)["HostConfig"]
        return found
    finally:
        made.remove()


def test_a_bare_variable_is_shown_and_not_set(ready: Daemon) -> None:
    made = ready.sdk.containers.create("busybox", "env", environment={"BARE": None, "BLANK": ""})
    try:
        assert {"BARE", "BLANK="} <= set(made.attrs["Config"]["Env"])
        made.start()
        made.wait()
        names = [line.partition("=")[0] for line in made.logs().decode().splitlines()]
        assert "BLANK" in names and "BARE" not in names
    finally:
        made.remove()


def test_defaults_are_shown_by_their_names(ready: Daemon) -> None:
    logs = docker.types.LogConfig(type="", config={"max-file": "100"})
    host = host_config(ready, log_config=logs)
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "100"}}
    assert host["Runtime"] == ready.sdk.info()["DefaultRuntime"]


def test_swappiness_is_kept_and_checked(ready: Daemon) -> None:
    assert host_config(ready, mem_swappiness=40)["MemorySwappiness"] == 40
    with pytest.raises(docker.errors.APIError, match="valid memory swappiness range is 0-100"):
        host_config(ready, mem_swappiness=101)


def test_an_unknown_log_driver_is_named(ready: Daemon) -> None:
    with pytest.raises(docker.errors.APIError, match="no log driver named 'nowhere' is registered"):
        host_config(ready, log_config=docker.types.LogConfig(type="nowhere"))


def test_the_propagation_of_a_bind_is_shown(ready: Daemon) -> None:
    asked = ready.sdk.api.create_host_config(binds=[f"{ready.folder}:/data:ro,rshared"])
    made = ready.sdk.containers.get(ready.sdk.api.create_container("busybox", "true", host_config=asked)["Id"])
    try:
        (mount,) = made.attrs["Mounts"]
        assert (mount["RW"], mount["Propagation"]) == (False, "rshared")
    finally:
        made.remove(v=True)


def test_attach_gives_what_was_written_before(ready: Daemon) -> None:
    made = ready.sdk.containers.run("busybox", "echo hello", detach=True)
    try:
        made.wait()
        assert made.attach(stream=False, logs=True) == b"hello\n"
        assert made.attach(stream=False, logs=False) == b""
    finally:
        made.remove()
