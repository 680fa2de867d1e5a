"""Escapes of the past that do not work, one: what a process could hold on to. Descriptors, programs, processes, rights.

Rules: each attack is the real one, against the real runtime. Where one can be made that hurts nobody, a control shows
that the attack works where it should: on the machine itself, or in a container that was given too much. What would
write outside writes what is there already, or into the test's own folder.

Source: every number in here (2019-5736 and so on) is a CVE's, told at https://nvd.nist.gov
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from glassdock.errors import CommandNotExecutable, CommandNotFound, StartFailed
from glassdock.linux import ids
from glassdock.oci.runtime import Memory, Mount, Namespace, Pids, Resources
from glassdock.runtime import capabilities, defaults
from tests.runtime.lab import Lab, alive

pytestmark = pytest.mark.needs_root

several_ids = pytest.mark.skipif(ids.mapping().kind == "single", reason="there is one id: nothing is another's")
MIB = 1 << 20
SHARED_PIDS = tuple(Namespace(kind) for kind in ("mount", "uts", "ipc", "cgroup"))


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the machine's with a secret in its environment."""
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "SECRET": "of-the-machine"}) as process:
        yield process
        assert process.poll() is None, "it was hurt"
        process.kill()


def bound(*folders: Path | str) -> tuple[Mount, ...]:
    return tuple(Mount(str(folder), "bind", str(folder), ("rbind", "ro")) for folder in folders)


# ---- descriptors and programs of the machine


@pytest.mark.parametrize("climb", ["", "/../../../../../../../.."])
def test_no_descriptor_leads_out_while_the_program_is_looked_for(lab: Lab, climb: str) -> None:
    """2024-21626, by the program's path: all that is open then is tried, with and without climbing from it."""
    with lab.folder() as folder:
        shutil.copy("/bin/true", folder / "outside")
        for number in range(16):
            request = lab.request(folder, f"/proc/self/fd/{number}{climb}{folder}/outside")
            with pytest.raises((CommandNotFound, CommandNotExecutable)):
                lab.start(request)
        path = f"/seen{folder}/outside"
        seen = (Mount(f"/seen{folder}", "bind", str(folder), ("rbind", "ro")), *bound("/lib", "/lib64", "/usr"))
        assert lab.run(path, mounts=seen).code == 0, "the control: where it can be seen, it runs"


@pytest.mark.parametrize("path", ["/proc/self/cwd", "/proc/self/root", "/proc/1/root", "/proc/thread-self/fd/8"])
def test_no_magic_link_is_a_working_directory(lab: Lab, path: str) -> None:
    with lab.folder() as folder, pytest.raises(StartFailed, match="chdir to cwd"):
        lab.start(lab.request(folder, "pwd", process={"cwd": path}))


@pytest.mark.parametrize("name", ["cwd", "root"])
def test_a_link_of_the_image_to_a_magic_link_is_none_either(lab: Lab, name: str) -> None:
    with lab.folder() as folder:
        (folder / "upper/work").symlink_to(f"/proc/self/{name}")
        with pytest.raises(StartFailed, match="chdir to cwd"):
            lab.start(lab.request(folder, "pwd", process={"cwd": "/work"}))


def test_a_working_directory_that_climbs_stays_inside(lab: Lab) -> None:
    with lab.folder() as folder:
        (folder / "outside").mkdir()
        (folder / "upper/down").symlink_to(f"../../../../..{folder}/outside")
        for path in (f"/../../../..{folder}/outside", "/down"):
            result = lab.run("sh", "-c", "pwd; touch made", process={"cwd": path})
            assert result.code == 0
        assert list((folder / "outside").iterdir()) == []


