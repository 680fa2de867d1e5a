"""The same daemon, started by root, by an ordinary user with a range of ids, and by one with a single id.

Rules: what a user sees of containers is the same in all three; where it is not, the test says what is different and
why. The user is `tests/support/ordinary.py`'s, and goes through the machine's own newuidmap.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.leaks import Session
from tests.support.ordinary import USER, UserDaemon

pytestmark = [pytest.mark.needs_root, pytest.mark.needs("docker", "newuidmap")]

KINDS = ("root", "range", "single")


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, session: Session, engine: Daemon) -> Iterator[UserDaemon]:
    """A daemon of each kind with busybox; stopped at the end, and nothing may be left of it."""
    daemon = UserDaemon(session.folder / request.param, request.param)
    session.engine_roots.append(str(daemon.root))
    daemon.start()
    try:
        _bring(daemon, engine)
        yield daemon
    finally:
        left = daemon.stop()
    session.engine_roots.remove(str(daemon.root))
    assert left == []


@pytest.fixture(autouse=True)
def no_container_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Neither a container nor a process of one is left by a test."""
    yield
    if "place" in request.fixturenames:
        daemon: UserDaemon = request.getfixturevalue("place")
        assert daemon.containers() == {}
        deadline = time.monotonic() + 5
        while shims := _shims(daemon):
            assert time.monotonic() < deadline, shims
            time.sleep(0.05)


def _shims(daemon: UserDaemon) -> list[str]:
    """The processes that keep the daemon's containers."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        ours = os.fsencode(daemon.root) in _read(f"/proc/{pid}/cmdline")
        if ours and _read(f"/proc/{pid}/comm") == b"glassdock-shim\n":
            found.append(pid)
    return found


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""  # the process ended


def _bring(daemon: Daemon, engine: Daemon) -> None:
    """busybox, from the registry of the session's engine: quicker than to assemble it again."""
    name = f"{engine.get('/glassdock/status')[1]['registry']}/library/busybox"
    daemon.docker("pull", name)
    daemon.docker("tag", name, "busybox")


@pytest.fixture
def running(place: UserDaemon) -> Iterator[str]:
    """A container that waits."""
    place.docker("run", "-d", "--name", "waits", "--stop-timeout", "1", "busybox", "sleep", "600")
    yield "waits"
    place.docker("rm", "-f", "waits")


def _pid(place: UserDaemon, name: str) -> int:
    return int(place.docker("inspect", "-f", "{{.State.Pid}}", name).stdout)


