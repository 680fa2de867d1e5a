"""A request is checked and merged with the image's defaults by Docker's rules."""

from __future__ import annotations

import pytest

from glassdock.containers.config import Config, CreateRequest, HostConfig, merge, merge_env
from glassdock.containers.config import refuse_unsupported as refuse
from glassdock.errors import InvalidParameter, NotSupported
from glassdock.oci.image import ContainerConfig

IMAGE = ContainerConfig(cmd=("serve",), entrypoint=("/init",), env=("A=1", "B=2"), user="app", labels={"x": "image"})


def test_the_body_of_the_official_client_is_read() -> None:
    body = b"""{"Hostname":"","Cmd":["echo","hi"],"Image":"busybox","Entrypoint":null,"Tty":false,"Unknown":1,
        "HostConfig":{"AutoRemove":true,"NetworkMode":"default","ConsoleSize":[24,80],"RestartPolicy":
        {"Name":"no","MaximumRetryCount":0},"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}},
        "NetworkingConfig":{"EndpointsConfig":{"default":null}}}"""
    request = CreateRequest.parse(body)
    assert request.config.cmd == ("echo", "hi")
    assert request.host.auto_remove
    assert request.host.port_bindings is not None


def test_a_wrong_type_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidParameter, match=r"\$\.Env"):
        CreateRequest.parse(b'{"Image":"x","Env":"A=1"}')


def test_a_command_replaces_the_images_command_and_keeps_its_entrypoint() -> None:
    merged = merge(Config(cmd=("other",)), IMAGE)
    assert (merged.entrypoint, merged.cmd) == (("/init",), ("other",))


def test_an_entrypoint_drops_the_images_command() -> None:
    merged = merge(Config(entrypoint=("sh",)), IMAGE)
    assert (merged.entrypoint, merged.cmd) == (("sh",), ())


def test_an_empty_entrypoint_clears_the_images_one() -> None:
    merged = merge(Config(entrypoint=("",), cmd=("ls",)), IMAGE)
    assert (merged.entrypoint, merged.cmd) == (None, ("ls",))


def test_nothing_to_run_is_refused_in_dockers_words() -> None:
    with pytest.raises(InvalidParameter, match="no command specified"):
        merge(Config(), ContainerConfig())


def test_the_containers_values_win_over_the_images() -> None:
    merged = merge(Config(env=("B=3", "C=4"), user="root", labels={"x": "mine", "y": "2"}), IMAGE)
    assert merged.env == ("A=1", "B=3", "C=4")
    assert merged.user == "root"
    assert merged.labels == {"x": "mine", "y": "2"}


def test_a_bare_name_is_recorded_instead_of_the_images_value() -> None:
    assert merge_env(("A=1", "B=2"), ("A",)) == ("A", "B=2")


def test_an_option_that_is_not_built_is_refused_and_named() -> None:
    with pytest.raises(NotSupported, match="--links"):
        refuse(HostConfig(links=("a:b",)))
