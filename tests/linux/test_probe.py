"""The probe on the real kernel: as root, as ordinary users, and where something around it forbids things."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glassdock.errors import NotSupported
from glassdock.linux import probe, refusals
from glassdock.linux.probe import LEVELS, Axis, Report
from glassdock.linux.refusals import Facts

# Everything is imported before the user changes: the interpreter may be in a folder that only root can read.
AS = """
import ctypes, errno, json, os, struct, sys
import multiprocessing, tempfile
from glassdock.linux import attempts, capset, mount, prctl, probe, refusals, rungs, seccomp
from glassdock.linux.clone import CloneFlag, unshare
try:
    import pyseccomp
except (ImportError, OSError, RuntimeError):
    pyseccomp = None

def filtered(number, answer):
    "From now on the system call gives this errno."
    prctl.set_no_new_privileges()
    load, jump = struct.pack("=HBBI", 0x20, 0, 0, 0), struct.pack("=HBBI", 0x15, 0, 1, number)
    refuse, allow = struct.pack("=HBBI", 6, 0, 0, 0x50000 | answer), struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)
    seccomp.set_mode_filter(load + jump + refuse + allow)

def become(user):
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    prctl.set_dumpable(True)  # or /proc/self/uid_map is root's

user, root = int(sys.argv[1]), sys.argv[2]
os.chdir("/")
{before}
if user:
    become(user)
{after}
print(json.dumps(probe.main(root).to_json()))
"""
UNSHARE, MOUNT = (272, 165) if os.uname().machine == "x86_64" else (97, 40)
NOBODYS = 54321


@pytest.fixture
def folder(short_tmp: Path) -> Path:
    """A folder that anybody may write, in one that anybody may write: the state folder, beside temporary ones."""
    short_tmp.chmod(0o777)
    made = short_tmp / "state"
    made.mkdir(mode=0o777)
    made.chmod(0o777)
    return made


@pytest.fixture(autouse=True)
def no_trace() -> Iterator[None]:
    """No interface or cgroup is left by a probe; those of other people's probes go by themselves."""

    def seen() -> set[str]:
        found = {f"interface {name}" for name in os.listdir("/sys/class/net") if name.startswith("gdprobe")}
        return found | {f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob("*/glassdock-probe-*")}

    before = seen()
    yield
    deadline = time.monotonic() + 3
    while seen() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert seen() <= before


