"""What other people's software reads of the API: fields, headers, filters, and errors where a request is wrong."""

from __future__ import annotations

import datetime as dt
import http.client
import io
import json
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from tests.support.daemon import Daemon, UnixConnection

pytestmark = pytest.mark.needs_root


@pytest.fixture
def two(ready: Daemon) -> Iterator[tuple[Any, Any]]:
    """Two created containers, the older first."""
    older = ready.sdk.containers.create("busybox", "true", name="older", labels={"kind": "a", "x": "1"})
    newer = ready.sdk.containers.create(
        "busybox", ["sleep", "60"], name="newer", labels={"kind": "b"}, ports={"80/tcp": None, "53/udp": None}
    )
    yield older, newer
    older.remove(force=True)
    newer.remove(force=True)


def listed(ready: Daemon, **filters: str | list[str]) -> list[str]:
    """The names that `ps -a` shows with these filters, sorted."""
    return sorted(one.name for one in ready.sdk.containers.list(all=True, filters=filters, ignore_removed=True))


def tags(ready: Daemon, **filters: str) -> list[str]:
    """The names of the images that these filters choose, sorted."""
    return sorted(tag for one in ready.sdk.images.list(filters=filters) for tag in one.tags)


def exchange(ready: Daemon, method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
    """One answer, its body read into `.text`."""
    connection = UnixConnection(ready.socket)
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    answer.text = answer.read().decode()  # type: ignore[attr-defined]
    connection.close()
    return answer


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"before": "newer"}, ["older"]),
        ({"since": "older"}, ["newer"]),
        ({"name": "^/?old"}, ["older"]),
        ({"name": "er$"}, ["newer", "older"]),
        ({"label": ["kind=a", "x"]}, ["older"]),
        ({"label": ["kind=a", "y"]}, []),
        ({"publish": "80"}, ["newer"]),
        ({"publish": "79-81/tcp"}, ["newer"]),
        ({"expose": "53/udp"}, ["newer"]),
        ({"expose": "53"}, []),
        ({"is-task": "false"}, ["newer", "older"]),
        ({"is-task": "true"}, []),
        ({"ancestor": "busybox"}, ["newer", "older"]),
        ({"ancestor": "nothing"}, []),
        ({"network": "bridge"}, ["newer", "older"]),
        ({"status": "running"}, []),
        ({"health": "none"}, ["newer", "older"]),
    ],
)
def test_a_filter_shows_what_docker_shows(
    ready: Daemon, two: tuple[Any, Any], filters: dict[str, Any], names: list[str]
) -> None:
    assert listed(ready, **filters) == names


@pytest.mark.parametrize(
    ("filters", "status", "words"),
    [
        ({"nonsense": ["1"]}, 400, "invalid filter 'nonsense'"),
        ({"status": ["asleep"]}, 400, "invalid filter 'status=asleep'"),
        ({"health": ["poorly"]}, 400, "unrecognized filter value for health: poorly"),
        ({"is-task": ["perhaps"]}, 400, "invalid filter 'is-task=[perhaps]'"),
        ({"exited": ["never"]}, 400, "invalid filter 'exited=never'"),
        ({"publish": ["none"]}, 400, "invalid port"),
        ({"before": ["nobody"]}, 404, "No such container: nobody"),
    ],
)
def test_a_filter_that_says_nothing_is_refused(ready: Daemon, filters: Any, status: int, words: str) -> None:
    found, body = ready.get(f"/containers/json?filters={urllib.parse.quote(json.dumps(filters))}")
    assert found == status
    assert words in body["message"]


def test_sizes_are_told_where_they_are_asked_for(ready: Daemon) -> None:
    made = ready.sdk.containers.run("busybox", ["dd", "if=/dev/zero", "of=/big", "bs=1M", "count=2"], detach=True)
    try:
        made.wait()
        (row,) = ready.get("/containers/json?all=1&size=1")[1]
        assert row["SizeRw"] >= 2 << 20
        assert row["SizeRootFs"] > row["SizeRw"]
        shown = ready.get(f"/containers/{made.id}/json?size=1")[1]
        assert (shown["SizeRw"], shown["SizeRootFs"]) == (row["SizeRw"], row["SizeRootFs"])
        assert "SizeRw" not in ready.get("/containers/json?all=1")[1][0]
    finally:
        made.remove()


def test_images_are_chosen_by_their_names_labels_and_times(ready: Daemon) -> None:
    sdk = ready.sdk
    base = sdk.images.get("busybox")
    base.tag("mine/thing", "1")
    made, _ = sdk.images.build(fileobj=io.BytesIO(b"FROM busybox\nLABEL of=test\n"), tag="later:1")
    try:
        assert tags(ready, reference="mine/*") == ["busybox:latest", "mine/thing:1"]  # the image, with all its names
        assert tags(ready, reference="*thing") == []
        assert tags(ready, label="of=test") == ["later:1"]
        assert "later:1" in tags(ready, since="busybox")
        assert "later:1" not in tags(ready, before="later:1")
        shares = {
            row["Id"]: row["SharedSize"] for row in sdk.api._get(sdk.api._url("/images/json?shared-size=1")).json()
        }
        assert shares[made.id] > 0
        with pytest.raises(docker.errors.APIError, match="invalid filter 'dangling="):
            sdk.images.list(filters={"dangling": "perhaps"})
        with pytest.raises(docker.errors.NotFound, match="No such image"):
            sdk.images.list(filters={"since": "nothing"})
    finally:
        sdk.images.remove("later:1")
        sdk.images.remove("mine/thing:1")


