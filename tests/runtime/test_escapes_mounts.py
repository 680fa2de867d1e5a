"""Escapes of the past that do not work, three: mount targets, masks and files of a hostile image.

Rules: what an attack would make or change lies in the test's own folder; a naive path walk shows that the trap works.
Source: every number in here (2021-30465 and so on) is a CVE's, told at https://nvd.nist.gov
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassdock.errors import GlassdockError, InvalidParameter, StartFailed
from glassdock.oci.runtime import Mount
from glassdock.runtime import defaults
from tests.runtime.lab import Lab

pytestmark = pytest.mark.needs_root

WITHOUT_DEV = tuple(entry for entry in defaults.mounts() if not entry.destination.startswith("/dev"))
WITHOUT_PROC = tuple(entry for entry in defaults.mounts() if entry.destination != "/proc")
PATTERN = Path("/proc/sys/kernel/core_pattern")


def bind(source: Path, destination: str, *options: str) -> Mount:
    return Mount(destination, "bind", str(source), ("rbind", *options))


@contextlib.contextmanager
def swapped(place: Path, other: Path) -> Iterator[None]:
    """Two names that another thread exchanges all the time, as the second container of the race would."""
    spare, done = place.with_name("spare"), threading.Event()

    def exchange() -> None:
        while not done.is_set():
            for source, target in ((place, spare), (other, place), (spare, other)):
                with contextlib.suppress(OSError):  # the start made a folder in the gap
                    source.rename(target)
            time.sleep(0.0002)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


# ---- mount targets


def test_a_target_that_becomes_a_symlink_during_the_start_leads_nowhere(lab: Lab) -> None:
    """2021-30465: two containers share a volume; one swaps a folder in it while the other's mount goes there."""
    with lab.folder() as folder:
        shared, outside, data = folder / "shared", folder / "outside", folder / "data"
        for made in (shared / "x", outside, data):
            made.mkdir(parents=True)
        (data / "mark").write_text("mine")
        (outside / "secret").write_text("of the machine")
        (shared / "link").symlink_to(outside)
        mounts = (bind(shared, "/v"), bind(data, "/v/x/deep/er"), bind(data, "/v/link/as/well"))
        with swapped(shared / "x", shared / "link"):
            for _ in range(12):
                with contextlib.suppress(GlassdockError):
                    # The link is followed in the container's root, where the folder of that name is the container's.
                    result = lab.run("sh", "-c", f"ls {outside} /v/x/deep/er", mounts=mounts)
                    assert "secret" not in result.out
        assert os.listdir(outside) == ["secret"]
        (shared / "control").symlink_to(outside)
        os.makedirs(shared / "control/naive")
        assert (outside / "naive").is_dir(), "the control: who only joins paths is led out"


def test_a_target_below_a_symlink_to_the_root_or_upwards_stays_inside(lab: Lab) -> None:
    """2023-27561 and before: /v/link is a link to / or climbs; both are the container's own root."""
    with lab.folder() as folder:
        (data := folder / "data").mkdir()
        (outside := folder / "outside").mkdir()
        (data / "mark").write_text("mine\n")
        for number, target in enumerate(("/", "../../../../../../..", f"/../../..{outside}")):
            (folder / f"upper/link{number}").symlink_to(target)
            request = lab.request(
                folder, "cat", f"/link{number}/here/mark", mounts=(bind(data, f"/link{number}/here", "ro"),)
            )
            assert lab.do(lab.start(request).wait()).code == 0
        assert list(outside.iterdir()) == []
        assert not Path("/here").exists()


@pytest.mark.parametrize("where", ["/../../../../tmp/climbed", "/a/../../../tmp/climbed"])
def test_a_destination_that_climbs_is_inside(lab: Lab, where: str) -> None:
    with lab.folder() as folder:
        (folder / "mark").write_text("mine\n")
        result = lab.run("cat", "/tmp/climbed", mounts=(bind(folder / "mark", where),))
    assert result.out == "mine\n"
    assert not Path("/tmp/climbed").exists()


@pytest.mark.parametrize("kind", ["bind", "tmpfs", "sysfs"])
@pytest.mark.parametrize("where", ["/proc", "//proc/", "/x/../proc", "/proc/sys/kernel", "/proc/self/attr", "/proc/1"])
def test_nothing_is_mounted_over_proc(lab: Lab, kind: str, where: str) -> None:
    """2019-16884: whoever shows the runtime another /proc writes its labels where they do nothing."""
    with lab.folder() as folder:
        entry = bind(folder, where) if kind == "bind" else Mount(where, kind, kind, ())
        with pytest.raises(InvalidParameter, match="inside /proc"):
            lab.start(lab.request(folder, "true", mounts=(entry,)))


