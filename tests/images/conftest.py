"""A store and a registry of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from glassdock.images.store import Store
from glassdock.oci.reference import Reference
from glassdock.paths import Paths
from glassdock.registry import server
from glassdock.registry.client import Client
from glassdock.registry.storage import Storage
from glassdock.unionfs.overlay import Snapshotter
from tests.images.support import Maker
from tests.support import modes


def open_store(root: Path) -> Store:
    paths = Paths.of(root)
    paths.make()
    return Store(paths, Snapshotter(paths, modes.driver(paths)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "here")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Store:
    """The store of another machine."""
    return open_store(tmp_path / "there")


@pytest.fixture
def maker(store: Store) -> Maker:
    return Maker(store)


@dataclass(slots=True)
class Registry:
    """A registry on loopback, and a client of it."""

    address: str
    client: Client
    storage: Path

    def name(self, text: str) -> Reference:
        return Reference.parse(f"{self.address}/{text}")


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    runner = web.AppRunner(server.application(Storage(tmp_path / "registry")), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"localhost:{runner.addresses[0][1]}"
    client = Client(mirrors={"docker.io": [f"http://{address}"]})
    yield Registry(address, client, tmp_path / "registry")
    await client.close()
    await runner.cleanup()
