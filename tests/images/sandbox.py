"""Unpacks hostile archives where they can do no harm, and sees what they touched.

Run as a program, in a mount namespace of its own: for each archive in a folder it makes a throw-away overlay of the
whole root, changes root into it and unpacks. What the overlay's upper folder then holds that it did not hold before is
what got out. Each archive is unpacked twice: by us, and by a careless extractor, which has to be caught.

    /gd/x/fs        the folder to unpack into; for us a tmpfs, because whiteouts cannot be made on an overlay
    /gd/x/canary    a file beside it
    /gd/x/near/     a folder beside it, with a file
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glassdock.errors import GlassdockError
from glassdock.images import below, layer
from glassdock.linux import ids
from glassdock.linux.mount import MountFlag, UmountFlag, mount, umount2
from glassdock.unionfs import trees

INSIDE = Path("/gd/x/fs")


def run(archives: dict[str, bytes], scratch: Path) -> dict[str, Any]:
    """Unpack all; the answers by name: {"ours": {...}, "careless": {...}}."""
    folder = scratch / "archives"
    folder.mkdir()
    for name, data in archives.items():
        (folder / name).write_bytes(data)
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.images.sandbox"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([*command, str(folder), str(scratch)], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ours(path: Path) -> None:
    with path.open("rb") as file:
        found = layer.unpack(iter(lambda: file.read(1 << 16), b""), INSIDE)
    below.settle(INSIDE, found.implied, found.links, [])


def careless(path: Path) -> None:
    """What not to do: names are joined, links are followed, whiteouts are removed at once."""
    with tarfile.open(path) as archive:
        for one in archive:
            name = os.path.join(INSIDE, one.name)
            above, base = os.path.split(name)
            os.makedirs(above, exist_ok=True)
            if base == ".wh..wh..opq":
                for entry in os.listdir(above):
                    shutil.rmtree(os.path.join(above, entry), ignore_errors=True)
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(above, entry))
            elif base.startswith(".wh."):
                target = os.path.join(above, base[4:])
                if os.path.isdir(target):
                    shutil.rmtree(target, ignore_errors=True)
                else:
                    os.unlink(target)
            elif one.isdir():
                os.makedirs(name, exist_ok=True)
                os.chmod(name, one.mode)
            elif one.issym():
                if os.path.isdir(name):
                    shutil.rmtree(name)
                os.symlink(one.linkname, name)
            elif one.islnk():
                os.link(os.path.join(INSIDE, one.linkname), name, follow_symlinks=False)
                os.chmod(name, one.mode)
            elif one.isdev():
                os.mknod(name, one.mode | stat.S_IFCHR, os.makedev(one.devmajor, one.devminor))
            else:
                source = archive.extractfile(one)
                assert source is not None
                with open(name, "wb") as file:
                    file.write(source.read())
                os.chmod(name, one.mode)


def attempt(unpack: Callable[[Path], None], path: Path, scratch: Path) -> dict[str, Any]:
    """Unpack in a fresh overlay, in a child; what happened, what is inside, what changed outside."""
    ids.mapping()  # read while there is a /proc
    pool = scratch / "pool"
    pool.mkdir(exist_ok=True)
    mount("tmpfs", str(pool), "tmpfs", MountFlag.NOSUID, "size=256m")
    try:
        upper, work, merged = pool / "upper", pool / "work", pool / "merged"
        for made in (upper, work, merged):
            made.mkdir()
        mount("overlay", str(merged), "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work}")
        target = merged / str(INSIDE)[1:]
        target.mkdir(parents=True)
        (target.parent / "canary").write_text("alive")
        (target.parent / "near").mkdir()
        (target.parent / "near/canary").write_text("alive")
        shutil.copy(path, target.parent / "archive")
        if unpack is ours:
            mount("tmpfs", str(target), "tmpfs", 0, "size=256m")
        before = listing(upper)
        error = child(unpack, merged)
        inside = listing(target) if unpack is ours else {}
        after = {name: what for name, what in listing(upper).items() if not name.startswith(f"{INSIDE}/"[1:])}
        outside = sorted(name for name in before | after if before.get(name) != after.get(name))
        if unpack is ours:
            umount2(str(target), UmountFlag.DETACH)
        umount2(str(merged), UmountFlag.DETACH)
        return {"error": error, "inside": inside, "outside": outside}
    finally:
        umount2(str(pool), UmountFlag.DETACH)


def child(unpack: Callable[[Path], None], merged: Path) -> str:
    """Unpack with `merged` as the root; returns what it raised, "" for nothing."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = ""
        try:
            os.chroot(merged)
            os.chdir("/")
            unpack(INSIDE.parent / "archive")
        except GlassdockError as error:
            text = f"{type(error).__name__}: {error}"
        except BaseException as error:  # noqa: BLE001 - this is what the parent wants to know
            text = f"!{type(error).__name__}: {error}"
        os.write(write, text.encode("utf-8", "replace")[:4000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text


def listing(folder: Path) -> dict[str, str]:
    """Every node as `kind mode owner size-or-target xattrs`."""
    found = {}
    for node in trees.walk(folder):
        status = node.status
        what = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
        if stat.S_ISLNK(status.st_mode):
            what += f" -> {os.fsdecode(os.readlink(node.name, dir_fd=node.parent))}"
        elif stat.S_ISREG(status.st_mode) and node.path != b"gd/x/archive":
            with os.fdopen(node.open(), "rb") as file:
                what += f" {status.st_size} links={status.st_nlink} {hashlib.sha256(file.read()).hexdigest()[:8]}"
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            what += f" {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        elif stat.S_ISDIR(status.st_mode):
            fd = node.open()
            what += "".join(f" {key}" for key in sorted(os.listxattr(fd)) if key == "trusted.overlay.opaque")
            os.close(fd)
        found[node.path.decode("utf-8", "backslashreplace")] = what
    return found


if __name__ == "__main__":
    answers = {}
    for one in sorted(Path(sys.argv[1]).iterdir()):
        answers[one.name] = {
            "ours": attempt(ours, one, Path(sys.argv[2])),
            "careless": attempt(careless, one, Path(sys.argv[2])),
        }
    print(json.dumps(answers))
