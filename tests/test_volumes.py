"""Volumes without containers: names, options, whose they are, and what a killed daemon leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glassdock.errors import Conflict, GlassdockError, InvalidParameter, NotFound
from glassdock.events import Bus
from glassdock.paths import Paths
from glassdock.volumes import ANONYMOUS, Volumes


def opened(root: Path) -> Volumes:
    """The volumes of a state folder, as a daemon that starts sees them."""
    paths = Paths.of(root)
    paths.make()
    volumes = Volumes(paths, Bus())
    volumes.load()
    return volumes


def test_a_volume_is_a_folder_and_stays(tmp_path: Path) -> None:
    made = opened(tmp_path).create("data", labels={"a": "b"})
    (opened(tmp_path).data("data") / "file").write_text("kept")
    again = opened(tmp_path)
    assert again.get("data") == made and again.get("data").labels == {"a": "b"}
    assert (again.data("data") / "file").read_text() == "kept"
    assert again.usage("data") == 4


def test_the_same_name_is_the_same_volume(tmp_path: Path) -> None:
    volumes = opened(tmp_path)
    assert volumes.create("data") is volumes.create("data", labels={"other": ""})


def test_without_a_name_it_is_anonymous(tmp_path: Path) -> None:
    made = opened(tmp_path).create()
    assert len(made.name) == 64 and int(made.name, 16) >= 0
    assert made.anonymous and ANONYMOUS in made.labels


@pytest.mark.parametrize("name", ["a", "../x", "a/b", ".hidden", "-x", "a b", "ä" * 3, "x" * 256])
def test_a_name_that_is_no_folder_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidParameter, match=r"includes invalid characters|too short"):
        opened(tmp_path).create(name)
    assert os.listdir(tmp_path / "volumes") == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"what": "1"}, 'invalid option: "what"'),
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"o": "ro"}, 'missing required option: "device"'),
        ({"device": "/x"}, 'missing required option: "type"'),
        ({"size": "1g"}, "no quota support"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        opened(tmp_path).create("data", options=options)


def test_there_is_one_driver(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="error looking up volume plugin far"):
        opened(tmp_path).create("data", driver="far")


async def test_what_a_container_has_is_not_removed(tmp_path: Path) -> None:
    volumes = opened(tmp_path)
    volumes.create("data")
    volumes.hold("data", "c1")
    for force in (False, True):
        with pytest.raises(Conflict, match=r"remove data: volume is in use - \[c1\]"):
            await volumes.remove("data", force=force)
    volumes.leave("c1", remove=True)
    await volumes.remove("data")
    with pytest.raises(NotFound, match="get data: no such volume"):
        await volumes.remove("data")
    await volumes.remove("data", force=True)
    assert os.listdir(tmp_path / "volumes") == []


def test_anonymous_volumes_go_with_the_last_of_their_containers(tmp_path: Path) -> None:
    volumes = opened(tmp_path)
    name = volumes.create("f" * 64, labels={ANONYMOUS: ""}, creator="c1").name
    volumes.create("named")
    for one in (name, "named"):
        volumes.hold(one, "c1")
        volumes.hold(one, "c2")
    assert volumes.leave("c1", {name}, remove=True) == []
    (gone,) = volumes.leave("c2", {name}, remove=True)
    volumes.erase(gone)
    assert [one.name for one in volumes.all()] == ["named"]


def test_what_is_kept_by_its_container_outlives_the_next_start(tmp_path: Path) -> None:
    volumes = opened(tmp_path)
    name = volumes.create("f" * 64, labels={ANONYMOUS: ""}, creator="c1").name
    volumes.hold(name, "c1")
    volumes.leave("c1", {name}, remove=False)
    again = opened(tmp_path)
    again.repair({})
    assert [one.name for one in again.all()] == [name]


def test_half_made_and_half_removed_volumes_go_at_start(tmp_path: Path) -> None:
    volumes = opened(tmp_path)
    volumes.create("whole")
    volumes.create("f" * 64, labels={ANONYMOUS: ""}, creator="never-recorded")
    (tmp_path / "volumes/.new-1/_data").mkdir(parents=True)
    (tmp_path / "volumes/.gone-1/_data/deep").mkdir(parents=True)
    (tmp_path / "volumes/.gone-1/volume.json").write_bytes((tmp_path / "volumes/whole/volume.json").read_bytes())
    (tmp_path / "volumes/whole/.fill-1").mkdir()
    again = opened(tmp_path)
    again.repair({})
    assert [one.name for one in again.all()] == ["whole"]
    assert os.listdir(tmp_path / "volumes") == ["whole"]
    assert sorted(os.listdir(tmp_path / "volumes/whole")) == ["_data", "volume.json"]


@pytest.mark.needs_root
async def test_options_are_mounted_while_somebody_uses_it(tmp_path: Path) -> None:
    volumes = opened(tmp_path)
    volumes.create("fast", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,nodev"})
    data = await volumes.mount("fast", "c1")
    await volumes.mount("fast", "c2")
    (data / "file").write_text("in memory")
    volumes.unmount("c1")
    assert (data / "file").exists()
    volumes.unmount("c2")
    assert os.listdir(data) == []


@pytest.mark.needs_root
async def test_a_bound_folder_survives_its_volume(tmp_path: Path) -> None:
    (folder := tmp_path / "mine").mkdir()
    (folder / "file").write_text("mine")
    volumes = opened(tmp_path / "state")
    volumes.create("bound", options={"type": "none", "device": str(folder), "o": "bind,ro"})
    assert volumes.usage("bound") == -1
    data = await volumes.mount("bound", "c1")
    with pytest.raises(OSError, match="Read-only"):
        (data / "other").touch()
    # The daemon dies; the next one knows of nobody who uses it.
    again = opened(tmp_path / "state")
    again.settle()
    assert os.listdir(data) == []
    await again.mount("bound", "c2")
    await again.remove("bound")
    assert (folder / "file").read_text() == "mine"


@pytest.mark.needs_root
async def test_what_cannot_be_mounted_is_told_as_docker_does(tmp_path: Path) -> None:
    volumes = opened(tmp_path)
    volumes.create("lost", options={"type": "none", "device": str(tmp_path / "none"), "o": "bind"})
    with pytest.raises(GlassdockError, match=r"failed to mount local volume: mount .*: no such file or directory"):
        await volumes.mount("lost", "c1")
