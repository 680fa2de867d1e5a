"""Who dies when: shim, launcher, daemon, and what is found afterwards."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest

from glassdock.errors import CommandNotFound, NotFound, StartFailed
from glassdock.paths import Paths
from glassdock.runtime import cgroups, defaults, launch
from glassdock.runtime.launch import ExitStatus, Process, reconnect
from glassdock.runtime.remains import ShimRecord, settle
from tests.runtime.lab import Lab, alive, eventually, parents_left, read_log

pytestmark = pytest.mark.needs_root

MIB = 1 << 20


def shim_of(folder: Path) -> int:
    return msgspec.json.decode((folder / "run/shim.json").read_bytes(), type=ShimRecord).shim


def test_a_killed_shim_takes_its_container_with_it_and_is_cleared_up_after(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sh", "-c", "sleep 1000 & sleep 1000"))
        os.kill(shim_of(folder), signal.SIGKILL)
        status = lab.do(process.wait())
        assert (status.code, status.error) == (137, "the container's shim was killed")
        # A process leaves its cgroup a moment before it is a zombie.
        eventually(lambda: not alive(process.pid))
        assert lab.cgroups() == []
        assert lab.do(reconnect(folder / "run")) == status, "and the next daemon reads the same"


def test_a_shim_that_was_killed_while_no_daemon_looked_is_found_out(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sleep", "1000", user="ada"))
        process.detach()
        os.kill(shim_of(folder), signal.SIGKILL)
        found = lab.do(reconnect(folder / "run"))
        assert isinstance(found, ExitStatus)
        assert found.code == 137
        eventually(lambda: not alive(process.pid))
    assert lab.cgroups() == []


def test_the_next_daemon_finds_the_container_and_hears_its_end(lab: Lab) -> None:
    with lab.folder() as folder:
        script = "trap 'echo bye; exit 6' TERM; echo hello; while :; do sleep 0.01; done"
        process = lab.start(lab.request(folder, "sh", "-c", script))
        process.detach()
        found = lab.do(reconnect(folder / "run"))
        assert isinstance(found, Process)
        assert (found.pid, found.started_at_ns) == (process.pid, process.started_at_ns)
        eventually(lambda: "hello" in (folder / "log").read_text())
        lab.do(found.signal(signal.SIGTERM))
        assert lab.do(found.wait()).code == 6
        assert read_log(folder / "log")[0] == "hello\nbye\n"


def test_an_end_that_nobody_saw_is_in_the_file(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sh", "-c", "exit 8"))
        process.detach()
        eventually((folder / "run/exit.json").exists)
        found = lab.do(reconnect(folder / "run"))
        assert isinstance(found, ExitStatus)
        assert found.code == 8
        assert lab.cgroups() == [], "whoever looks waits until the shim has cleared up"


def test_a_folder_where_nothing_was_started_is_not_found(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        lab.do(reconnect(tmp_path))


def test_a_killed_launcher_is_started_again_and_containers_live_on(short_tmp: Path) -> None:
    lab = Lab(short_tmp / "root")
    with closing(lab), lab.folder() as folder, lab.folder() as other:
        first = lab.start(lab.request(folder, "sleep", "1000"))
        before = lab.launcher.pid
        os.kill(before, signal.SIGKILL)
        eventually(lambda: not alive(before))
        second = lab.start(lab.request(other, "true"))
        assert lab.launcher.pid != before
        assert lab.do(second.wait()).code == 0
        assert alive(first.pid)
        lab.do(first.signal(signal.SIGKILL))
        assert lab.do(first.wait()).code == 137


def test_many_launches_at_once(lab: Lab) -> None:
    async def one(folder: Path, number: int) -> int:
        request = lab.request(folder, "sh", "-c", f"exit {number}")
        process = await lab.launcher.launch(request, netns=None)
        return (await process.wait()).code

    async def all_of_them(folders: list[Path]) -> list[int]:
        return await asyncio.gather(*(one(folder, number) for number, folder in enumerate(folders)))

    with ExitStack() as stack:
        folders = [stack.enter_context(lab.folder()) for _ in range(12)]
        assert lab.do(all_of_them(folders)) == list(range(12))
    assert lab.cgroups() == []


def test_a_cancelled_launch_is_taken_back(lab: Lab) -> None:
    async def cancelled(folder: Path) -> None:
        launching = asyncio.create_task(lab.launcher.launch(lab.request(folder, "sleep", "1000"), netns=None))
        await asyncio.sleep(0.001)
        launching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launching

    with lab.folder() as folder:
        lab.do(cancelled(folder))
        assert lab.cgroups() == []


@pytest.mark.needs_the_machines_root("shims are kept ready where a group can be given another name")
def test_shims_are_ready_before_they_are_asked_for_and_go_with_the_launcher(short_tmp: Path) -> None:
    lab = Lab(short_tmp / "root", ready=2)
    try:
        eventually(lambda: len(ready(lab)) == 2)
        pids = [Path(path).name.rpartition("-")[2] for path in ready(lab)]
        with lab.folder() as folder:
            request = lab.request(folder, "cat", "/proc/self/cgroup")
            process = lab.start(request)
            assert lab.do(process.wait()).code == 0
            assert str(shim_of(folder)) in pids
            prepared = [span.name for span in process.spans if span.attributes.get("prepared")]
            assert prepared[0] == "runtime.prepare"
            assert "runtime.detach" in prepared
            assert read_log(folder / "log")[0].count(":/\n") >= 1
        with lab.folder() as folder, pytest.raises(CommandNotFound):
            lab.start(lab.request(folder, "nosuch"))
        with lab.folder() as folder:
            process = lab.start(lab.request(folder, "sleep", "1000"))
            names = Path(f"/proc/{process.pid}/cgroup").read_text()
            assert folder.name in names, "the group has the container's name"
            assert "ready-" not in names
            lab.do(process.signal(signal.SIGKILL))
            lab.do(process.wait())
    finally:
        lab.close()
    eventually(lambda: not parents_left(lab.parent))


@pytest.mark.needs_the_machines_root("shims are kept ready where a group can be given another name")
def test_shims_in_reserve_leave_with_a_killed_launcher(short_tmp: Path) -> None:
    lab = Lab(short_tmp / "root", ready=2)
    try:
        eventually(lambda: len(ready(lab)) == 2)
        os.kill(lab.launcher.pid, signal.SIGKILL)
        eventually(lambda: lab.cgroups() == [])
    finally:
        lab.close()
    eventually(lambda: not parents_left(lab.parent))


def ready(lab: Lab) -> list[str]:
    top = cgroups.layout().v1[-1][1] if cgroups.layout().v1 else ""
    if not top:
        pytest.skip("only cgroup v1 keeps shims with a child in reserve")
    return [path for path in lab.cgroups() if path.startswith(f"{top}{lab.parent}/ready-")]


DAEMON = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.runtime.lab import Lab
lab = Lab(Path(sys.argv[2]))
folder = Path(sys.argv[2]) / "c"
for name in ("run", "upper", "work"):
    (folder / name).mkdir(parents=True)
lab.start(lab.request(folder, "sh", "-c", "echo one; trap 'echo two; exit 7' TERM; while :; do sleep 0.01; done"))
print("started", lab.launcher.pid, flush=True)
lab.do(asyncio.sleep(1000))
"""


