"""ADD of what is elsewhere: a file behind a URL, or the tree of a git repository.

Interface:
- `is_remote(source)`, `is_git(source)`: what the source of an ADD is.
- `Remote(url, checksum, keep_git)`: one of them, as the plan has it; `check(...)` raises ValueError for nonsense.
- `fetch(remote, folder)`: bring it into an empty folder; returns the names in it that are to be copied.

Rules: what comes is hashed before anybody uses it. A file is named by the server or by the path of its URL, never
anything but a plain name. git runs without a terminal, without the configuration of the machine, and only over the
network; its arguments never begin with a dash.
Source: https://docs.docker.com/reference/dockerfile/#adding-files-from-a-url
"""

from __future__ import annotations

import asyncio
import email.message
import email.utils
import hashlib
import os
import posixpath
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from glassdock import trace
from glassdock.errors import BuildError, NotSupported, Unavailable
from glassdock.linux.openat2 import open_in_root

_HTTP = re.compile(r"https?://", re.IGNORECASE)
_SSH = re.compile(r"[\w.-]+@[\w.-]+:(?!//)")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_connect=8, sock_read=60)
_QUIET_GIT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
}


@dataclass(frozen=True, slots=True)
class Remote:
    """A source of ADD: `checksum` is `sha256:...` of a file, or the beginning of a commit's hash."""

    url: str
    checksum: str = ""
    keep_git: bool = False


def is_remote(source: str) -> bool:
    """Whether a source is not in the context."""
    return bool(_HTTP.match(source)) or is_git(source)


def is_git(source: str) -> bool:
    """Whether a source is a repository: `git://`, `ssh://`, `user@host:path`, or a web address that ends in `.git`."""
    if re.match(r"(git|ssh)://", source, re.IGNORECASE) or _SSH.match(source):
        return True
    return bool(_HTTP.match(source)) and urlsplit(source).path.endswith(".git")


def check(remote: Remote) -> Remote:
    """The remote, if it makes sense; raises ValueError."""
    if remote.checksum and not is_git(remote.url) and not _SHA256.fullmatch(remote.checksum):
        raise ValueError(f"invalid checksum digest format: {remote.checksum}")
    if remote.checksum and is_git(remote.url) and not re.fullmatch(r"[0-9a-f]{4,64}", remote.checksum):
        raise ValueError(f"invalid checksum {remote.checksum!r}: expected the hash of a commit")
    if remote.keep_git and not is_git(remote.url):
        raise ValueError("--keep-git-dir is only supported for git sources")
    return remote


async def fetch(remote: Remote, folder: Path) -> tuple[str, ...]:
    """Bring it into the folder; raises Unavailable, BuildError, NotSupported."""
    with trace.span("build.fetch", url=_shown(remote.url)):
        if is_git(remote.url):
            await _clone(remote, folder)
            return ("/",)
        return (re.sub(r"([*?\[\\])", r"\\\1", await _download(remote, folder)),)


async def _download(remote: Remote, folder: Path) -> str:
    shown = _shown(remote.url)
    digest = hashlib.sha256()
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True, headers={"User-Agent": "glassdock"}) as session,
            session.get(remote.url) as answer,
        ):
            if answer.status >= 400:
                raise BuildError(f"ADD failed: {shown}: invalid response status {answer.status}")
            name = _name(remote.url, answer.headers.get("Content-Disposition", ""))
            with os.fdopen(os.open(folder / name, _NEW_FILE, 0o600), "wb") as file:
                async for chunk in answer.content.iter_chunked(1 << 20):
                    digest.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
            when = email.utils.parsedate_to_datetime(answer.headers["Last-Modified"]) if _dated(answer) else None
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unavailable(f"ADD failed: {shown} cannot be fetched: {error}", "Is the address right?") from error
    if when is not None:
        os.utime(folder / name, (when.timestamp(), when.timestamp()))
    found = f"sha256:{digest.hexdigest()}"
    if remote.checksum and found != remote.checksum:
        raise BuildError(
            f"ADD failed: digest mismatch {found}: {remote.checksum}", f"{shown} is not what was expected."
        )
    return name


def _dated(answer: aiohttp.ClientResponse) -> bool:
    return email.utils.parsedate_tz(answer.headers.get("Last-Modified", "")) is not None