def test_a_volume_may_not_hide_proc_from_behind(lab: Lab) -> None:
    """The same through links of the image, also those that only the volume before brings."""
    with lab.folder() as folder:
        (shared := folder / "shared").mkdir()
        (shared / "link").symlink_to("/proc")
        for where in ("/v/link", "/v/link/sys"):
            request = lab.request(folder, "true", mounts=(bind(shared, "/v"), bind(folder / "shared", where)))
            with pytest.raises(StartFailed, match="inside /proc"):
                lab.start(request)


# ---- what the runtime itself writes and covers


def test_a_setting_is_never_written_into_a_false_proc(lab: Lab) -> None:
    """2025-52881: a link or a folder of the image in the place of /proc/sys."""
    with lab.folder() as folder:
        upper = folder / "upper"
        (upper / "proc/sys/kernel").mkdir(parents=True)
        (upper / "proc/sys/kernel/msgmax").write_text("untouched")
        changes = {"sysctl": {"kernel.msgmax": "4242"}}
        with pytest.raises(StartFailed, match="not the container's own"):
            lab.start(lab.request(folder, "true", linux=changes, spec={"mounts": WITHOUT_PROC}))
        assert (upper / "proc/sys/kernel/msgmax").read_text() == "untouched"


def test_a_false_null_device_hides_nothing_of_the_machine_and_opens_nothing(lab: Lab) -> None:
    """2025-31133: the runtime bound the image's /dev/null over what it hid, and the image had a link there."""
    before = PATTERN.read_text()
    with lab.folder() as folder:
        (dev := folder / "upper/dev").mkdir()
        (dev / "null").symlink_to("/proc/sys/kernel/core_pattern")
        script = "stat -c '%t:%T' /proc/keys; wc -c < /proc/keys; echo gone > /proc/keys; cat /proc/keys"
        request = lab.request(folder, "sh", "-c", script, spec={"mounts": WITHOUT_DEV})
        with contextlib.suppress(StartFailed):
            lab.do(lab.start(request).wait())
            log = (folder / "log").read_text()
            assert '"1:3\\n"' in log
            assert before.strip() not in log
    assert PATTERN.read_text() == before


def test_masked_and_read_only_paths_that_are_swapped_cover_nothing_else(lab: Lab) -> None:
    with lab.folder() as folder:
        shared = folder / "shared"
        (shared / "x").mkdir(parents=True)
        (shared / "link").symlink_to("/tmp")
        linux = {"masked_paths": ("/v/x", *defaults.masked_paths()), "readonly_paths": ("/v/x", "/proc/sys")}
        script = "wc -c < /proc/keys; echo core > /proc/sys/kernel/msgmax; ls /bin/sh"
        with swapped(shared / "x", shared / "link"):
            for _ in range(8):
                result = lab.run("sh", "-c", script, linux=linux, mounts=(bind(shared, "/v"),))
                assert result.out.split() == ["0", "/bin/sh"]
                assert "Read-only file system" in result.err


@pytest.mark.parametrize("target", ["/proc/sys/kernel/core_pattern", "/proc/1/root/etc", "/sys/kernel"])
def test_the_console_is_never_put_where_a_link_leads(lab: Lab, target: str) -> None:
    """2025-52565: /dev/console of the image is a link; bound there before the masks, the terminal opened the way."""
    before = PATTERN.read_text()
    with lab.folder() as folder:
        (dev := folder / "upper/dev").mkdir()
        (dev / "console").symlink_to(target)
        mounts = (*WITHOUT_DEV, Mount("/dev/pts", "devpts", "devpts", ("newinstance", "ptmxmode=0666")))
        request = lab.request(folder, "true", process={"terminal": True}, spec={"mounts": mounts})
        with pytest.raises(StartFailed):
            lab.start(request)
    assert PATTERN.read_text() == before
    assert lab.cgroups() == []


