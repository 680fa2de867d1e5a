"""The composition root: every subsystem, wired once, opened and closed in order.

Interface: `async with Engine.open(paths, registry_port) as engine`; its subsystems are attributes: `images`,
`snapshots`, `registry`, `networks`, `volumes`, `containers`, `builder`, `events`.

Rules: this is the only module that knows all subsystems; they know each other through their constructors. Opening
repairs what a dead daemon left: half-made things go, running containers stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from glassdock.build.builder import Builder
from glassdock.containers.execs import Execs
from glassdock.containers.files import without_places
from glassdock.containers.manager import Manager as Containers
from glassdock.containers.model import Container
from glassdock.containers.parts import Parts
from glassdock.containers.stats import Collector
from glassdock.containers.step import Runner, end_leftovers
from glassdock.errors import NotFound, NotSupported
from glassdock.events import Bus
from glassdock.images.changes import Changes, changes
from glassdock.images.course import assemble_course_images
from glassdock.images.progress import Progress
from glassdock.images.store import Store as Images
from glassdock.network.manager import Manager as Networks
from glassdock.paths import Paths, atomic_write
from glassdock.registry import server as registry_server
from glassdock.registry.client import Client as Registry
from glassdock.registry.storage import Storage
from glassdock.runtime import cgroups
from glassdock.runtime.launch import Launcher
from glassdock.unionfs import drivers
from glassdock.unionfs.overlay import Snapshotter
from glassdock.volumes import Volumes


@dataclass(slots=True)
class Engine:
    """One engine over one state folder."""

    paths: Paths
    identity: str
    events: Bus
    snapshots: Snapshotter
    images: Images
    registry: Registry
    registry_address: str
    networks: Networks
    volumes: Volumes
    containers: Containers
    execs: Execs
    stats: Collector
    builder: Builder
    can_run: bool
    cgroup_version: str
    warnings: list[str]

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, paths: Paths, registry_port: int, refusal: NotSupported | None = None) -> AsyncIterator[Engine]:
        """Wire and repair; on leaving, everything but running containers is closed.

        With a `refusal` no container runs, and whoever asks for one is told so.
        """
        can_run = refusal is None
        warnings = [refusal.message] if refusal else []
        paths.make()
        await end_leftovers(paths)
        for left in paths.tmp.iterdir():
            _clear(left)
        async with contextlib.AsyncExitStack() as closing:
            address = await _serve_registry(paths, registry_port, closing, warnings)
            registry = Registry(mirrors={"docker.io": [f"http://{address}"]})
            closing.push_async_callback(registry.close)
            snapshots = Snapshotter(paths, drivers.choose(paths))
            if snapshots.driver.name == "copy":
                warnings.append("overlay mounts are refused here: every container gets a copy of its image")
            images = Images(paths, snapshots)
            events = Bus()
            networks = Networks(paths)
            volumes = Volumes(paths, events)
            launcher = None
            if can_run:
                cgroups.claim()
                launcher = await Launcher.start(paths)
                closing.push_async_callback(launcher.close)
            containers = Containers(Parts(paths, images, snapshots, networks, launcher, events, volumes, refusal))
            stats = Collector(containers.get, paths.tag)
            closing.push_async_callback(stats.close)
            builder = Builder(paths, images, snapshots, registry, Runner(paths, networks, launcher, refusal))
            records = containers.load()
            if can_run:
                await networks.start([record.id for record in records if record.state.running])
                closing.push_async_callback(networks.stop)
                warnings += networks.warnings()
            closing.push_async_callback(containers.close)
            images.repair()
            snapshots.repair({record.id for record in records}, images.live_chains())
            if can_run:
                await asyncio.to_thread(snapshots.warm)
            await containers.repair()
            yield cls(
                paths=paths,
                identity=_identity(paths),
                events=events,
                snapshots=snapshots,
                images=images,
                registry=registry,
                registry_address=address,
                networks=networks,
                volumes=volumes,
                containers=containers,
                execs=containers.execs,
                stats=stats,
                builder=builder,
                can_run=can_run,
                cgroup_version=cgroups.version(),
                warnings=warnings,
            )

    def image_name(self, container: Container) -> str:
        """What `ps` calls the container's image: the name it was made by, or the id where that name has moved on."""
        try:
            if self.images.get(container.config.image).id == container.image:
                return container.config.image
        except NotFound:
            pass
        return container.image

    async def remove_image(self, name: str, *, force: bool) -> list[dict[str, str]]:
        """`docker rmi`: Untagged and Deleted rows; raises Conflict where a container holds the image."""

        def users(image_id: str) -> list[str]:
            return [container.id for container in self.containers.using(image_id)]

        def running(image_id: str) -> list[str]:
            return [container.id for container in self.containers.using(image_id) if container.state.running]

        await self.containers.cleared()  # a layer under a container that is going is still held
        return self.images.remove(name, force=force, in_use=users, running=running)

    def changes_of(self, key: str) -> Changes:
        """What a layer (by chain id) or a container's writable layer (by id) adds, changes and deletes."""
        found = changes(self.snapshots, key)
        return found if key.startswith("sha256:") else without_places(found)

    async def assemble_course_images(self, progress: Progress) -> None:
        """Assemble the course's images into the course's registry."""
        await assemble_course_images(self.registry, self.registry_address, progress)


async def _serve_registry(paths: Paths, port: int, closing: contextlib.AsyncExitStack, warnings: list[str]) -> str:
    """Serve the course's registry on loopback; returns host:port. A taken port is replaced by a free one."""
    runner = web.AppRunner(registry_server.application(Storage(paths.registry)), access_log=None)
    await runner.setup()
    closing.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", port)
    try:
        await site.start()
    except OSError:
        warnings.append(f"port {port} is taken: the course registry listens on another one")
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, bound = runner.addresses[0][:2]
    return f"localhost:{bound}" if host == "127.0.0.1" else f"{host}:{bound}"


def _identity(paths: Paths) -> str:
    """The engine's id, made once."""
    file = paths.root / "engine-id"
    if not file.exists():
        atomic_write(file, str(uuid.uuid4()).encode(), mode=0o644)
    return file.read_text()


def _clear(path: os.PathLike[str]) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