def test_inspect_tells_of_the_root_and_leaves_out_what_nobody_said(ready: Daemon, two: tuple[Any, Any]) -> None:
    shown = ready.sdk.api.inspect_container("newer")
    name = ready.sdk.info()["Driver"]
    assert (shown["Driver"], shown["GraphDriver"]["Name"]) == (name, name)
    assert shown["GraphDriver"]["Data"]["UpperDir"].startswith(str(ready.root))
    assert ready.sdk.images.get("busybox").attrs["GraphDriver"]["Name"] == name
    assert not {"Healthcheck", "StopSignal", "Shell"} & set(shown["Config"])
    assert shown["Config"]["Domainname"] == ""
    host = shown["HostConfig"]
    assert "/proc/kcore" in host["MaskedPaths"] and "/proc/sys" in host["ReadonlyPaths"]
    assert (host["ConsoleSize"], host["OomKillDisable"], host["ContainerIDFile"]) == ([0, 0], False, "")
    assert "Sysctls" not in host


def test_info_counts_what_is_paused(ready: Daemon, two: tuple[Any, Any]) -> None:
    _, newer = two
    newer.start()
    newer.pause()
    told = ready.sdk.info()
    assert [told[f"Containers{word}"] for word in ("", "Running", "Paused", "Stopped")] == [2, 0, 1, 1]


def test_every_answer_says_which_versions_there_are(ready: Daemon) -> None:
    for method, path in (("GET", "/v1.47/info"), ("GET", "/containers/none/json"), ("HEAD", "/_ping")):
        answer = exchange(ready, method, path)
        found = [answer.headers[name] for name in ("Api-Version", "Ostype", "Docker-Experimental")]
        assert found == ["1.47", "linux", "false"], path


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/nothere", 404, "page not found"),
        ("POST", "/v1.41/info", 404, "page not found"),
        ("HEAD", "/info", 404, ""),
        ("OPTIONS", "/v1.41/containers/json", 200, ""),
        ("GET", "/v1.99/info", 400, "client version 1.99 is too new. Maximum supported API version is 1.47"),
        ("GET", "/v2.0/info", 400, "client version 2.0 is too new"),
        ("GET", "/v1.12/info", 400, "client version 1.12 is too old. Minimum supported API version is 1.24"),
        ("POST", "/auth", 400, "invalid request body"),
        ("POST", "/containers/create", 400, "config cannot be empty in order to create a container"),
    ],
)
def test_what_is_no_request_is_answered_as_docker_does(
    ready: Daemon, method: str, path: str, status: int, words: str
) -> None:
    answer = exchange(ready, method, path)
    assert answer.status == status
    assert words in answer.text  # type: ignore[attr-defined]


def test_a_body_that_is_no_json_by_its_own_word_is_refused(ready: Daemon) -> None:
    headers = {"Content-Type": "text/plain"}
    answer = exchange(ready, "POST", "/containers/create", '{"Image": "busybox"}', **headers)
    assert answer.status == 400
    assert "unsupported Content-Type header (text/plain): must be 'application/json'" in answer.text  # type: ignore[attr-defined]


def test_one_connection_carries_many_requests(ready: Daemon) -> None:
    connection = UnixConnection(ready.socket)
    try:
        for path, status in (("/_ping", 200), ("/nothere", 404), ("/version", 200)):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
        connection.request(  # a body in chunks, whose length nobody knows before
            "POST",
            "/containers/create",
            iter([b'{"Image": ', b'"nothing:1"}']),
            {"Content-Type": "application/json", "Transfer-Encoding": "chunked"},
            encode_chunked=True,
        )
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["message"]) == (404, "No such image: nothing:1")
    finally:
        connection.close()


def test_a_registry_is_asked_about_an_image(ready: Daemon) -> None:
    told = ready.sdk.api.inspect_distribution("busybox:latest")
    assert told["Descriptor"]["digest"] in ready.sdk.images.get("busybox").attrs["RepoDigests"][0]
    assert told["Platforms"] == [{"architecture": ready.sdk.version()["Arch"], "os": "linux"}]
    with pytest.raises(docker.errors.APIError):
        ready.sdk.api.inspect_distribution("busybox:never")


def test_events_are_chosen_by_the_beginning_of_a_name(ready: Daemon, two: tuple[Any, Any]) -> None:
    wanted = [{"container": "new"}, {"container": two[1].id[:7]}, {"image": "busybox", "label": "kind=b"}]
    begun = int(docker.utils.datetime_to_timestamp(dt.datetime.fromisoformat(two[1].attrs["Created"][:19])))
    for filters in wanted:
        until = int(time.time()) + 1
        found = ready.sdk.events(since=begun, until=until, decode=True, filters={**filters, "event": "create"})
        made = [event["Actor"]["ID"] for event in found]
        assert two[1].id in made
        assert two[0].id not in made