@pytest.mark.needs_the_machines_root("the control changes the machine's Python")
def test_the_machines_interpreter_cannot_be_changed_through_proc_self_exe(lab: Lab) -> None:
    """2019-5736: the image's program is a link to /proc/self/exe, which at that moment is the machine's Python."""
    attack = (
        "import os\n"
        "for change in (lambda p: os.chmod(p, os.stat(p).st_mode & 0o7777), lambda p: os.utime(p),\n"
        "               lambda p: os.close(os.open(p, os.O_WRONLY)), lambda p: os.truncate(p, 10**9)):\n"
        "    try:\n"
        "        change('/proc/self/exe'); print('changed')\n"
        "    except OSError as error:\n"
        "        print(error.strerror)\n"
        "print(os.path.realpath('/proc/self/exe'))\n"
    )
    base = Path(sys.base_prefix)
    mounts = (*bound("/lib", "/lib64", "/usr"), *(() if base.is_relative_to("/usr") else bound(base)))
    environment = ("PATH=/bin", f"PYTHONHOME={base}", f"LD_LIBRARY_PATH={base}/lib")
    program = Path(sys.executable).resolve()
    before = program.stat()
    with lab.folder() as folder:
        os.symlink("/proc/self/exe", folder / "upper/attack")
        request = lab.request(folder, "/attack", "-c", attack, mounts=mounts, process={"env": environment})
        lab.do(lab.start(request).wait())
        log = (folder / "log").read_text()
    # Who is not root of the machine is no owner of its Python either: "permission denied".
    refused = ("Read-only file system", "Text file busy", *(() if ids.initial() else ("Permission denied",)))
    assert sum(log.count(answer) for answer in refused) == 4, log
    assert log.count("Read-only file system") >= 2, "not only because it runs"
    assert "changed" not in log
    after = program.stat()
    assert (before.st_mtime_ns, before.st_ctime_ns, before.st_size) == (
        after.st_mtime_ns,
        after.st_ctime_ns,
        after.st_size,
    )
    os.chmod(program, stat.S_IMODE(before.st_mode))  # the control: outside the same change is allowed


def test_the_streams_lead_to_pipes_and_to_the_containers_own_null(lab: Lab) -> None:
    out = lab.run("sh", "-c", "for n in 0 1 2; do readlink /proc/self/fd/$n; done; stat -c %m /dev/null").out.split()
    assert out[0] == "/dev/null"
    assert all(link.startswith("pipe:") for link in out[1:3])


# ---- processes of the machine


READS = """
for f in environ maps auxv mem; do cat /proc/{pid}/$f; done
ls /proc/{pid}/root/ /proc/{pid}/cwd/; cat /proc/{pid}/fd/0; readlink /proc/{pid}/exe
"""


def test_processes_of_the_machine_cannot_be_looked_into(lab: Lab, victim: subprocess.Popen[bytes]) -> None:
    """ptrace's right is what /proc asks for too; even in the machine's PID namespace Docker's capabilities lack it."""
    script = READS.format(pid=victim.pid)
    shared = lab.run("sh", "-c", script, linux={"namespaces": SHARED_PIDS})
    assert shared.out == ""
    assert shared.err.count("Permission denied") == 7
    alone = lab.run("sh", "-c", script)
    assert alone.err.count("No such file") >= 4
    assert "SECRET" not in alone.out
    everything = {"capabilities": capabilities.sets(capabilities.ALL)}
    control = lab.run("sh", "-c", script, linux={"namespaces": SHARED_PIDS, "seccomp": None}, process=everything)
    assert "SECRET=of-the-machine" in control.out


def test_shim_and_launcher_cannot_be_looked_into(lab: Lab) -> None:
    with lab.folder() as folder:
        other = lab.start(lab.request(folder, "sleep", "60"))
        shim = msgspec.json.decode((folder / "run/shim.json").read_bytes())["shim"]
        for pid in (lab.launcher.pid, shim):
            result = lab.run("sh", "-c", READS.format(pid=pid), linux={"namespaces": SHARED_PIDS})
            assert result.out == ""
            assert result.err.count("Permission denied") == 7
        lab.do(other.signal(9))
        lab.do(other.wait())


def test_signals_do_not_leave_the_pid_namespace(lab: Lab, victim: subprocess.Popen[bytes]) -> None:
    script = f"kill -9 {victim.pid}; kill -9 {lab.launcher.pid}; sleep 50 & kill -9 -1; kill -9 1; echo alive"
    result = lab.run("sh", "-c", script)
    assert result.err.count("No such process") == 2
    assert result.out == "alive\n"
    assert victim.poll() is None
    assert alive(lab.launcher.pid)


def test_the_signal_of_a_groups_end_reaches_only_its_own(lab: Lab, victim: subprocess.Popen[bytes]) -> None:
    """kill(0) is for the sender's group: it is not the shim's."""
    result = lab.run("sh", "-c", "trap 'echo heard' TERM; kill -TERM 0; sleep 0.1", linux={"namespaces": SHARED_PIDS})
    assert "heard" in result.out
    assert result.code == 0
    assert victim.poll() is None


# ---- rights


@several_ids
@pytest.mark.parametrize(("promised", "euid"), [(True, "1000"), (False, "0")])
def test_a_setuid_program_gives_nothing_to_who_promised_to_take_nothing(lab: Lab, promised: bool, euid: str) -> None:
    with lab.folder() as folder:
        # Not busybox, which gives up by itself what it does not need.
        shutil.copy(shutil.which("grep") or "", folder / "upper/grep")
        os.chmod(folder / "upper/grep", 0o4755)
        mounts, process = bound("/lib", "/lib64", "/usr"), {"no_new_privileges": promised}
        request = lab.request(folder, "/grep", "^Uid", "/proc/self/status", mounts=mounts, process=process, user="ada")
        assert lab.do(lab.start(request).wait()).code == 0
        assert f"1000\\t{euid}\\t{euid}" in (folder / "log").read_text()


