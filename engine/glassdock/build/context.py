"""The build context: the client's tar on disk, and what in it the build reads first.

Interface:
- `receive(chunks, folder)`: unpack the tar that the client sends.
- `fetch(url, folder)`: a repository, a tar or a lone Dockerfile from elsewhere becomes the context.
- `dockerfile(folder, name)`: the text of the Dockerfile.
- `ignored(folder, name)`: the patterns of `NAME.dockerignore`, else of `.dockerignore`.

Rules: the tar is unpacked as layers are: whatever its names and links say, nothing outside the folder is touched. Files
are read inside the context, links followed there.
Source: https://docs.docker.com/build/concepts/context/
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import tempfile
from collections.abc import AsyncIterable
from pathlib import Path
from typing import IO

from glassdock import trace
from glassdock.build import archive, ignore, remote
from glassdock.errors import BuildError, InvalidParameter, NotSupported
from glassdock.images import layer
from glassdock.linux.openat2 import open_in_root

_LARGEST = 16 << 20  # of a Dockerfile


async def receive(chunks: AsyncIterable[bytes], folder: Path) -> None:
    """Unpack a tar, plain or compressed, into the empty `folder`.

    Raises NotSupported (not root), InvalidParameter (no tar), Corrupt, StorageFull.
    """
    if os.geteuid() != 0:
        message = "building images needs a user namespace, which this user has not here"
        raise NotSupported(message, "`glassdock doctor` says why. Images can be pulled, tagged and pushed without.")
    with trace.span("build.context"), tempfile.TemporaryFile(dir=folder.parent, buffering=1 << 18) as spool:
        async for chunk in chunks:
            # Into the page cache: shorter than the way to a thread and back.
            spool.write(chunk)
        await asyncio.to_thread(_unpack, spool, folder)


async def fetch(url: str, folder: Path) -> None:
    """Make the empty `folder` the context that is at `url`; raises InvalidParameter, Unavailable, BuildError."""
    if not remote.is_remote(url) and not url.startswith("github.com/"):
        raise InvalidParameter(f"remote build context {url!r} is no URL", "Give an http, https or git address.")
    with trace.span("build.context"):
        if url.startswith("github.com/"):
            url = f"https://{url}" if ".git" in url else re.sub(r"(#|$)", r".git\1", f"https://{url}", count=1)
        if remote.is_git(url):
            await remote.fetch(remote.Remote(url), folder)
            return
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            await remote.fetch(remote.Remote(url), Path(scratch))
            (fetched,) = Path(scratch).iterdir()
            await asyncio.to_thread(_take, fetched, folder)


def _take(fetched: Path, folder: Path) -> None:
    """An archive is the context; any other file is the Dockerfile of an empty one."""
    with fetched.open("rb") as file:
        content = archive.content(file)
        if content is not None:
            layer.unpack(content, folder)
            return
    fetched.rename(folder / "Dockerfile")


def _unpack(spool: IO[bytes], folder: Path) -> None:
    size = spool.tell()
    content = archive.content(spool)
    if content is None and size:
        raise InvalidParameter("the build context is no tar archive", "Send a tar, plain or compressed.")
    if content is not None:
        layer.unpack(content, folder)


def dockerfile(folder: Path, name: str) -> str:
    """The Dockerfile's text; raises BuildError in Docker's words."""
    data = _read(folder, name)
    if data is None:
        raise BuildError(
            f"Cannot locate specified Dockerfile: {name}",
            "Name it with -f, relative to the context, and look at .dockerignore.",
            file=name,
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BuildError(f"{name} line {line} is not UTF-8", file=name, line=line) from error


def ignored(folder: Path, name: str) -> ignore.Matcher:
    """What the build does not see."""
    for candidate in (f"{name}.dockerignore", ignore.FILE):
        data = _read(folder, candidate)
        if data is not None:
            return ignore.Matcher(ignore.patterns(data.decode(errors="surrogateescape")))
    return ignore.Matcher(())


def _read(folder: Path, name: str) -> bytes | None:
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.fdopen(open_in_root(root, name, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                return None
            if info.st_size > _LARGEST:
                raise InvalidParameter(f"{name} has {info.st_size} bytes; {_LARGEST} are the most")
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    finally:
        os.close(root)
