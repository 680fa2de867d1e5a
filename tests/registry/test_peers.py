"""Other people's programs: images move between skopeo, docker-registry and ours with their digests unchanged."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from glassdock.oci.reference import Reference
from glassdock.registry.client import Client
from tests.registry.support import (
    Image,
    docker_registry,
    our_registry,
    pull,
    push,
    random_image,
    random_index,
    run,
    write_layout,
)

pytestmark = pytest.mark.needs("skopeo")

PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")


@pytest.fixture
async def ours(tmp_path: Path) -> AsyncIterator[str]:
    """Our registry."""
    async with our_registry(tmp_path / "ours") as address:
        yield address


async def skopeo(*arguments: str) -> str:
    """Run skopeo; gives its output."""
    status, output = await run("skopeo", "--insecure-policy", *arguments)
    assert status == 0, output
    return output


async def copy(source: str, target: str, *more: str) -> None:
    """skopeo copy, all images of an index, digests kept."""
    await skopeo("copy", "--all", "--preserve-digests", *PLAIN, *more, source, target)


@pytest.mark.parametrize("sent", [random_image(1, size=50_000), random_index(3)], ids=["image", "index"])
async def test_skopeo_pushes_to_us_and_pulls_from_us(ours: str, tmp_path: Path, sent: Image) -> None:
    write_layout(tmp_path / "in", "1", sent)
    await copy(f"oci:{tmp_path}/in:1", f"docker://{ours}/team/app:1")
    client = Client()
    assert await pull(client, Reference.parse(f"{ours}/team/app:1")) == sent
    await client.close()
    await copy(f"docker://{ours}/team/app:1", f"oci:{tmp_path}/out:1")
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert [one["digest"] for one in index["manifests"]] == [sent.digest]


@pytest.mark.needs("docker-registry")
@pytest.mark.parametrize(
    "sent", [random_image(1), random_image(2, docker=True), random_index(3)], ids=["oci", "docker", "index"]
)
async def test_from_dockers_registry_to_ours_and_back(ours: str, tmp_path: Path, sent: Image) -> None:
    async with docker_registry(tmp_path / "docker") as theirs:
        client = Client()
        await push(client, Reference.parse(f"{theirs}/a:1"), sent)
        await copy(f"docker://{theirs}/a:1", f"docker://{ours}/b/c:1")
        await copy(f"docker://{ours}/b/c:1", f"docker://{theirs}/d:1")
        for reference in (f"{ours}/b/c:1", f"{theirs}/d:1"):
            assert await pull(client, Reference.parse(reference)) == sent
        await client.close()


async def test_skopeo_inspects_lists_and_deletes(ours: str) -> None:
    client = Client()
    sent = random_image(1)
    for tag in ("1", "2", "latest"):
        await push(client, Reference.parse(f"{ours}/team/app:{tag}"), sent)
    await client.close()
    listed = json.loads(await skopeo("list-tags", "--tls-verify=false", f"docker://{ours}/team/app"))
    assert listed["Tags"] == ["1", "2", "latest"]
    inspected = json.loads(await skopeo("inspect", "--tls-verify=false", f"docker://{ours}/team/app:1"))
    assert inspected["Digest"] == sent.digest
    await skopeo("delete", "--tls-verify=false", f"docker://{ours}/team/app:1")  # deletes the manifest
    listed = json.loads(await skopeo("list-tags", "--tls-verify=false", f"docker://{ours}/team/app"))
    assert listed["Tags"] == []


async def test_skopeo_converts_to_dockers_format_on_its_way_to_us(ours: str, tmp_path: Path) -> None:
    write_layout(tmp_path / "in", "1", random_image(1))
    target = f"docker://{ours}/app:docker"
    await skopeo("copy", "--format", "v2s2", *PLAIN, f"oci:{tmp_path}/in:1", target)
    raw = json.loads(await skopeo("inspect", "--raw", "--tls-verify=false", target))
    assert raw["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"


async def test_skopeo_logs_in(tmp_path: Path) -> None:
    write_layout(tmp_path / "in", "1", random_image(1))
    async with our_registry(tmp_path / "ours", {"me": "secret"}) as address:
        target = f"docker://{address}/app:1"
        status, output = await run("skopeo", "--insecure-policy", "copy", *PLAIN, f"oci:{tmp_path}/in:1", target)
        assert status != 0
        assert "authentication required" in output
        await skopeo("copy", *PLAIN, "--dest-creds", "me:secret", f"oci:{tmp_path}/in:1", target)


async def test_skopeo_is_told_what_is_not_there(ours: str) -> None:
    status, output = await run("skopeo", "inspect", "--tls-verify=false", f"docker://{ours}/nothing:1")
    assert status != 0
    assert "manifest unknown" in output