@pytest.mark.parametrize("user", ["", "ada", "1000:2000"])
def test_no_capability_is_inheritable_or_ambient(lab: Lab, user: str) -> None:
    """2022-29162: a program with inheritable file capabilities would take them back from the bounding set."""
    out = lab.run("grep", "-E", "^Cap(Inh|Amb)", "/proc/self/status", user=user).out.split()
    assert out == ["CapInh:", "0" * 16, "CapAmb:", "0" * 16]


def test_inheritable_capabilities_are_seen_where_somebody_asks_for_them(lab: Lab) -> None:
    caps = capabilities.sets(capabilities.DEFAULT)
    caps = type(caps)(caps.bounding, caps.effective, caps.bounding, caps.permitted, ())
    out = lab.run("grep", "^CapInh", "/proc/self/status", process={"capabilities": caps}).out
    assert out.split()[1] != "0" * 16, "the control"


@several_ids
@pytest.mark.parametrize(
    ("user", "groups"), [("", "0"), ("1000:2000", "2000"), ("ada", "1000 2000 2001"), ("7:9", "9")]
)
def test_the_primary_group_is_among_the_supplementary_ones_and_none_of_the_machines(
    lab: Lab, user: str, groups: str
) -> None:
    """2023-25173: who is kept out by a file's group could else drop the group and be let in as one of the others."""
    line = lab.run("grep", "^Groups", "/proc/self/status", user=user).out
    assert set(line.split()[1:]) == set(groups.split())


@several_ids
def test_who_is_kept_out_by_group_stays_out(lab: Lab) -> None:
    with lab.folder() as folder:
        secret = folder / "upper/secret"
        secret.write_text("for all but the math group\n")
        os.chown(secret, 0, 2000)
        secret.chmod(0o604)
        for user, code in (("1000:2000", 1), ("ada", 1), ("1000:1000", 0)):
            request = lab.request(folder, "cat", "/secret", user=user)
            assert lab.do(lab.start(request).wait()).code == code


# ---- exhaustion


def test_a_fork_bomb_leaves_the_machine_able_to_fork(lab: Lab) -> None:
    resources = Resources(devices=defaults.device_rules(), pids=Pids(30))
    with lab.folder() as folder:
        bomb = "b() { b | b & }; b; sleep 60"
        process = lab.start(lab.request(folder, "sh", "-c", bomb, linux={"resources": resources}))
        for _ in range(5):
            assert subprocess.run(["true"], check=True).returncode == 0
        assert len(_in_the_pid_namespace_of(process.pid)) <= 30
        lab.do(process.signal(9))
        assert lab.do(process.wait()).code == 137
    assert lab.cgroups() == []


def _in_the_pid_namespace_of(pid: int) -> list[str]:
    """The processes that are there with it now."""
    wanted, found = os.readlink(f"/proc/{pid}/ns/pid"), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found += [name] if os.readlink(f"/proc/{name}/ns/pid") == wanted else []
    return found


def test_every_file_system_in_memory_has_a_size(lab: Lab) -> None:
    tmp = Mount("/tmp", "tmpfs", "tmpfs", ("mode=1777", "size=1m"))
    lines = lab.run("cat", "/proc/self/mountinfo", mounts=(tmp,)).out.splitlines()
    memory = {line.split()[4]: line.split() for line in lines if " - tmpfs " in line}
    writable = {place for place, words in memory.items() if "rw" in words[5].split(",")}
    assert {"/dev", "/dev/shm", "/tmp"} <= writable
    assert {place for place in writable if "size=" not in memory[place][-1]} == set()


def test_a_full_shm_is_full_at_its_size(lab: Lab) -> None:
    mounts = defaults.mounts(shm_size=MIB)
    script = "dd if=/dev/zero of=/dev/shm/x bs=64k count=64; wc -c < /dev/shm/x"
    result = lab.run("sh", "-c", script, spec={"mounts": mounts})
    assert "No space left" in result.err
    assert result.out.strip() == str(MIB)


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
def test_files_in_memory_count_as_the_containers_memory(lab: Lab) -> None:
    resources = Resources(devices=defaults.device_rules(), memory=Memory(limit=16 * MIB, swap=16 * MIB))
    result = lab.run("dd", "if=/dev/zero", "of=/dev/x", "bs=1M", "count=60", linux={"resources": resources})
    assert result.code == 137
    assert result.status.oom_killed
