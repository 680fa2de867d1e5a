"""A layer is told as additions, changes and deletions against what is below it."""

from __future__ import annotations

import os

import pytest

from glassdock.errors import NotFound
from glassdock.images.changes import Changes, changes
from glassdock.images.model import Image, LayerRecord, chain_ids
from glassdock.images.store import Store
from glassdock.unionfs import trees
from tests.images.support import Maker, Member, archive, hard_link, member

pytestmark = pytest.mark.needs_root

BASE = (
    member("etc/"),
    member("etc/passwd", "12345"),
    member("etc/hosts", "123"),
    member("opt/"),
    member("opt/a/"),
    member("opt/a/one", "1"),
    member("opt/a/two", "22"),
    member("opt/b", "333"),
    member("link", link="etc"),
)


def stack(maker: Maker, *layers: tuple[Member, ...]) -> Image:
    records: list[LayerRecord] = []
    for members in layers:
        parents = chain_ids(record.diff_id for record in records)
        records.append(maker.layer(archive(*members), parents[-1] if parents else None))
    return maker.of(records, ())


def of(store: Store, image: Image) -> Changes:
    assert image.chain_id is not None
    return changes(store.snapshotter, image.chain_id)


def test_the_lowest_layer_adds_all(store: Store, maker: Maker) -> None:
    found = of(store, stack(maker, BASE))
    assert ("/etc/passwd", 5) in found.added
    assert len(found.added) == len(BASE)
    assert (found.changed, found.deleted) == ((), ())


def test_added_changed_deleted(store: Store, maker: Maker) -> None:
    image = stack(
        maker, BASE, (member("etc/"), member("etc/passwd", "123456"), member("etc/new", "1"), member("etc/.wh.hosts"))
    )
    assert of(store, image) == Changes((("/etc/new", 1),), (("/etc/passwd", 6),), (("/etc/hosts", 3),))


def test_a_deleted_folder_is_one_row_with_all_its_bytes(store: Store, maker: Maker) -> None:
    assert of(store, stack(maker, BASE, (member(".wh.opt"),))).deleted == (("/opt", 6),)


def test_an_opaque_folder_deletes_what_it_hides(store: Store, maker: Maker) -> None:
    found = of(store, stack(maker, BASE, (member("opt/"), member("opt/.wh..wh..opq"), member("opt/b", "4444"))))
    assert found == Changes((("/opt/b", 4),), (), (("/opt/a", 3),))


def test_a_file_over_a_folder(store: Store, maker: Maker) -> None:
    found = of(store, stack(maker, BASE, (member("opt/"), member("opt/a", "x"))))
    assert found.changed == (("/opt/a", 1),)
    assert found.deleted == (("/opt/a/one", 1), ("/opt/a/two", 2))


def test_what_was_deleted_and_comes_back_is_added(store: Store, maker: Maker) -> None:
    image = stack(maker, BASE, (member("etc/.wh.passwd"),), (member("etc/passwd", "x"),))
    assert of(store, image) == Changes((("/etc/passwd", 1),), (), ())


def test_a_whiteout_of_nothing_is_no_change(store: Store, maker: Maker) -> None:
    assert of(store, stack(maker, BASE, (member(".wh.nothing"),))) == Changes()


def test_a_folder_with_another_mode_is_changed(store: Store, maker: Maker) -> None:
    assert of(store, stack(maker, BASE, (member("etc/", mode=0o700),))).changed == (("/etc", 0),)


def test_symlinks_are_not_followed(store: Store, maker: Maker) -> None:
    found = of(store, stack(maker, BASE, (member("link/"), member("link/passwd", "x"))))
    assert found == Changes((("/link/passwd", 1),), (("/link", 0),), ())


def test_a_running_container_by_its_key(store: Store, maker: Maker) -> None:
    image = stack(maker, BASE)
    store.snapshotter.prepare("container", image.chain_id)
    root = store.snapshotter.upper("container")
    (root / "new").write_text("xyz")
    if store.snapshotter.driver.name == "copy":
        trees.remove(root / "opt")
    else:
        os.mknod(root / "opt", 0o20000, 0)
    assert changes(store.snapshotter, "container") == Changes((("/new", 3),), (), (("/opt", 6),))


def test_two_names_for_one_file_are_counted_once(store: Store, maker: Maker) -> None:
    image = stack(maker, (member("b", "12345"), hard_link("a", "b")))
    assert of(store, image).added == (("/a", 5), ("/b", 0))
    assert image.size == 5


def test_nobody_has_no_changes(store: Store) -> None:
    with pytest.raises(NotFound):
        changes(store.snapshotter, "nobody")