def _name(url: str, disposition: str) -> str:
    """What the file is called: the server's word, else the end of the address; a plain name in any case."""
    message = email.message.Message()
    message["Content-Disposition"] = disposition
    for candidate in (message.get_filename() or "", unquote(urlsplit(url).path)):
        name = posixpath.basename(candidate.rstrip("/"))
        if name not in ("", ".", "..") and "\0" not in name:
            return name
    return "download"


def _shown(url: str) -> str:
    """The address without a password."""
    return re.sub(r"(//[^/:@]*):[^/@]*@", r"\1:xxxxx@", url)


# git


async def _clone(remote: Remote, folder: Path) -> None:
    if shutil.which("git") is None:
        raise NotSupported(
            "ADD of a git repository needs git, which is not here", "Install git on the engine's machine."
        )
    address, reference, below = _parts(remote.url)
    tree = folder if not below else folder / "tree"
    tree.mkdir(exist_ok=True)
    await _git(tree, "init", "-q", ".")
    await _git(tree, "remote", "add", "--", "origin", address)
    try:
        await _git(tree, "fetch", "-q", "--depth=1", "--no-tags", "origin", reference or "HEAD")
        await _git(tree, "checkout", "-q", "FETCH_HEAD")
    except BuildError:
        # A server that gives no single commit, or an older protocol without shallow copies.
        await _git(tree, "fetch", "-q", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")
        known = reference if _COMMIT.fullmatch(reference) else await _resolved(tree, reference)
        await _git(tree, "checkout", "-q", known)
    await _git(tree, "submodule", "-q", "update", "--init", "--recursive", "--depth=1")
    commit = await _git(tree, "rev-parse", "HEAD")
    if remote.checksum and not commit.startswith(remote.checksum):
        raise BuildError(f"ADD failed: expected checksum to match {remote.checksum}, got {commit}")
    if not remote.keep_git:
        await asyncio.to_thread(shutil.rmtree, tree / ".git")
    if below:
        await asyncio.to_thread(_only, folder, tree, below)


async def _resolved(tree: Path, reference: str) -> str:
    """The commit that a branch or a tag means after a whole fetch; without one, the branch that the server shows."""
    if not reference:
        listed = await _git(tree, "ls-remote", "--symref", "origin", "HEAD")
        return listed.split()[-2] if listed else "HEAD"
    for candidate in (f"refs/remotes/origin/{reference}", f"refs/tags/{reference}", reference):
        try:
            return await _git(tree, "rev-parse", "--verify", "-q", f"{candidate}^{{commit}}")
        except BuildError:
            continue
    raise BuildError(f"ADD failed: repository does not contain ref {reference}")


async def _git(tree: Path, *arguments: str) -> str:
    """Run git in the tree; returns what it printed. Raises BuildError with its last words."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    process = await asyncio.create_subprocess_exec(
        *("git", "-C", str(tree), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, **_QUIET_GIT},
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        words = err.decode(errors="replace").strip().splitlines() or [f"code {process.returncode}"]
        raise BuildError(f"ADD failed: git {arguments[0]}: {words[-1].removeprefix('fatal: ')}")
    return out.decode(errors="replace").strip()


def _parts(url: str) -> tuple[str, str, str]:
    """(address, reference, folder) of `address#reference:folder`; raises BuildError where git would see a flag."""
    address, _, fragment = url.partition("#")
    reference, _, below = fragment.partition(":")
    if not _SSH.match(address):
        address = urlunsplit(urlsplit(address)._replace(query="", fragment=""))
    if address.startswith("-") or reference.startswith("-"):
        raise BuildError(f"ADD failed: invalid git address {_shown(url)}")
    return address, reference, posixpath.normpath("/" + below).strip("/")


def _only(folder: Path, tree: Path, below: str) -> None:
    """Leave only what is in the folder `below` of the tree; its links are followed inside the tree."""
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    try:
        found = open_in_root(root, below, os.O_PATH | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        raise BuildError(f"ADD failed: the repository has no folder {below}") from None
    finally:
        os.close(root)
    try:
        for name in os.listdir(f"/proc/self/fd/{found}"):
            os.rename(name, folder / f"kept-{name}", src_dir_fd=found)
    finally:
        os.close(found)
    shutil.rmtree(tree)
    for kept in folder.iterdir():
        kept.rename(folder / kept.name.removeprefix("kept-"))
