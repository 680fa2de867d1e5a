"""`-v`, `--mount`, `--volumes-from` and VOLUME are read by Docker's rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassdock.containers.config import Config, HostConfig, MountPoint
from glassdock.containers.mountpoints import Point, asked, entry
from glassdock.errors import InvalidParameter, NotFound


def points(*binds: str, volumes: tuple[str, ...] = (), **host: object) -> list[Point]:
    """What these options ask for."""
    config = Config(volumes={path: {} for path in volumes})
    return list(asked(config, HostConfig(binds=binds, **host), lambda name: others[name]))  # type: ignore[arg-type]


others = {"other": (Point("volume", "/data", "/v", name="v", named=True), Point("bind", "/host", "/h", writable=False))}


def test_a_bind_and_a_named_volume() -> None:
    bind, volume = points("/on//host/:/in/", "name:/data:ro,nocopy")
    assert (bind.type, bind.source, bind.destination, bind.propagation, bind.make) == (
        "bind",
        "/on/host",
        "/in",
        "rprivate",
        True,
    )
    assert (volume.type, volume.name, volume.writable, volume.copy, volume.named) == (
        "volume",
        "name",
        False,
        False,
        True,
    )


def test_anonymous_volumes_have_names_of_64_digits() -> None:
    one, two = points("/a", volumes=("/b",))
    assert len(one.name) == len(two.name) == 64 and one.name != two.name
    assert not one.named and one.copy


def test_what_is_asked_for_replaces_what_the_image_says() -> None:
    found = points("name:/data", volumes=("/data/", "data", "/t"), tmpfs={"/t": ""})
    assert [point.name for point in found] == ["name"]


def test_a_climbing_volume_ends_in_the_root() -> None:
    (point,) = points(volumes=("../../etc/../x",))
    assert point.destination == "/x"


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        (":/x", "invalid volume specification: ':/x'"),
        ("/x:ro", "invalid volume specification: '/x:ro'"),
        ("/x:/y:what", "invalid mode: what"),
        ("/x:/y:ro,rw", "invalid mode: ro,rw"),
        ("/x:/y:nocopy", "invalid mode: nocopy"),
        ("name:/y:rshared", "invalid mode: rshared"),
        ("name:y", "invalid mount path: 'y' mount path must be absolute"),
        ("name:/", "destination can't be '/'"),
    ],
)
def test_a_bind_that_means_nothing_is_refused(bind: str, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        points(bind)


def test_one_place_has_one_mount() -> None:
    with pytest.raises(InvalidParameter, match="Duplicate mount point: /x"):
        points("a1:/x", "b1:/x/")
    with pytest.raises(InvalidParameter, match="Duplicate mount point: /x"):
        points("a1:/x", tmpfs={"/x": ""})


def test_volumes_come_from_another_container(tmp_path: Path) -> None:
    volume, bind = points(volumes_from=("other",))
    assert volume.name == "v" and volume.writable and not bind.writable
    assert all(not point.writable for point in points(volumes_from=("other:ro",)))
    mine, _ = points("own:/data", volumes_from=("other",))
    assert mine.name == "own"
    with pytest.raises(InvalidParameter, match="invalid mode: nocopy"):
        points(volumes_from=("other:nocopy",))
    with pytest.raises(KeyError):
        points(volumes_from=("nobody",))


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (MountPoint("cluster", "/x"), "mount type unknown"),
        (MountPoint("volume", ""), "field Target must not be empty"),
        (MountPoint("volume", "/"), "destination can't be '/'"),
        (MountPoint("volume", "/x", read_only=True), "must not set ReadOnly mode when using anonymous volumes"),
        (MountPoint("volume", "/x", "vv", volume_options={"Subpath": "../x"}), "subpath must be a relative path"),
        (MountPoint("volume", "/x", "vv", volume_options={"Subpath": "/x"}), "subpath must be a relative path"),
        (MountPoint("volume", "/x", "vv", bind_options={"NonRecursive": True}), "BindOptions must not be specified"),
        (MountPoint("bind", "/x"), "field Source must not be empty"),
        (MountPoint("bind", "/x", "relative"), "mount path must be absolute"),
        (MountPoint("bind", "/x", "/no/such"), "bind source path does not exist: /no/such"),
        (MountPoint("bind", "/x", "/", bind_options={"Propagation": "far"}), "invalid propagation mode: far"),
        (MountPoint("tmpfs", "/x", "source"), "field Source must not be specified"),
    ],
)
def test_a_mount_that_means_nothing_is_refused(mount: MountPoint, words: str) -> None:
    with pytest.raises(InvalidParameter, match=f'invalid mount config for type "{mount.type}": .*{words}'):
        points(mounts=(mount,))


def test_read_only_holds_below_unless_it_is_not_to() -> None:
    assert "rro" in entry(points("/x:/y:ro")[0]).options
    (flat,) = points(
        mounts=(MountPoint("bind", "/x", "/", read_only=True, bind_options={"ReadOnlyNonRecursive": True}),)
    )
    assert {"ro", "rbind"} <= set(entry(flat).options) and "rro" not in entry(flat).options
    (alone,) = points(mounts=(MountPoint("bind", "/x", "/", bind_options={"NonRecursive": True}),))
    assert {"bind", "rprivate"} <= set(entry(alone).options)


def test_a_driver_that_is_not_here_is_named() -> None:
    with pytest.raises(NotFound, match='plugin "far" not found'):
        points("name:/x", volume_driver="far")
