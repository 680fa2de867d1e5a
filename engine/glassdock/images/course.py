"""The course's own images, put together from this machine, so that the course needs no registry but its own.

Interface:
- `assemble_course_images(registry, address, progress)`: `busybox` and `python` into the course's registry.
- `busybox()`, `python(base)`: the recipes.

Rules: the same files give the same digests, on any day and in any folder. An image that is in the registry already,
made of the same files, is not made again: its manifest carries the fingerprint of what went in. `python` is `busybox`
and one layer more, so that the two share a layer.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glassdock import trace
from glassdock.errors import GlassdockError, NotFound, NotSupported
from glassdock.images import interpreter, platforms
from glassdock.images.assembly import CREATED, Assembly
from glassdock.images.compression import Gzip
from glassdock.images.elf import Resolver, read
from glassdock.images.pack import Hashing
from glassdock.images.progress import Progress
from glassdock.oci.image import (
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    ContainerConfig,
    Descriptor,
    History,
    ImageConfig,
    Manifest,
    RootFS,
    decode,
    encode,
)
from glassdock.oci.reference import Reference
from glassdock.registry.client import Client

_INPUTS = "glassdock.course.inputs"
_VERSION = "1"  # counts changes of the recipes that the files do not show
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FOLDERS = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin")
_LEVEL = 1
# Nothing passes itself off as Docker's image of that name.
_LABELS = {"glassdock.origin": "assembled from the files of this machine"}

_USERS = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUPS = """root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
wheel:x:10:root
mail:x:8:
www-data:x:33:
users:x:100:
nogroup:x:65534:
"""
# Where there is no busybox, what the course's commands need, as far as the machine has it.
_PROGRAMS = """
[ awk basename cat chmod chown cmp cp cut date dd df diff dirname du echo env expr false find free getopt grep groups
gunzip gzip head hostname id install ip kill less ln ls md5sum mkdir mkfifo mknod mktemp more mount mv nc nice nohup
nproc od paste pgrep ping pkill printenv printf ps pwd readlink realpath rm rmdir sed seq sh sha1sum sha256sum sleep
sort stat stty su sync tail tar tee test timeout top touch tr true tty umount uname uniq uptime vi wc wget which who
whoami xargs yes
""".split()


@dataclass(frozen=True, slots=True)
class Recipe:
    """An image to be: its layers' files, lowest first, with what each is called in the history, and its config."""

    name: str
    tags: tuple[str, ...]
    layers: tuple[tuple[str, Assembly], ...]
    config: ContainerConfig
    finish: Callable[[], None] = lambda: None
    """Adds what takes long and follows from the rest; called once it is clear that the image has to be made."""

    def fingerprint(self) -> str:
        """A digest over everything that goes in."""
        parts = [_VERSION, self.name, encode(self.config).decode()]
        parts += [f"{text} {files.fingerprint()}" for text, files in self.layers]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


async def assemble_course_images(registry: Client, address: str, progress: Progress) -> None:
    """Put `busybox` and `python` into the registry at `address` (host:port), under library/.

    Raises NotSupported where this machine has nothing to make them of; Unavailable where the registry is not there.
    """
    with tempfile.TemporaryDirectory(prefix="glassdock-course-") as folder:
        base = await asyncio.to_thread(busybox)
        await _put(registry, address, base, Path(folder), progress)
        await _put(registry, address, await asyncio.to_thread(python, base), Path(folder), progress)


def busybox() -> Recipe:
    """A shell and the small programs of Unix, as the real busybox image lays them out."""
    files = Assembly()
    for path in ("dev", "etc", "home", "proc", "sys", "usr/bin", "usr/sbin", "var/spool/mail", "var/www"):
        files.folder(path)
    files.folder("root", 0o700)
    files.folder("tmp", 0o1777)
    files.folder("var/tmp", 0o1777)
    files.text("etc/passwd", _USERS)
    files.text("etc/group", _GROUPS)
    files.text("etc/shadow", "root:*:::::::\nnobody:*:::::::\n", 0o600)
    files.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    found = shutil.which("busybox", path=os.pathsep.join(_FOLDERS)) or shutil.which("busybox")
    version = _from_busybox(files, Path(found)) if found else _from_machine(files)
    files.symlink("usr/bin/env", "../../bin/env")
    config = ContainerConfig(env=(_PATH,), cmd=("sh",), labels=_LABELS)
    return Recipe("busybox", ("latest", version), ((f"COPY busybox {version} /bin", files),), config)


def _from_busybox(files: Assembly, program: Path) -> str:
    """One program with a name for each of its applets; returns its version."""
    told = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split() if "/" not in name]
    if "sh" not in names:
        raise NotSupported(f"{program} is no busybox with a shell", "Install busybox-static.")
    for name in {"busybox", *names}:
        files.file(f"bin/{name}", program, 0o755)
    add_libraries(files, [program])
    version = re.search(r"BusyBox v([0-9.]+)", told.stdout + told.stderr)
    return version[1] if version else "local"


