"""Registries to talk to, and images to send them.

Interface:
- `serving(application)`: an aiohttp application on a free port of loopback; gives `host:port`.
- `our_registry(folder)`, `docker_registry(folder)`: Glassdock's and Debian's docker-registry; give `host:port`.
- `random_image(...)`: a small image as blobs and manifest; `random_index(...)` of two; `write_layout(...)`.
- `push(client, reference, image)`: all of it, blobs first.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import random
import socket
import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from glassdock.oci import digest as digests
from glassdock.oci import image
from glassdock.oci.reference import Reference
from glassdock.registry.client import Client
from glassdock.registry.server import application
from glassdock.registry.storage import Storage


@contextlib.asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve on a free port of loopback."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def our_registry(folder: Path, users: dict[str, str] | None = None) -> AsyncIterator[str]:
    """Glassdock's registry over a folder."""
    async with serving(application(Storage(folder), users)) as address:
        yield address


@contextlib.asynccontextmanager
async def docker_registry(folder: Path, more: str = "") -> AsyncIterator[str]:
    """Debian's docker-registry over a folder; `more` is added to its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    configuration = folder / "config.yml"
    configuration.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: {address}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n{more}"
    )
    process = await asyncio.create_subprocess_exec(
        "docker-registry",
        "serve",
        str(configuration),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await answering(address)
        yield address
    finally:
        process.terminate()
        await process.wait()


async def answering(address: str) -> None:
    """Wait until somebody listens at host:port."""
    host, _, port = address.rpartition(":")
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        await writer.wait_closed()
        return
    raise TimeoutError(f"nobody listens on {address}")


def free_port() -> int:
    """A port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def run(*command: str | Path) -> tuple[int, str]:
    """Run a program; gives its exit code and all of its output."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest or index with what it needs: blobs, and the images of an index."""

    manifest: bytes
    media_type: str
    blobs: dict[str, bytes]
    images: tuple[Image, ...] = field(default=())

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return digests.of(self.manifest)

    @property
    def descriptor(self) -> image.Descriptor:
        """The descriptor of the manifest."""
        return image.Descriptor(self.media_type, self.digest, len(self.manifest))


def random_image(
    seed: int = 0, *, layers: int = 2, size: int = 1000, docker: bool = False, architecture: str = "amd64"
) -> Image:
    """An image of random files: the same seed, the same image."""
    chance = random.Random(seed)
    blobs: dict[str, bytes] = {}
    diff_ids, descriptors = [], []
    for number in range(layers):
        tar = _layer(f"file{number}", chance.randbytes(size))
        data = gzip.compress(tar, mtime=0)
        blobs[digests.of(data)] = data
        diff_ids.append(digests.of(tar))
        kind = image.DOCKER_LAYER_GZIP if docker else image.OCI_LAYER_GZIP
        descriptors.append(image.Descriptor(kind, digests.of(data), len(data)))
    config = image.encode(image.ImageConfig(architecture, "linux", image.RootFS(tuple(diff_ids))))
    blobs[digests.of(config)] = config
    kind = image.DOCKER_CONFIG if docker else image.OCI_CONFIG
    media_type = image.DOCKER_MANIFEST if docker else image.OCI_MANIFEST
    described = image.Descriptor(kind, digests.of(config), len(config))
    manifest = image.encode(image.Manifest(2, described, tuple(descriptors), media_type))
    return Image(manifest, media_type, blobs)


def random_index(seed: int = 0) -> Image:
    """An index of two images."""
    images = (random_image(seed), random_image(seed + 1, architecture="arm64"))
    descriptors = tuple(
        image.Descriptor(
            one.media_type, one.digest, len(one.manifest), platform=image.Platform(architecture=name, os="linux")
        )
        for one, name in zip(images, ("amd64", "arm64"), strict=True)
    )
    manifest = image.encode(image.Index(2, descriptors, image.OCI_INDEX))
    return Image(manifest, image.OCI_INDEX, {}, images)


def artifact(subject: image.Descriptor, kind: str, **annotations: str) -> Image:
    """An artifact that refers to `subject`."""
    empty = b"{}"
    config = image.Descriptor(image.OCI_EMPTY, digests.of(empty), len(empty))
    layer = image.Descriptor("text/plain", digests.of(kind.encode()), len(kind))
    manifest = image.encode(
        image.Manifest(2, config, (layer,), image.OCI_MANIFEST, kind, subject=subject, annotations=annotations)
    )
    return Image(manifest, image.OCI_MANIFEST, {config.digest: empty, layer.digest: kind.encode()})


async def push(client: Client, reference: Reference, sent: Image) -> None:
    """Send all of an image, blobs first."""
    for one in sent.images:
        await push(client, reference.repository().with_digest(one.digest), one)
    for digest, data in sent.blobs.items():
        await client.upload_blob(reference, image.Descriptor("application/octet-stream", digest, len(data)), data)
    await client.put_manifest(reference, sent.manifest, sent.media_type)


async def pull(client: Client, reference: Reference) -> Image:
    """Fetch all of an image, as `push` takes it."""
    descriptor, manifest = await client.manifest(reference)
    if descriptor.media_type in image.INDEXES:
        index = image.decode(image.Index, manifest)
        children = [await pull(client, reference.repository().with_digest(one.digest)) for one in index.manifests]
        return Image(manifest, descriptor.media_type, {}, tuple(children))
    parsed = image.decode(image.Manifest, manifest)
    blobs = {}
    for one in (parsed.config, *parsed.layers):
        blobs[one.digest] = b"".join([chunk async for chunk in client.blob(reference, one)])
    return Image(manifest, descriptor.media_type, blobs)


def write_layout(folder: Path, tag: str, written: Image) -> None:
    """Write an image as an OCI layout, which skopeo reads as oci:FOLDER:TAG."""
    for data in _contents(written):
        path = folder / "blobs" / digests.of(data).replace(":", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    described = {"mediaType": written.media_type, "digest": written.digest, "size": len(written.manifest)}
    described |= {"annotations": {"org.opencontainers.image.ref.name": tag}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))


def _contents(written: Image) -> Iterator[bytes]:
    yield written.manifest
    yield from written.blobs.values()
    for one in written.images:
        yield from _contents(one)


def _layer(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def peak_memory() -> int:
    """The largest resident size of this process since `reset_peak_memory`, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM")


def reset_peak_memory() -> None:
    """Start measuring anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


@contextlib.asynccontextmanager
async def flaky(target: str, *, up: list[int], down: list[int]) -> AsyncIterator[str]:
    """A proxy to `target` whose connections break: one after each number of bytes in `up` (towards the target) or
    `down` (from it), in this order; when the numbers are used up, it holds."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, limits: list[int]) -> None:
        passed = 0
        with contextlib.suppress(ConnectionError):
            while data := await source.read(16384):
                passed += len(data)
                if limits and passed > limits[0]:
                    limits.pop(0)
                    break
                sink.write(data)
                await sink.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        host, _, port = target.rpartition(":")
        other_reader, other_writer = await asyncio.open_connection(host, int(port))
        pumps = [
            asyncio.create_task(pump(reader, other_writer, up)),
            asyncio.create_task(pump(other_reader, writer, down)),
        ]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for one in pumps:
            one.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for end in (writer, other_writer):
            end.transport.abort()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