@pytest.mark.needs_the_machines_root("device nodes are made for the attack")
def test_a_false_pts_gives_no_terminal(lab: Lab) -> None:
    with lab.folder() as folder:
        (pts := folder / "upper/dev/pts").mkdir(parents=True)
        os.mknod(pts / "ptmx", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        request = lab.request(folder, "true", process={"terminal": True}, spec={"mounts": WITHOUT_DEV})
        with pytest.raises(StartFailed, match="terminal"):
            lab.start(request)


# ---- files of a hostile image


def hostile(path: Path, kind: str, folder: Path) -> None:
    path.unlink(missing_ok=True)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "huge":
            with open(path, "wb") as file:
                file.truncate(1 << 40)
        case "endless":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path.name)
        case "socket":
            with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
                made.bind(path.name)
        case "outside":
            (folder / "outside").write_text("eve:x:0:0:Eve:/:/bin/sh\n")
            path.symlink_to(folder / "outside")
        case "garbage":
            path.write_bytes(os.urandom(1 << 16) + b"\n:::::::\neve:x:-1:9999999999999:\n" + b"eve:" * 1000)
        case "itself":
            path.symlink_to("/proc/self/mem")


KINDS = ("fifo", "folder", "huge", "endless", "loop", "socket", "outside", "garbage", "itself")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["passwd", "group"])
def test_a_hostile_file_of_users_neither_hangs_nor_helps(lab: Lab, name: str, kind: str) -> None:
    with lab.folder() as folder:
        (etc := folder / "upper/etc").mkdir()
        hostile(etc / name, kind, folder)
        user = "eve" if name == "passwd" else "ada:eve"
        began = time.monotonic()
        with pytest.raises((StartFailed, InvalidParameter)):
            lab.start(lab.request(folder, "true", user=user))
        assert time.monotonic() - began < 5
    assert lab.cgroups() == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "garbage"])
def test_a_hostile_null_device_of_an_image_does_not_hang_the_start(lab: Lab, kind: str) -> None:
    with lab.folder() as folder:
        (dev := folder / "upper/dev").mkdir()
        hostile(dev / "null", kind, folder)
        began = time.monotonic()
        with contextlib.suppress(StartFailed):
            request = lab.request(folder, "head", "-c", "64", spec={"mounts": WITHOUT_DEV})
            assert lab.do(lab.start(request).wait()).code == 0
            assert (folder / "log").read_text() == "", "there is nothing to read"
        assert time.monotonic() - began < 5
    assert lab.cgroups() == []


@pytest.mark.parametrize("kind", ["fifo", "loop", "outside", "folder", "endless"])
def test_the_usual_dev_is_put_over_whatever_the_image_has_there(lab: Lab, kind: str) -> None:
    with lab.folder() as folder:
        hostile(folder / "upper/dev", kind, folder)
        with contextlib.suppress(StartFailed):
            request = lab.request(folder, "stat", "-c", "%t:%T", "/dev/null")
            assert lab.do(lab.start(request).wait()).code == 0
            assert '"1:3\\n"' in (folder / "log").read_text()
    assert lab.cgroups() == []


@pytest.mark.parametrize("kind", ["fifo", "loop", "outside", "folder", "huge"])
def test_the_containers_own_files_go_over_whatever_the_image_has_there(lab: Lab, kind: str) -> None:
    with lab.folder() as folder:
        (etc := folder / "upper/etc").mkdir()
        hostile(etc / "hosts", kind, folder)
        (folder / "hosts").write_text("mine\n")
        before = sorted(folder.iterdir())
        with contextlib.suppress(StartFailed):
            request = lab.request(folder, "cat", "/etc/hosts", mounts=(bind(folder / "hosts", "/etc/hosts"),))
            assert lab.do(lab.start(request).wait()).code == 0
            assert "mine" in (folder / "log").read_text()
        assert [path for path in sorted(folder.iterdir()) if path.name != "log"] == before
        if kind == "outside":
            assert "eve" in (folder / "outside").read_text()


def test_a_source_that_is_a_link_is_what_it_was_when_it_was_opened(lab: Lab) -> None:
    """The source is opened once: what is behind its name later does not matter."""
    with lab.folder() as folder:
        (folder / "one").mkdir()
        (folder / "two").mkdir()
        (folder / "one/mark").write_text("one")
        (folder / "two/mark").write_text("two")
        (folder / "source").symlink_to(folder / "one")
        request = lab.request(
            folder, "sh", "-c", "read l; cat /v/mark", mounts=(bind(folder / "source", "/v"),), stdin=True
        )
        process = lab.start(request)
        (folder / "source").unlink()
        (folder / "source").symlink_to(folder / "two")
        with lab.do(process.attach(stdin=True, stdout=True, stderr=True)) as stream:
            stream.sendall(b"go\n")
            lab.do(process.wait())
        assert '"one"' in (folder / "log").read_text()
