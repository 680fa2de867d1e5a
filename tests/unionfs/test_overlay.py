"""Layers are there whole or not at all, and the kernel stacks as many as an image may have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glassdock.errors import Conflict, InvalidParameter, NotFound
from glassdock.linux import ids
from glassdock.oci import digest
from glassdock.paths import Paths
from glassdock.unionfs.mounts import Mount
from glassdock.unionfs.overlay import Snapshotter
from tests.support import modes
from tests.unionfs.support import in_mount_namespace

overlay = pytest.mark.skipif(os.environ.get(modes.DRIVER) == "copy", reason="about overlay alone")
SEE = """
import os, sys
from glassdock.unionfs.overlay import Snapshotter
from glassdock.paths import Paths
from pathlib import Path
from tests.support import modes
root, target, kind, name = sys.argv[1:]
snapshots = Snapshotter(Paths.of(Path(root)), modes.driver(Paths.of(Path(root))))
mount = snapshots.view(name) if kind == "view" else snapshots.mount_of(name)
mount.apply(target)
os.chdir(target)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def snapshots(root: Path) -> Snapshotter:
    return opened(root)


def opened(root: Path) -> Snapshotter:
    return Snapshotter(Paths.of(root), modes.driver(Paths.of(root)))


def stack(snapshots: Snapshotter, *layers: dict[str, str]) -> list[str]:
    """Chains with these files, each on top of the one before."""
    chains: list[str] = []
    for number, files in enumerate(layers):
        parent = chains[-1] if chains else None
        chains.append(digest.of(f"{parent} {number} {sorted(files)}".encode()))
        with snapshots.unpacking(chains[-1], parent) as folder:
            for name, text in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
    return chains


def see(root: Path, tmp_path: Path, kind: str, name: str, then: str) -> str:
    target = tmp_path / "merged"
    target.mkdir(exist_ok=True)
    return in_mount_namespace(SEE + then, root, target, kind, name)


def test_a_layer_is_not_there_before_it_is_whole(snapshots: Snapshotter) -> None:
    chain = digest.of(b"x")
    with snapshots.unpacking(chain, None) as folder:
        (folder / "file").touch()
        assert not snapshots.has(chain)
    assert snapshots.has(chain)
    assert (snapshots.layer_path(chain) / "file").exists()


def test_an_error_while_unpacking_leaves_nothing(snapshots: Snapshotter, root: Path) -> None:
    chain = digest.of(b"x")

    def fail() -> None:
        with snapshots.unpacking(chain, None) as folder:
            (folder / "file").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not snapshots.has(chain)
    assert os.listdir(root / "layers/tmp") == []


def test_a_layer_without_what_is_below_it_is_refused(snapshots: Snapshotter) -> None:
    with pytest.raises(NotFound), snapshots.unpacking(digest.of(b"x"), digest.of(b"missing")):
        pass
    assert snapshots.chains() == []


def test_of_two_who_make_the_same_layer_the_first_stays(snapshots: Snapshotter) -> None:
    chain = digest.of(b"x")
    with snapshots.unpacking(chain, None) as one, snapshots.unpacking(chain, None) as two:
        (one / "outer").touch()
        (two / "inner").touch()
    assert os.listdir(snapshots.layer_path(chain)) == ["inner"]


@overlay
def test_a_writable_layer_knows_its_chain(snapshots: Snapshotter) -> None:
    low, high = stack(snapshots, {"a": "1"}, {"b": "2"})
    mount = snapshots.prepare("one", high)
    assert mount.lowers == (str(snapshots.layer_path(high)), str(snapshots.layer_path(low)))
    assert mount == snapshots.mount_of("one")
    assert snapshots.keys() == {"one": high}
    with pytest.raises(Conflict):
        snapshots.prepare("one", low)


@overlay
def test_layers_made_ahead_are_like_others(snapshots: Snapshotter, root: Path) -> None:
    (chain,) = stack(snapshots, {"a": "1"})
    snapshots.warm(2)
    for key in ("one", "two", "three"):
        assert snapshots.prepare(key, chain) == snapshots.mount_of(key)
        assert os.listdir(snapshots.upper(key)) == []
    with pytest.raises(Conflict):
        snapshots.prepare("one", chain)
    snapshots.warm(1)
    snapshots.repair(["one"], [])
    assert os.listdir(root / "layers/tmp") == []
    snapshots.prepare("two", chain)


@pytest.mark.parametrize("key", ["", "..", "a/b", "../../etc", ".hidden", "x" * 200])
def test_a_key_cannot_be_a_path(snapshots: Snapshotter, key: str) -> None:
    with pytest.raises(InvalidParameter):
        snapshots.prepare(key, None)


def test_the_root_has_the_mode_of_the_image(snapshots: Snapshotter) -> None:
    chain = digest.of(b"x")
    with snapshots.unpacking(chain, None) as folder:
        folder.chmod(0o1777)
    snapshots.prepare("one", chain)
    assert snapshots.upper("one").stat().st_mode & 0o7777 == 0o1777


