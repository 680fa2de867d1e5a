"""A registry whose disk is full or read-only says so, keeps what it has, and goes on when there is room again."""

from __future__ import annotations

import contextlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassdock.errors import Forbidden, StorageFull, Unavailable
from glassdock.oci import digest as digests
from glassdock.oci.image import Descriptor
from glassdock.oci.reference import Reference
from glassdock.registry import transport
from glassdock.registry.client import Client
from glassdock.registry.storage import Storage
from tests.registry.support import our_registry, pull, push, random_image


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.needs_root
async def test_a_full_disk_is_told_and_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_DELAY", 0.01)
    large = random.Random(1).randbytes(4 << 20)
    descriptor = Descriptor("x", digests.of(large), len(large))
    with small_disk(tmp_path / "disk") as folder:
        async with our_registry(folder / "registry") as address, Client() as client:
            await push(client, Reference.parse(f"{address}/app:1"), random_image(1))
            with pytest.raises(Unavailable, match="no space left on the device"):
                await client.upload_blob(Reference.parse(f"{address}/app"), descriptor, large)
            assert await pull(client, Reference.parse(f"{address}/app:1")) == random_image(1)
            await push(client, Reference.parse(f"{address}/app:2"), random_image(2))  # the half was cancelled
            assert list((folder / "registry").rglob("_uploads/*")) == []


@pytest.mark.needs_root
def test_a_read_only_disk_is_told_at_once(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        with pytest.raises(StorageFull, match="read-only"):
            Storage(folder / "registry")


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("a file")
    with pytest.raises(Exception, match="opening the registry's storage") as caught:
        Storage(tmp_path / "registry")
    assert not isinstance(caught.value, Forbidden)
