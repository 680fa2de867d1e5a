"""The course's images are made of this machine's files: they run, and the same files give the same digests."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from glassdock.errors import NotSupported
from glassdock.images import course, elf
from glassdock.images.course import assemble_course_images
from glassdock.images.elf import Resolver, read
from glassdock.images.model import Image
from glassdock.images.pull import pull
from glassdock.images.store import Store
from glassdock.oci.reference import Reference
from tests.images.conftest import Registry
from tests.images.support import Lines
from tests.unionfs.support import in_mount_namespace

RUN = """
import json, os, sys
from pathlib import Path
from glassdock.paths import Paths
from glassdock.unionfs.overlay import Snapshotter
root, target, chain, command = sys.argv[1:]
Snapshotter(Paths.of(Path(root))).view(chain).apply(target)
os.chroot(target)
os.chdir("/")
words = json.loads(command)
os.execvpe(words[0], words, {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"})
"""
# Run by another interpreter, with our packages: what its files would become.
DIGESTS = """
import json, sys, tempfile
from pathlib import Path
from glassdock.images import course, elf
base = course.busybox()
recipe = course.python(base)
recipe.finish()
with tempfile.TemporaryDirectory() as folder:
    print(json.dumps([course._layer(files, Path(folder, "layer"))[1] for _, files in recipe.layers]))
    Path(sys.argv[1]).write_bytes(Path(folder, "layer").read_bytes()) if sys.argv[1:] else None
"""


def run(tmp_path: Path, image: Image, *command: str) -> str:
    """The output of a command with the image as its root."""
    (tmp_path / "root").mkdir(exist_ok=True)
    return in_mount_namespace(RUN, tmp_path / "here", tmp_path / "root", image.chain_id, json.dumps(command))


async def test_they_are_assembled_once_pulled_and_run(store: Store, registry: Registry, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    lines = Lines()
    await assemble_course_images(registry.client, registry.address, lines)
    assert "busybox is in the course registry" in lines.statuses
    lines = Lines()
    await assemble_course_images(registry.client, registry.address, lines)
    assert lines.statuses == ["busybox is in the course registry already", "python is in the course registry already"]

    shell = await pull(store, registry.client, Reference.parse("busybox"), progress=Lines())
    assert shell.config.config.cmd == ("sh",)
    out = await asyncio.to_thread(
        run, tmp_path, shell, "sh", "-c", "id -un; ls / | wc -l; echo $((6*7)); env | grep LANG"
    )
    assert out.split() == [
        "root",
        str(len(os.listdir(store.snapshotter.layer_path(str(shell.chain_id))))),
        "42",
        "LANG=C.UTF-8",
    ]
    assert (store.snapshotter.layer_path(str(shell.chain_id)) / "tmp").stat().st_mode & 0o7777 == 0o1777

    python = await pull(store, registry.client, Reference.parse("python"), progress=Lines())
    assert python.layers[0] == shell.layers[0]
    assert python.size < 150 << 20
    code = (
        "import sys, json, hashlib, ssl, sqlite3, asyncio, ctypes, zlib; print(json.dumps(list(sys.version_info[:3])))"
    )
    out = await asyncio.to_thread(run, tmp_path, python, "python3", "-c", code)
    assert tuple(json.loads(out)) == sys.version_info[:3]
    out = await asyncio.to_thread(run, tmp_path, python, "python3", "-v", "-c", "import http.server")
    layout = await asyncio.to_thread(
        run, tmp_path, python, "python3", "-c", "import os, sys; print(os.__file__, sys.prefix)"
    )
    assert layout.split()[1] == "/usr/local"


async def test_the_tags_of_a_real_image_are_there(registry: Registry) -> None:
    await assemble_course_images(registry.client, registry.address, Lines())
    tags = await registry.client.tags(registry.name("library/python"))
    major, minor, micro = sys.version_info[:3]
    assert set(tags) == {"latest", f"{major}", f"{major}.{minor}", f"{major}.{minor}.{micro}"}
    assert "latest" in await registry.client.tags(registry.name("library/busybox"))


def test_the_same_files_give_the_same_digests_in_any_process(tmp_path: Path) -> None:
    answers = []
    for number in (1, 2):
        environment = {**os.environ, "PYTHONHASHSEED": str(number), "TZ": "Asia/Tokyo" if number == 2 else "UTC"}
        (tmp_path / str(number)).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", DIGESTS],
            capture_output=True,
            check=True,
            cwd=tmp_path / str(number),
            env=environment,
        )
        answers.append(json.loads(done.stdout))
    assert answers[0] == answers[1]


@pytest.mark.needs_root
@pytest.mark.needs("/usr/bin/python3")
def test_a_distribution_s_python_works_too(tmp_path: Path) -> None:
    _other_python(tmp_path, "/usr/bin/python3")


def _other_python(tmp_path: Path, program: str) -> None:
    """Make the layers with another interpreter, and start it from them."""
    asked = [program, "-c", "import sys; print(*sys.version_info[:2])"]
    version = subprocess.run(asked, capture_output=True, check=True, text=True).stdout.split()
    if version != [str(number) for number in sys.version_info[:2]]:
        pytest.skip("another version than the tests' own, whose packages it needs")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run(
        [program, "-c", DIGESTS, str(tmp_path / "layer.tar.gz")], capture_output=True, check=True, env=environment
    )
    (tmp_path / "root").mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "layer.tar.gz", "-C", tmp_path / "root"], check=True)
    code = "import sys, json, ssl, sqlite3, ctypes, zlib, bz2, lzma; print(sys.prefix, *sys.version_info[:2])"
    done = subprocess.run(
        ["chroot", tmp_path / "root", "/usr/local/bin/python3", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["/usr/local", *version]


@pytest.mark.needs_root
def test_without_busybox_the_machine_s_own_programs_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shutil.which

    def which(name: str, *arguments: Any, **more: Any) -> str | None:
        return None if name == "busybox" else found(name, *arguments, **more)

    monkeypatch.setattr(shutil, "which", which)
    recipe = course.busybox()
    assert recipe.tags == ("latest", "machine")
    course._layer(recipe.layers[0][1], tmp_path / "layer")
    (tmp_path / "root").mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "layer", "-C", tmp_path / "root"], check=True)
    script = "cat /etc/passwd | head -n 1 | cut -d: -f1; ls /bin | grep -c sleep; uname; env true"
    done = subprocess.run(
        ["chroot", tmp_path / "root", "/bin/sh", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/bin:/usr/bin:/usr/sbin:/sbin"},
    )
    assert done.stdout.split() == ["root", "1", "Linux"]


def test_a_machine_with_nothing_says_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(NotSupported) as caught:
        course.busybox()
    assert caught.value.remedy == "Install busybox-static."


def test_what_nobody_loads_is_left_out_and_an_appendix_stays() -> None:
    program = Path(os.path.realpath(sys.executable)).read_bytes()
    less = elf.stripped(program)
    assert len(less) < len(program)
    assert elf.stripped(less) == less
    assert elf.stripped(program + b"appendix") == program + b"appendix"
    assert elf.stripped(b"#!/bin/sh") == b"#!/bin/sh"


def test_a_program_names_its_loader_and_libraries() -> None:
    found = read(Path(os.path.realpath(sys.executable)))
    assert found is not None
    assert any(name.startswith("libc.") for name in found.needed)
    assert os.path.exists(found.interpreter)
    libraries = Resolver().libraries([Path(sys.executable)])
    assert all(path.exists() for path in libraries.values())
    assert read(Path(__file__)) is None


@pytest.mark.needs("ldd")
def test_the_libraries_are_those_that_the_loader_finds() -> None:
    module = next(Path(sysconfig.get_path("platstdlib"), "lib-dynload").glob("_ssl*.so"), None)
    programs = [Path(os.path.realpath(sys.executable)), *([module] if module else [])]
    for program in programs:
        told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        expected = {line.split()[0]: line.split()[2] for line in told.splitlines() if "=> /" in line}
        found = Resolver().libraries([program])
        missing = {name: path for name, path in expected.items() if name not in found}
        assert missing == {}
        for name, path in expected.items():
            assert os.path.realpath(found[name]) == os.path.realpath(path)