@pytest.mark.needs_root
def test_a_container_writes_on_top_and_the_image_stays(snapshots: Snapshotter, root: Path, tmp_path: Path) -> None:
    _, top = stack(snapshots, {"etc/a": "low", "etc/b": "low"}, {"etc/b": "high"})
    snapshots.prepare("one", top)
    then = """
print(open("etc/a").read(), open("etc/b").read())
os.unlink("etc/a"); open("new", "w").write("new")
print(sorted(os.listdir(".")), os.listdir("etc"))
"""
    assert see(root, tmp_path, "key", "one", then).splitlines() == ["low high", "['etc', 'new'] ['b']"]
    with snapshots.changed("one") as changed:
        assert sorted(os.listdir(changed)) == ["etc", "new"]
    assert snapshots.usage("one") == 3
    chain = digest.of(b"committed")
    snapshots.commit("one", chain)
    assert snapshots.keys() == {}
    assert see(root, tmp_path, "view", chain, "print(os.listdir('etc'))") == "['b']\n"


@pytest.mark.needs_root
def test_a_view_cannot_be_written(snapshots: Snapshotter, root: Path, tmp_path: Path) -> None:
    chains = stack(snapshots, {"a": "1"}, {"b": "2"})
    then = """
try:
    open("c", "w")
except OSError as error:
    print(error.errno)
"""
    for chain in chains:
        assert see(root, tmp_path, "view", chain, then) == "30\n"


@pytest.mark.needs_root
@pytest.mark.skipif(not ids.initial(), reason="a user namespace makes no devices")
def test_devices_in_a_root_open_nothing(snapshots: Snapshotter, root: Path, tmp_path: Path) -> None:
    snapshots.prepare("one", stack(snapshots, {"a": "1"})[0])
    then = """
os.mknod("null", 0o20666, os.makedev(1, 3))
try:
    open("null")
except OSError as error:
    print(error.errno)
"""
    assert see(root, tmp_path, "key", "one", then) == "13\n"


@pytest.mark.needs_root
@pytest.mark.parametrize("count", [1, 2, 120])
def test_an_image_of_many_layers_mounts(snapshots: Snapshotter, root: Path, tmp_path: Path, count: int) -> None:
    top = stack(snapshots, *({f"file{number}": "x"} for number in range(count)))[-1]
    snapshots.prepare("one", top)
    assert see(root, tmp_path, "key", "one", "print(len(os.listdir()))") == f"{count}\n"
    assert see(root, tmp_path, "view", top, "print(len(os.listdir()))") == f"{count}\n"


@overlay
@pytest.mark.needs_root
def test_an_older_kernel_mounts_many_layers_too(snapshots: Snapshotter, root: Path, tmp_path: Path) -> None:
    top = stack(snapshots, *({f"file{number}": "x"} for number in range(120)))[-1]
    snapshots.prepare("one", top)
    script = SEE.replace("mount.apply(target)", "mount._apply_by_descriptors(target)") + "print(len(os.listdir()))"
    (tmp_path / "merged").mkdir()
    assert in_mount_namespace(script, root, tmp_path / "merged", "key", "one") == "120\n"


@pytest.mark.needs_root
@pytest.mark.parametrize("count", [2, 120])
def test_a_state_folder_may_have_any_name(tmp_path: Path, count: int) -> None:
    root = tmp_path / "a:b,c\\d ü"
    snapshots = opened(root)
    snapshots.prepare("one", stack(snapshots, *({f"file{number}": "x"} for number in range(count)))[-1])
    assert see(root, tmp_path, "key", "one", "open('new', 'w'); print(len(os.listdir()))") == f"{count + 1}\n"
    assert (snapshots.upper("one") / "new").exists()


def test_a_scratch_root_is_empty_and_writable(snapshots: Snapshotter) -> None:
    mount = snapshots.prepare("one", None)
    assert os.listdir((*mount.lowers, mount.upper)[0]) == []
    assert mount.upper


def test_removing_what_is_not_there_is_no_error(snapshots: Snapshotter) -> None:
    snapshots.remove("nobody")
    snapshots.remove(digest.of(b"nothing"))


def test_repair_keeps_what_is_live(snapshots: Snapshotter, root: Path) -> None:
    base, image, _other = stack(snapshots, {"a": "1"}, {"b": "2"}, {"c": "3"})
    (held,) = stack(snapshots, {"held": "by a container"})
    snapshots.prepare("live", held)
    snapshots.prepare("dead", base)
    (root / "layers/tmp/half").mkdir()
    (root / "layers/active/killed").mkdir()
    opened(root).repair(["live"], [image])
    assert os.listdir(root / "layers/tmp") == []
    assert list(snapshots.keys()) == ["live"]
    assert set(snapshots.chains()) == {base, image, held}


def test_a_plan_tells_what_it_mounts() -> None:
    assert Mount(("/low",)).describe() == "bind /low (read-only)"
    assert Mount(("/a", "/b"), "/up", "/work").describe() == "overlay of 2 read-only layers and the writable /up"
    assert Mount(("/a", "/b")).describe() == "overlay of 2 read-only layers (read-only)"