def _from_machine(files: Assembly) -> str:
    """The machine's own programs, with their libraries."""
    programs = []
    for name in _PROGRAMS:
        found = shutil.which(name, path=os.pathsep.join(_FOLDERS))
        if found is None:
            continue
        path = Path(os.path.realpath(found))
        if read(path) is not None:
            programs.append(path)
        elif not path.read_bytes().startswith((b"#!/bin/sh", b"#! /bin/sh")):
            continue
        files.file(f"bin/{name}", path, 0o755)
    if "bin/sh" not in files.members:
        raise NotSupported("this machine has no shell to make the busybox image of", "Install busybox-static.")
    add_libraries(files, programs)
    return "machine"


def add_libraries(files: Assembly, programs: list[Path], base: Assembly | None = None) -> None:
    """The loader and the libraries of `programs`, all in the C library's folder, where every loader looks."""
    found = Resolver().libraries(programs)
    libc = next((path for name, path in sorted(found.items()) if name.startswith(("libc.so", "libc.musl"))), None)
    if libc is None:
        return  # static
    for extra in ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1"):
        if (path := libc.parent / extra).is_file():  # glibc loads these by name, when they are needed
            found.setdefault(extra, path)
    wanted = {f"{libc.parent}/{name}": path for name, path in found.items()}
    for program in programs:
        if (elf := read(program)) is not None and elf.interpreter:
            wanted[elf.interpreter] = Path(elf.interpreter)
    for place, source in wanted.items():
        name = place.lstrip("/")
        if base is None or name not in base.members:
            files.file(name, source, 0o755)


def python(base: Recipe) -> Recipe:
    """The running interpreter with its standard library, on top of `base`."""
    files = Assembly()
    programs, compiling = interpreter.add(files)
    add_libraries(files, programs, base.layers[-1][1])
    major, minor, micro = interpreter.version()
    tags = ("latest", f"{major}", f"{major}.{minor}", f"{major}.{minor}.{micro}")
    environment = (_PATH, "LANG=C.UTF-8", f"PYTHON_VERSION={major}.{minor}.{micro}")
    layer = (f"COPY python {major}.{minor}.{micro} /usr/local", files)
    config = ContainerConfig(env=environment, cmd=("python3",), labels=_LABELS)
    return Recipe("python", tags, (*base.layers, layer), config, compiling)


async def _put(registry: Client, address: str, recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Make the image and send it, unless the registry has it."""
    inputs = await asyncio.to_thread(recipe.fingerprint)
    references = [Reference(address, f"library/{recipe.name}", tag) for tag in recipe.tags]
    missing = [reference for reference in references if not await _is_there(registry, reference, inputs)]
    if not missing:
        progress({"status": f"{recipe.name} is in the course registry already"})
        return
    progress({"status": f"Assembling {recipe.name} from this machine's files"})
    with trace.span("images.assemble", image=recipe.name):
        await asyncio.to_thread(recipe.finish)
        blobs: list[tuple[Descriptor, str]] = []
        for number, (_, files) in enumerate(recipe.layers):
            path = folder / f"{recipe.name}-{number}"
            blob, diff_id = await asyncio.to_thread(_layer, files, path)
            blobs.append((blob, diff_id))
            if not await registry.has_blob(references[0], blob.digest):
                await registry.upload_blob(references[0], blob, path)
        config = encode(_config(recipe, [diff_id for _, diff_id in blobs]))
        described = Descriptor(OCI_CONFIG, "sha256:" + hashlib.sha256(config).hexdigest(), len(config))
        await registry.upload_blob(references[0], described, config)
        layers = tuple(blob for blob, _ in blobs)
        manifest = Manifest(2, described, layers, media_type=OCI_MANIFEST, annotations={_INPUTS: inputs})
        for reference in missing:
            await registry.put_manifest(reference, encode(manifest), OCI_MANIFEST)
    progress({"status": f"{recipe.name} is in the course registry"})


async def _is_there(registry: Client, reference: Reference, inputs: str) -> bool:
    try:
        _, data = await registry.manifest(reference)
        return decode(Manifest, data).annotations.get(_INPUTS) == inputs
    except NotFound:
        return False


def _layer(files: Assembly, path: Path) -> tuple[Descriptor, str]:
    """Write the compressed layer to `path`; returns its descriptor and diff id."""
    try:
        with path.open("wb") as file:
            outer = Hashing(file)
            gzip = Gzip(outer, _LEVEL)
            inner = Hashing(gzip)
            files.write(inner)
            gzip.close()
    except OSError as error:
        raise GlassdockError(f"a course image cannot be assembled: {error}") from error
    return Descriptor(OCI_LAYER_GZIP, outer.digest, outer.size), inner.digest


def _config(recipe: Recipe, diff_ids: list[str]) -> ImageConfig:
    here = platforms.local()
    comment = "glassdock course image"
    history = [History(CREATED, text, comment=comment) for text, _ in recipe.layers]
    for name, value in (("ENV", recipe.config.env), ("CMD", recipe.config.cmd)):
        text = " ".join(value or ()) if name == "ENV" else encode_list(value or ())
        history.append(History(CREATED, f"{name} {text}", comment=comment, empty_layer=True))
    return ImageConfig(
        here.architecture,
        here.os,
        RootFS(tuple(diff_ids)),
        created=CREATED,
        variant=here.variant,
        config=recipe.config,
        history=tuple(history),
    )


def encode_list(words: tuple[str, ...]) -> str:
    """A command as a Dockerfile writes it: `["sh"]`."""
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"