def run(folder: Path, user: int = 0, before: str = "", after: str = "") -> dict[str, dict[str, Any]]:
    script = AS.replace("{before}", before).replace("{after}", after)
    words = [sys.executable, "-W", "error", "-c", script, str(user), str(folder)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=os.environ | {"TMPDIR": str(folder.parent)}
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for axis in report["axes"]:
        assert axis["ok"] or (axis["cause"] and axis["remedy"]), axis
    assert list(folder.iterdir()) == []
    assert list(folder.parent.iterdir()) == [folder]
    return {axis["name"]: axis for axis in report["axes"]}


@pytest.fixture
def learner() -> Iterator[int]:
    """An ordinary user with a range of ids, as useradd makes one."""
    name = f"gdprobe{os.getpid() % 100000}"
    subprocess.run(["useradd", "--no-create-home", name], check=True)
    try:
        yield int(subprocess.run(["id", "-u", name], capture_output=True, text=True, check=True).stdout)
    finally:
        subprocess.run(["userdel", name], check=True)


def namespaces_are_for_everybody() -> bool:
    done = subprocess.run(["unshare", "--user", "true"], user=NOBODYS, group=NOBODYS, capture_output=True, check=False)
    return done.returncode == 0


for_everybody = pytest.mark.skipif(
    os.geteuid() == 0 and not namespaces_are_for_everybody(), reason="this machine gives users no namespaces"
)


def test_the_report_has_every_axis_and_takes_less_than_two_seconds() -> None:
    report = probe.probe()
    assert [axis.name for axis in report.axes] == [*LEVELS, "python", "programs"]
    assert report.seconds < 2
    for name, (levels, _) in LEVELS.items():
        assert report.axis(name).level in levels
    assert Report.from_json(json.loads(json.dumps(report.to_json()))).axes == report.axes


@pytest.mark.needs_root
def test_root_with_all_capabilities_is_on_the_top_rung(folder: Path) -> None:
    axes = run(folder)
    assert (axes["isolation"]["level"], axes["ids"]["level"], axes["proc"]["level"]) == ("root", "range", "fresh")
    assert axes["isolation"]["cause"] == ""


@pytest.mark.needs_root
@pytest.mark.needs("useradd", "userdel", "newuidmap", "unshare")
@for_everybody
def test_a_user_with_a_range_has_many_ids(folder: Path, learner: int) -> None:
    axes = run(folder, learner)
    assert (axes["isolation"]["level"], axes["ids"]["level"]) == ("userns-range", "range")
    assert axes["net"]["level"] == "engine bridge"
    assert axes["isolation"]["cause"] == ""


@pytest.mark.needs_root
@pytest.mark.needs("useradd", "userdel", "newuidmap", "unshare")
@for_everybody
def test_under_no_new_privileges_one_id_is_left(folder: Path, learner: int) -> None:
    axes = run(folder, learner, after="prctl.set_no_new_privileges()")
    assert (axes["isolation"]["level"], axes["ids"]["level"]) == ("userns-single", "single")
    assert "no-new-privileges" in axes["isolation"]["cause"]
    assert axes["isolation"]["errno"] == "EPERM"


@pytest.mark.needs_root
@pytest.mark.needs("unshare")
@for_everybody
def test_a_user_without_a_name_has_no_range(folder: Path) -> None:
    axes = run(folder, NOBODYS)
    assert axes["isolation"]["level"] == "userns-single"
    assert "usermod --add-subuids" in axes["isolation"]["remedy"]


@pytest.mark.needs_root
@pytest.mark.needs("unshare")
@for_everybody
def test_where_mounts_are_refused_namespaces_and_a_copied_root_are_left(folder: Path) -> None:
    axes = run(folder, NOBODYS, after=f"filtered({MOUNT}, errno.EACCES)")
    assert axes["isolation"]["level"] == "userns-nomount"
    assert (axes["proc"]["level"], axes["store"]["level"]) == ("none", "copy")
    assert axes["net"]["level"] == "engine bridge"
    assert axes["isolation"]["errno"] == "EACCES"


@pytest.mark.needs_root
def test_where_a_filter_refuses_namespaces_it_is_named(folder: Path) -> None:
    axes = run(folder, NOBODYS, after=f"filtered({UNSHARE}, errno.EPERM)")
    assert axes["isolation"]["level"] in ("emulated", "inspect")
    assert "seccomp filter around this process" in axes["isolation"]["cause"]
    assert axes["net"]["level"] == "shared"


@pytest.mark.needs_root
def test_root_without_capabilities_is_told_so(folder: Path) -> None:
    axes = run(folder, before="capset.capset(0, 0, 0)")
    assert axes["isolation"]["level"] in ("emulated", "inspect")
    assert "CAP_SYS_ADMIN" in axes["isolation"]["cause"]
    assert axes["limits"]["level"] in ("rlimits", "cgroup v1", "cgroup v2")


@pytest.mark.needs_root
@pytest.mark.needs("unshare")
@for_everybody
def test_a_masked_proc_can_only_be_bound(folder: Path) -> None:
    mask = """
unshare(CloneFlag.NEWNS)
mount.mount(None, "/", None, mount.MountFlag.PRIVATE | mount.MountFlag.REC)
mount.mount("/dev/null", "/proc/meminfo", None, mount.MountFlag.BIND)
"""
    axes = run(folder, NOBODYS, before=mask)
    assert axes["proc"]["level"] == "recursive bind"
    assert "masked" in axes["proc"]["cause"]


@pytest.mark.needs_root
@pytest.mark.needs("unshare")
@for_everybody
@pytest.mark.parametrize(
    "without, lacking",
    [('mount.mount("tmpfs", "/dev/net", "tmpfs")', "/dev/net/tun"), ("shutil.which = lambda *_, **__: None", "pasta")],
)
def test_an_engine_bridge_without_a_way_out_says_what_is_missing(folder: Path, without: str, lacking: str) -> None:
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("needs /dev/net/tun")
    lines = ("import shutil", "unshare(CloneFlag.NEWNS)")
    private = 'mount.mount(None, "/", None, mount.MountFlag.PRIVATE | mount.MountFlag.REC)'
    axes = run(folder, NOBODYS, before="\n".join((*lines, private, without)))
    assert axes["net"]["level"] == "engine bridge"
    assert lacking in axes["net"]["cause"]
    assert "not other machines" in axes["net"]["cause"]
    assert axes["net"]["remedy"]


@pytest.mark.needs_root
def test_a_state_folder_on_an_overlay_puts_the_upper_layer_in_memory(folder: Path) -> None:
    on_overlay = """
unshare(CloneFlag.NEWNS)
mount.mount(None, "/", None, mount.MountFlag.PRIVATE | mount.MountFlag.REC)
mount.mount("tmpfs", root, "tmpfs")
for name in ("lower", "upper", "work", "merged"):
    os.mkdir(f"{root}/{name}")
options = f"lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work"
mount.mount("overlay", f"{root}/merged", "overlay", 0, options)
root = f"{root}/merged"
"""
    axes = run(folder, before=on_overlay)
    assert axes["store"]["level"] == "overlay on tmpfs"
    assert axes["store"]["errno"] == "EINVAL"
    assert "itself on an overlay" in axes["store"]["cause"]


def test_an_attempt_that_hangs_is_ended_and_one_that_dies_is_an_answer() -> None:
    script = """
import os, time
from glassdock.linux import attempt
attempt._PATIENCE = 0.2
for work in (lambda: time.sleep(60) or "never", lambda: os.kill(os.getpid(), 9)):
    print(attempt.attempt(work).errno)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(errno.ETIMEDOUT)] * 2


@pytest.mark.parametrize(
    "step, number, facts, cause, remedy",
    [
        ("unshare", errno.ENOSPC, Facts(), "no more user namespaces", "sysctl user.max_user_namespaces"),
        ("unshare", errno.EPERM, Facts(apparmor_restricts=True), "Ubuntu's AppArmor", "/etc/apparmor.d/glassdock"),
        ("mount", errno.EACCES, Facts(apparmor_restricts=True), "Ubuntu's AppArmor", "apparmor_parser"),
        ("unshare", errno.EPERM, Facts(seccomp=2), "seccomp filter", "seccomp=unconfined"),
        ("mount", errno.EACCES, Facts(apparmor="cri-containerd.apparmor.d (enforce)"), "cri-containerd", "apparmor"),
        ("mount proc", errno.EPERM, Facts(seccomp=2), "masked", "procMount Unmasked"),
        ("newuidmap", errno.EPERM, Facts(no_new_privileges=True), "no-new-privileges", "allowPrivilegeEscalation"),
        ("newuidmap", errno.ENOENT, Facts(), "not installed", "uidmap"),
        ("mount overlay", errno.ENODEV, Facts(), "no overlay filesystem", "modprobe overlay"),
        ("mkdir", errno.EROFS, Facts(), "no cgroup is delegated", "Delegate=yes"),
        ("pasta", errno.ENOENT, Facts(), "neither pasta nor slirp4netns", "apt-get install passt"),
        ("something new", errno.EIO, Facts(), "Input/output error", "report"),
        ("", 0, Facts(), "", ""),
    ],
)
def test_a_refusal_is_explained(step: str, number: int, facts: Facts, cause: str, remedy: str) -> None:
    found = refusals.explain(step, number, facts)
    assert cause in found[0]
    assert remedy in found[1]


def report(**levels: str) -> Report:
    best = {name: all_levels[0] for name, (all_levels, _) in LEVELS.items()} | {
        "python": "3.11.0",
        "programs": "busybox",
    }
    return Report(tuple(Axis(name, level, ok=True) for name, level in (best | levels).items()))


def test_what_an_exercise_can_ask_for() -> None:
    assert probe.needs(report()) >= {"root", "container", "overlay", "netns", "bridge", "cgroup-v2", "busybox"}
    single = probe.needs(report(isolation="userns-single", net="engine bridge", limits="rlimits", programs="none"))
    assert single >= {"container", "userns", "mount", "netns"}
    assert not single & {"root", "bridge", "cgroup", "cgroup-v1", "cgroup-v2", "none"}
    assert "container" not in probe.needs(report(isolation="emulated"))


def test_the_table_says_cause_and_remedy_under_the_axis() -> None:
    made = Report((Axis("net", "shared", False, "EPERM", "no bridge", "be root"), Axis("proc", "fresh", ok=True)))
    assert str(made).splitlines() == [
        "--  net   shared",
        "            because no bridge (EPERM)",
        "            remedy  be root",
        "ok  proc  fresh",
    ]


def test_it_imports_anywhere_and_says_where_it_cannot_run() -> None:
    script = """
import sys
sys.platform = "darwin"
from glassdock.errors import NotSupported
from glassdock.linux import probe
assert "glassdock.linux.libc" not in sys.modules and "ctypes" not in sys.modules
try:
    probe.probe()
except NotSupported as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("containers need Linux")
    assert issubclass(NotSupported, Exception)