def test_a_daemon_killed_at_any_time_loses_neither_container_nor_log_nor_code(short_tmp: Path) -> None:
    here = str(Path(__file__).parents[2])
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, here, str(short_tmp / "r")], stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    with daemon.stdout:
        launcher = int(daemon.stdout.readline().split()[1])
        daemon.kill()
        daemon.wait()
    run_dir = short_tmp / "r/c/run"

    async def next_daemon() -> tuple[int, ExitStatus]:
        found = await reconnect(run_dir)
        assert isinstance(found, Process)
        await found.signal(signal.SIGTERM)
        return found.pid, await found.wait()

    eventually(lambda: not alive(launcher))
    pid, status = asyncio.run(next_daemon())
    assert status.code == 7
    assert not alive(pid)
    assert read_log(short_tmp / "r/c/log")[0] == "one\ntwo\n"
    settle(run_dir)
    parent = defaults.cgroup_parent(Paths.of(short_tmp / "r"))
    eventually(lambda: not parents_left(parent))


def test_a_shim_killed_after_it_told_the_end_leaves_its_cgroup_to_the_next_who_looks(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sleep", "1000"))
        shim = shim_of(folder)
        os.kill(shim, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGKILL)
        # As if it had been killed between exit.json and the cgroup: both are there, and nobody holds the folder.
        (folder / "run/exit.json").write_bytes(msgspec.json.encode(ExitStatus(137, False, 1)))
        os.kill(shim, signal.SIGKILL)
        assert lab.do(process.wait()).code == 137
        assert lab.cgroups() == []
        assert not (folder / "run/shim.json").exists()


def test_a_start_that_hangs_in_the_kernel_is_given_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with lab.folder() as folder, monkeypatch.context() as patch:
        patch.setattr(launch, "PATIENCE", 0.5)
        os.mkfifo(folder / "log")  # open(2) waits for a reader, as it would for a file server that is gone
        with pytest.raises(StartFailed, match="did not start within 0 seconds; it was ended"):
            lab.start(lab.request(folder, "true"))
        assert lab.cgroups() == []
        os.unlink(folder / "log")
        patch.undo()
        process = lab.start(lab.request(folder, "true"))
        assert lab.do(process.wait()).code == 0
    assert lab.run("true").code == 0


def test_a_start_whose_shim_dies_says_so_and_leaves_nothing(lab: Lab) -> None:
    async def launch_and_kill(folder: Path) -> None:
        launching = asyncio.create_task(lab.launcher.launch(lab.request(folder, "sleep", "1000"), netns=None))
        while not (folder / "run/shim.json").exists():
            await asyncio.sleep(0)
        os.kill(shim_of(folder), signal.SIGKILL)
        (outcome,) = await asyncio.gather(launching, return_exceptions=True)
        if isinstance(outcome, Process):
            assert (await outcome.wait()).code == 137
        else:
            assert isinstance(outcome, StartFailed)
            assert "shim died" in outcome.message

    for _ in range(5):
        with lab.folder() as folder:
            lab.do(launch_and_kill(folder))
        assert lab.cgroups() == []


@pytest.mark.needs_the_machines_root("shims are kept ready where a group can be given another name")
def test_what_was_mounted_ahead_is_the_same_as_what_is_mounted_then(short_tmp: Path, lab: Lab) -> None:
    """A container out of the reserve sees the mounts, devices and covers that one made on the spot sees."""
    script = "sed 's/^[0-9]* [0-9]* [^ ]* //; s/upperdir=[^ ]*//; s/lowerdir=[^,]*//' /proc/self/mountinfo | sort"
    script += "; ls -lA /dev /proc/acpi | sed 's/ [A-Z][a-z][a-z] .*:.. / /'"
    script += "; cat /proc/keys; echo x > /proc/sys/kernel/msgmax"
    from_scratch = lab.run("sh", "-c", script)
    reserve = Lab(short_tmp / "root", ready=1)
    with closing(reserve):
        eventually(lambda: len(ready(reserve)) == 1)
        time.sleep(0.2)
        with reserve.folder() as folder:
            process = reserve.start(reserve.request(folder, "sh", "-c", script))
            reserve.do(process.wait())
            assert [span.name for span in process.spans].count("runtime.graft") == 3
            assert any(span.name == "runtime.scaffold" for span in process.spans)
            out, err = read_log(folder / "log")
    assert err == from_scratch.err
    assert masked(out) == masked(from_scratch.out)


def masked(text: str) -> list[str]:
    """Without what differs between any two containers: ids of groups and folders."""
    return sorted({re.sub(r"[0-9a-f]{32,}|glassdock-\w+", "ID", line) for line in text.splitlines()})


@pytest.mark.needs_the_machines_root("shims are kept ready where a group can be given another name")
def test_settings_and_other_sizes_do_without_what_was_mounted_ahead(short_tmp: Path) -> None:
    reserve = Lab(short_tmp / "root", ready=1)
    with closing(reserve):
        for changes in (
            {"linux": {"sysctl": {"kernel.msgmax": "4242"}}},
            {"spec": {"mounts": defaults.mounts(shm_size=MIB)}},
        ):
            eventually(lambda: len(ready(reserve)) == 1)
            time.sleep(0.2)
            result = reserve.run("sh", "-c", "cat /proc/sys/kernel/msgmax; df -k /dev/shm | tail -1", **changes)
            msgmax, size = result.out.splitlines()
            assert (msgmax == "4242") == ("linux" in changes)
            assert (size.split()[1] == "1024") == ("spec" in changes)
            assert result.err == ""


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
def test_a_group_of_an_earlier_life_is_cleared_before_the_next(lab: Lab) -> None:
    with lab.folder() as folder:
        request = lab.request(folder, "true")
        assert request.spec.linux is not None
        left = cgroups.open_cgroup(request.spec.linux.cgroups_path)
        left.create()
        orphan = subprocess.Popen(["sleep", "1000"])
        left.join(orphan.pid)
        process = lab.start(request)
        assert orphan.wait() == -signal.SIGKILL
        assert lab.do(process.wait()).code == 0


def test_a_strange_message_does_not_end_the_shim(lab: Lab) -> None:
    from glassdock.runtime import launch, messages

    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sleep", "1000"))
        for data in (
            b"\xff\xfe",
            b"",
            messages._encoder.encode(messages.Attach()),
            messages._encoder.encode(messages.Done()),
        ):
            with launch.connect(folder / "run") as connection:
                connection.send(data)
        lab.do(process.signal(signal.SIGKILL))
        assert lab.do(process.wait()).code == 137


def test_nothing_is_imported_after_the_fork(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONVERBOSE", "1")
    verbose = Lab(short_tmp / "root")
    with closing(verbose), verbose.folder() as folder:
        assert verbose.run("true").code == 0
        assert "import 'glassdock.runtime.shim'" in capfd.readouterr().err, "before the fork it is told"
        process = verbose.start(verbose.request(folder, "sh", "-c", "cat; exit 3", stdin=True, stdin_once=True))
        with verbose.do(process.attach(stdin=True, stdout=True, stderr=True)) as stream:
            stream.shutdown(socket.SHUT_WR)
            assert verbose.do(process.wait()).code == 3
        time.sleep(0.1)
        assert [line for line in capfd.readouterr().err.splitlines() if line.startswith("import ")] == []