def _uids(pid: int) -> set[str]:
    found = re.search(r"^Uid:\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return set(found[1].split())


def test_nothing_of_it_has_more_rights_on_the_machine_than_who_started_it(place: UserDaemon, running: str) -> None:
    owner = "0" if place.kind == "root" else str(USER)
    assert place.process is not None
    shim = int(Path(f"/proc/{_pid(place, running)}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (place.process.pid, shim, _pid(place, running)):
        assert _uids(pid) == {owner}
    assert os.stat(place.socket).st_uid == int(owner)
    own = os.readlink("/proc/self/ns/user")
    assert (os.readlink(f"/proc/{place.process.pid}/ns/user") == own) is (place.kind == "root")


def test_it_says_how_it_lives(place: UserDaemon) -> None:
    told = place.docker("info", "-f", "{{json .SecurityOptions}}").stdout
    assert ("name=rootless" in told) is (place.kind != "root")
    assert f"isolation: {place.kind}" in place.log()


def test_output_and_exit_code(place: UserDaemon) -> None:
    done = place.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; id -u; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n0\n", "err\n")


def test_a_program_that_is_not_there(place: UserDaemon) -> None:
    assert place.docker("run", "--rm", "busybox", "nosuch", check=False).returncode == 127


def test_a_container_has_its_own_view_of_the_machine(place: UserDaemon) -> None:
    script = "echo $$; hostname; ls /proc | grep -c '^[0-9]'; ls /sys/class/net"
    lines = place.docker("run", "--rm", "--hostname", "inside", "busybox", "sh", "-c", script).stdout.split()
    assert lines[:2] == ["1", "inside"]
    assert int(lines[2]) < 8
    assert lines[3:] == ["eth0", "lo"]


def test_the_writable_layer_is_the_containers_own(place: UserDaemon) -> None:
    script = "echo new > /new; rm /bin/vi; mkdir /etc/d; cat /new; ls /bin/vi 2>&1"
    done = place.docker("run", "--name", "writes", "busybox", "sh", "-c", script, check=False)
    assert done.stdout.startswith("new\n")
    changed = place.docker("diff", "writes").stdout.split("\n")
    place.docker("rm", "writes")
    assert {"A /new", "D /bin/vi", "A /etc/d"} <= set(changed)
    assert place.docker("run", "--rm", "busybox", "ls", "/bin/vi").stdout == "/bin/vi\n"


def test_exec(place: UserDaemon, running: str) -> None:
    assert place.docker("exec", "-e", "A=b", running, "sh", "-c", "echo $A; id -u").stdout == "b\n0\n"
    assert place.docker("exec", running, "sh", "-c", "exit 5", check=False).returncode == 5


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_another_user_is_really_another_number(place: UserDaemon, running: str, verb: str) -> None:
    script = "id -u; id -g; echo > /tmp/mine; stat -c %u:%g /tmp/mine; rm /tmp/mine; grep CapEff /proc/self/status"
    where = ["--rm", "busybox"] if verb == "run" else [running]
    lines = place.docker(verb, "-u", "1000:1000", *where, "sh", "-c", script).stdout.split()
    assert lines == ["1000", "1000", "1000:1000", "CapEff:", "0000000000000000"]


def test_with_a_range_a_user_has_an_id_of_its_own_on_the_machine(place: UserDaemon) -> None:
    place.docker("run", "-d", "--name", "other", "-u", "1000", "busybox", "sleep", "600")
    try:
        expected = {"root": "1000", "range": str(300000 + 999), "single": str(USER)}
        assert _uids(_pid(place, "other")) == {expected[place.kind]}
    finally:
        place.docker("rm", "-f", "other")


def test_a_user_beyond_the_range_is_told(place: UserDaemon) -> None:
    done = place.docker("run", "--rm", "-u", "70000", "busybox", "id", "-u", check=False)
    if place.kind == "range":
        assert "user 70000 is not among the ids of this engine, which end at 65536" in done.stderr
    else:
        assert done.stdout == "70000\n"


def test_logs(place: UserDaemon) -> None:
    place.docker("run", "--name", "talks", "busybox", "sh", "-c", "echo one; echo two")
    assert place.docker("logs", "talks").stdout == "one\ntwo\n"
    place.docker("rm", "talks")


def test_stop_and_kill(place: UserDaemon, running: str) -> None:
    place.docker("stop", "-t", "1", running)
    assert place.docker("inspect", "-f", "{{.State.ExitCode}}", running).stdout == "137\n"
    place.docker("start", running)
    place.docker("kill", "-s", "KILL", running)
    assert place.docker("wait", running).stdout == "137\n"


def test_all_processes_of_a_container_end_with_it(place: UserDaemon) -> None:
    script = "(trap '' TERM HUP; setsid sleep 4321) & sleep 600"
    place.docker("run", "-d", "--name", "many", "busybox", "sh", "-c", script)
    deadline = time.monotonic() + 10
    while "4321" not in place.docker("top", "many").stdout:
        assert time.monotonic() < deadline
    place.docker("rm", "-f", "many")
    assert not [
        pid for pid in os.listdir("/proc") if pid.isdigit() and b"\x004321\x00" in _read(f"/proc/{pid}/cmdline")
    ]


def test_a_terminal(place: UserDaemon, running: str) -> None:
    assert place.docker("run", "--rm", "-t", "busybox", "tty").stdout == "/dev/pts/0\n"
    assert place.docker("exec", "-t", running, "tty").stdout == "/dev/pts/0\n"


def test_two_containers_reach_each_other_and_a_port_is_published(place: UserDaemon) -> None:
    place.docker(
        "run", "-d", "--name", "web", "-p", "127.0.0.1:0:80", "busybox", "sh", "-c", "echo hi > /i; httpd -fh /"
    )
    try:
        address = place.docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web").stdout.strip()
        assert place.docker("run", "--rm", "busybox", "wget", "-qO-", f"http://{address}/i").stdout == "hi\n"
        port = place.docker("port", "web", "80").stdout.strip()
        with urllib.request.urlopen(f"http://{port}/i", timeout=5) as answer:
            assert answer.read() == b"hi\n"
    finally:
        place.docker("rm", "-f", "web")


def test_the_machines_network(place: UserDaemon) -> None:
    done = place.docker("run", "--rm", "--network", "host", "busybox", "sh", "-c", "ls /sys/class/net; id -u")
    assert done.stdout.split() == [*sorted(os.listdir("/sys/class/net")), "0"]


def test_a_build(place: UserDaemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the context\n")
    owner = "0:0" if place.kind == "single" else "1000:1000"  # there is nobody to give it to
    run = f"RUN cat /file > /copy && chown {owner} /copy"
    lines = ["FROM busybox", "COPY file /file", run, 'CMD ["cat", "/copy"]']
    (tmp_path / "Dockerfile").write_text("\n".join(lines))
    place.docker("build", "-t", "built", str(tmp_path))
    assert place.docker("run", "--rm", "built").stdout == "from the context\n"
    assert place.docker("run", "--rm", "built", "stat", "-c", "%u:%g", "/copy").stdout == f"{owner}\n"
    place.docker("rmi", "built")


def test_pausing_needs_a_cgroup(place: UserDaemon, running: str) -> None:
    done = place.docker("pause", running, check=False)
    if place.kind == "root":
        assert done.returncode == 0
        place.docker("unpause", running)
    else:
        assert "cannot be paused here: no cgroup is delegated to this user" in done.stderr


def test_a_limit_that_cannot_be_kept_is_told(place: UserDaemon) -> None:
    done = place.docker("create", "--name", "limited", "-m", "64m", "busybox", "true")
    place.docker("rm", "limited")
    assert ("does not support memory limit capabilities" in done.stderr) is (place.kind != "root")


TRY = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo all"


def test_a_fork_bomb_stops_at_the_limit_that_was_asked_for(place: UserDaemon, running: str) -> None:
    done = place.docker("run", "--rm", "--pids-limit", "20", "busybox", "sh", "-c", TRY, check=False)
    assert "can't fork" in done.stderr
    assert "all" not in done.stdout
    assert place.docker("exec", running, "sh", "-c", "echo fine | cat").stdout == "fine\n"
    assert place.docker("info", "-f", "{{.PidsLimit}}").stdout == "true\n"


@pytest.mark.parametrize("place", ["range", "single"], indirect=True)
def test_who_asks_for_no_limit_has_one_with_all_others(place: UserDaemon) -> None:
    shown = "grep processes /proc/self/limits"
    limit = int(place.docker("run", "--rm", "busybox", "sh", "-c", shown).stdout.split()[3])
    assert 1000 < limit <= 8192
    assert f"have {limit} together" in place.docker("info").stderr
    own = place.docker("run", "--rm", "--ulimit", "nproc=700:800", "busybox", "sh", "-c", shown).stdout.split()
    assert own[2:4] == ["700", "800"]


@pytest.mark.parametrize("place", ["range", "single"], indirect=True)
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--privileged",), "--privileged reaches as far as the user who started the engine"),
        (("--pids-limit", "20"), "in which there are no raw sockets"),
        (("--pids-limit", "20", "--cap-add", "NET_ADMIN"), "PIDs limit discarded: without a cgroup it needs"),
    ],
)
def test_how_far_it_reaches_is_said_at_create(place: UserDaemon, flags: tuple[str, ...], told: str) -> None:
    done = place.docker("create", "--name", "told", *flags, "busybox", "true")
    place.docker("rm", "told")
    assert f"WARNING: {told}" in done.stderr or told in done.stderr


@pytest.mark.parametrize("place", ["range", "single"], indirect=True)
def test_with_a_limit_it_listens_on_any_port_as_without(place: UserDaemon) -> None:
    script = "echo hi > /i; httpd -p 80 -h / && wget -qO- http://127.0.0.1/i"
    done = place.docker("run", "--rm", "--pids-limit", "20", "busybox", "sh", "-c", script, check=False)
    assert done.stdout == "hi\n", done.stderr


def test_a_device_is_given_to_who_may_open_it(place: UserDaemon) -> None:
    script = "head -c 3 /dev/nought | wc -c"
    flags = ("--device", "/dev/zero:/dev/nought")
    assert place.docker("run", "--rm", *flags, "busybox", "sh", "-c", script).stdout == "3\n"
    done = place.docker("run", "--rm", "--device", "/dev/kmsg:/dev/kmsg:w", "busybox", "true", check=False)
    if place.kind == "root":
        assert done.returncode == 0
    else:
        assert 'adding custom device "/dev/kmsg": permission denied' in done.stderr


def test_containers_outlive_a_daemon_that_is_killed_and_the_next_one_is_with_them(
    place: UserDaemon, running: str
) -> None:
    assert place.process is not None
    before = os.readlink(f"/proc/{place.process.pid}/ns/user"), os.readlink(f"/proc/{place.process.pid}/ns/mnt")
    place.docker("run", "-d", "--name", "short", "busybox", "sh", "-c", "sleep 0.3; echo meanwhile; exit 5")
    place.kill()
    time.sleep(0.8)  # "short" ends while nobody watches
    place.start()
    after = os.readlink(f"/proc/{place.process.pid}/ns/user"), os.readlink(f"/proc/{place.process.pid}/ns/mnt")
    assert after == before
    assert place.docker("logs", "short").stdout == "meanwhile\n"
    assert place.docker("wait", "short").stdout == "5\n"
    assert place.docker("exec", running, "echo", "still").stdout == "still\n"
    assert place.docker("run", "--rm", "busybox", "echo", "again").stdout == "again\n"
    place.docker("rm", "short")


def test_the_namespaces_end_with_the_last_who_lives_in_them(engine: Daemon, session: Session) -> None:
    daemon = UserDaemon(session.folder / "ends", "range")
    daemon.start()
    _bring(daemon, engine)
    assert daemon.process is not None
    first = os.readlink(f"/proc/{daemon.process.pid}/ns/user")
    daemon.docker("run", "-d", "--name", "waits", "busybox", "sleep", "600")
    assert daemon.stop() != []  # its container lives on
    daemon.start()
    assert os.readlink(f"/proc/{daemon.process.pid}/ns/user") == first
    daemon.docker("rm", "-f", "waits")
    assert daemon.stop() == []


def test_a_container_is_nobody_to_the_machine(place: UserDaemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of root\n")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        folder.chmod(folder.stat().st_mode | 0o011)
    attempts = "cat /m/secret; echo x > /m/new; echo b > /proc/sysrq-trigger; echo x > /proc/sys/kernel/core_pattern"
    done = place.docker("run", "--rm", "-v", f"{tmp_path}:/m", "busybox", "sh", "-c", attempts, check=False)
    if place.kind == "root":
        assert done.stdout == "of root\n"
    else:
        assert done.stdout == ""
        assert not (tmp_path / "new").exists()
        assert done.stderr.count("denied") >= 2
    assert "can't create /proc/sysrq-trigger" in done.stderr
    assert "can't create /proc/sys/kernel/core_pattern" in done.stderr


@pytest.mark.parametrize("place", ["range", "single"], indirect=True)
def test_all_power_is_power_over_what_is_the_users_own(place: UserDaemon) -> None:
    script = "mkdir /t && mount -t tmpfs none /t && echo mounted; mknod /dev/disk b 254 0; date 010100001999"
    done = place.docker("run", "--rm", "--privileged", "busybox", "sh", "-c", script, check=False)
    assert done.stdout.startswith("mounted\n")
    assert "mknod: /dev/disk: Operation not permitted" in done.stderr
    assert "can't set date: Operation not permitted" in done.stderr


@pytest.mark.parametrize(
    ("kind", "arguments", "reason"),
    [
        ("single", ("--isolation", "none"), "this daemon was started with --isolation none"),
        ("refused", (), "the machine makes no more user namespaces (user.max_user_namespaces)"),
    ],
)
def test_where_no_container_can_run_images_can_be_had_and_running_is_refused_with_the_reason(
    session: Session, engine: Daemon, kind: str, arguments: tuple[str, ...], reason: str
) -> None:
    daemon = UserDaemon(session.folder / f"no-{kind}", kind, *arguments)
    daemon.start()
    name = f"{engine.get('/glassdock/status')[1]['registry']}/library/busybox"
    daemon.docker("pull", name)
    assert daemon.docker("images", "-q").stdout
    done = daemon.docker("run", "--rm", name, "true", check=False)
    assert done.returncode == 125
    assert f"no container can run here: {reason}" in done.stderr
    assert f"no container can run here: {reason}" in daemon.docker("info").stderr
    assert daemon.stop() == []


@pytest.mark.parametrize("signalled", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order(session: Session, signalled: signal.Signals) -> None:
    daemon = UserDaemon(session.folder / f"end{signalled}", "range")
    daemon.start()
    assert daemon.process is not None
    daemon.process.send_signal(signalled)
    assert daemon.process.wait(20) == 0
    assert not os.path.exists(daemon.socket)


def test_a_state_folder_stays_as_it_was_begun(session: Session) -> None:
    daemon = UserDaemon(session.folder / "kept", "single")
    daemon.start()
    assert daemon.stop() == []
    daemon.kind = "range"
    daemon.start()
    assert "isolation: single" in daemon.log().splitlines()[-1]
    assert daemon.stop() == []
    daemon.arguments = ("--isolation", "range")
    done = subprocess.run(daemon.command(), env=daemon.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "was begun with the isolation single" in done.stderr
