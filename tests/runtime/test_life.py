"""From start to end: exit codes, errors in Docker's words, logs, streams, signals."""

from __future__ import annotations

import os
import signal
import stat
import time

import msgspec
import pytest

from glassdock.errors import CommandNotExecutable, CommandNotFound, Conflict, InvalidParameter, StartFailed
from glassdock.runtime import cgroups
from glassdock.runtime.launch import Attach, Process
from tests.runtime.lab import Lab, alive, eventually, frames, joined, pair, read_all, read_log

pytestmark = pytest.mark.needs_root


def finish(lab: Lab, process: Process) -> int:
    """Kill it and wait."""
    lab.do(process.signal(signal.SIGKILL))
    return lab.do(process.wait()).code


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_programs(lab: Lab, script: str, code: int) -> None:
    # Process 1 of a namespace is only killed by itself where a handler exists, so the shell is a child here.
    assert lab.run("sh", "-c", f"(sh -c '{script}'); exit $?").code == code


def test_a_signal_from_outside_is_128_and_its_number(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sleep", "60"))
        assert finish(lab, process) == 137
        status = lab.do(process.wait())
        assert status.started_at_ns < status.finished_at_ns <= time.time_ns()
        assert not status.oom_killed


def test_a_handler_hears_the_signal(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(
            lab.request(folder, "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done")
        )
        while not (folder / "log").read_text():
            time.sleep(0.01)
        lab.do(process.signal(signal.SIGTERM))
        assert lab.do(process.wait()).code == 5


@pytest.mark.parametrize(
    ("program", "kind", "message"),
    [
        ("nosuch", CommandNotFound, 'exec: "nosuch": executable file not found in $PATH'),
        ("/no/such", CommandNotFound, 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("/etc/passwd/x", CommandNotFound, 'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory'),
        ("/etc/passwd", CommandNotExecutable, 'exec: "/etc/passwd": permission denied'),
        ("/etc", CommandNotExecutable, 'exec: "/etc": is a directory'),
        ("/garbage", CommandNotExecutable, "exec /garbage: exec format error"),
        ("/script", CommandNotFound, "exec /script: no such file or directory"),
    ],
)
def test_a_program_that_cannot_run_is_said_in_dockers_words(
    lab: Lab, program: str, kind: type[StartFailed], message: str
) -> None:
    with lab.folder() as folder:
        (folder / "upper/garbage").write_bytes(b"\0\1\2\3")
        (folder / "upper/script").write_text("#!/no/interpreter\n")
        for name in ("garbage", "script"):
            (folder / "upper" / name).chmod(0o755)
        with pytest.raises(kind, match="^" + message.replace("$", r"\$")) as caught:
            lab.start(lab.request(folder, program))
        assert caught.value.errno
        assert caught.value.step.startswith("runtime.")
        assert list((folder / "run").iterdir()) == [], "nothing is left"
    assert lab.cgroups() == []


def test_a_program_is_found_along_the_containers_path(lab: Lab) -> None:
    with lab.folder() as folder:
        (folder / "upper/opt").mkdir()
        tool = folder / "upper/opt/tool"
        tool.write_text("#!/bin/sh\necho found $0 $1\n")
        tool.chmod(0o755)
        request = lab.request(folder, "tool", "a b", process={"env": ("PATH=/nowhere:/etc:/opt:/bin",)})
        lab.do(lab.start(request).wait())
        assert read_log(folder / "log")[0] == "found /opt/tool a b\n"


def test_the_working_directory_and_the_environment_are_the_programs(lab: Lab) -> None:
    process = {"cwd": "/home/ada", "env": ("PATH=/bin", "A=1", "A=2", "B=ü=x")}
    result = lab.run("sh", "-c", "pwd; echo $A $B; env | wc -l", process=process)
    assert result.out == "/home/ada\n2 ü=x\n6\n"  # and HOME, PWD, SHLVL of the shell's own


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cwd": "not/absolute"}, "needs to be an absolute path"),
        ({"env": ("novalue",)}, "NAME=VALUE"),
        ({"args": ()}, "no command specified"),
        ({"args": ("a\0b",)}, "zero byte"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(lab: Lab, changes: dict[str, object], message: str) -> None:
    with lab.folder() as folder, pytest.raises(InvalidParameter, match=message):
        lab.start(lab.request(folder, "true", process=changes))
    assert lab.cgroups() == []


def test_the_log_is_dockers_json_file(lab: Lab) -> None:
    with lab.folder() as folder:
        lab.do(lab.start(lab.request(folder, "sh", "-c", "echo one; echo two >&2; printf three")).wait())
        rows = [msgspec.json.decode(line) for line in (folder / "log").read_bytes().splitlines()]
        mode = stat.S_IMODE((folder / "log").stat().st_mode)
    assert {(row["stream"], row["log"]) for row in rows} == {
        ("stdout", "one\n"),
        ("stderr", "two\n"),
        ("stdout", "three"),
    }
    assert all(row["time"].startswith("20") and row["time"].endswith("Z") for row in rows)
    assert mode == 0o640


def test_a_lot_of_output_is_complete_and_in_order(lab: Lab) -> None:
    with lab.folder() as folder:
        lab.do(lab.start(lab.request(folder, "seq", "1", "200000")).wait())
        out = read_log(folder / "log")[0]
    assert out == "".join(f"{number}\n" for number in range(1, 200001))


def test_without_a_log_path_nothing_is_written(lab: Lab) -> None:
    with lab.folder() as folder:
        lab.do(lab.start(lab.request(folder, "echo", "x", log_path="")).wait())
        assert not (folder / "log").exists()


def test_a_client_attached_before_the_start_gets_everything_framed(lab: Lab) -> None:
    ours, theirs = pair()
    with lab.folder() as folder, ours:
        process = lab.start(
            lab.request(folder, "sh", "-c", "echo out; echo err >&2"), [Attach(theirs.detach(), stderr=True)]
        )
        data = read_all(ours)
        assert lab.do(process.wait()).code == 0
    assert joined(data, 1) == b"out\n"
    assert joined(data, 2) == b"err\n"


def test_a_client_gets_only_the_streams_it_asked_for(lab: Lab) -> None:
    ours, theirs = pair()
    with lab.folder() as folder, ours:
        attach = Attach(theirs.detach(), stdout=False, stderr=True)
        process = lab.start(lab.request(folder, "sh", "-c", "echo out; echo err >&2"), [attach])
        assert frames(read_all(ours)) == [(2, b"err\n")]
        lab.do(process.wait())


def test_half_close_ends_standard_input_and_the_answer_still_comes(lab: Lab) -> None:
    ours, theirs = pair()
    text = b"line\n" * 50_000
    with lab.folder() as folder, ours:
        request = lab.request(folder, "cat", stdin=True, stdin_once=True)
        process = lab.start(request, [Attach(theirs.detach(), stdin=True)])
        ours.setblocking(False)
        sent, data = 0, b""
        while sent < len(text):  # both ways at once, as a client does
            try:
                sent += ours.send(text[sent:])
            except BlockingIOError:
                try:
                    data += ours.recv(1 << 16)
                except BlockingIOError:
                    time.sleep(0.001)
        ours.settimeout(10)
        ours.shutdown(1)
        data += read_all(ours)
        assert lab.do(process.wait()).code == 0
    assert joined(data, 1) == text


def test_standard_input_stays_open_for_others_without_once(lab: Lab) -> None:
    ours, theirs = pair()
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "cat", stdin=True), [Attach(theirs.detach(), stdin=True)])
        ours.send(b"first\n")
        assert ours.recv(100)[8:] == b"first\n"
        ours.close()
        other = lab.do(process.attach(stdin=True, stdout=True, stderr=True))
        other.settimeout(10)
        other.send(b"second\n")
        assert other.recv(100)[8:] == b"second\n"
        other.close()
        assert finish(lab, process) == 137


def test_without_standard_input_there_is_nothing_to_read(lab: Lab) -> None:
    assert lab.run("cat").code == 0


def test_a_client_may_come_later_and_sees_what_is_written_from_then_on(lab: Lab) -> None:
    with lab.folder() as folder:
        script = "trap 'echo late; exit' TERM; echo early; while :; do sleep 0.01; done"
        process = lab.start(lab.request(folder, "sh", "-c", script))
        while not (folder / "log").read_text():
            time.sleep(0.01)
        with lab.do(process.attach(stdin=False, stdout=True, stderr=True)) as late:
            late.settimeout(10)
            lab.do(process.signal(signal.SIGTERM))
            assert frames(read_all(late)) == [(1, b"late\n")]
        lab.do(process.wait())


def test_a_client_that_goes_away_holds_nobody_back(lab: Lab) -> None:
    ours, theirs = pair()
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "seq", "1", "300000"), [Attach(theirs.detach())])
        ours.recv(10)
        ours.close()
        assert lab.do(process.wait()).code == 0
        assert read_log(folder / "log")[0].endswith("\n300000\n")


def test_a_client_that_does_not_read_holds_the_container_back_until_it_does(lab: Lab) -> None:
    ours, theirs = pair()
    with lab.folder() as folder, ours:
        process = lab.start(lab.request(folder, "seq", "1", "600000"), [Attach(theirs.detach())])
        time.sleep(0.3)
        assert not process.end.done()
        data = joined(read_all(ours), 1)
        assert lab.do(process.wait()).code == 0
    assert data.endswith(b"\n600000\n")
    assert data.count(b"\n") == 600_000


def test_after_the_end_there_is_nobody_to_ask(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "true"))
        lab.do(process.wait())
        with pytest.raises(Conflict, match="not running"):
            lab.do(process.signal(signal.SIGTERM))
        with pytest.raises(Conflict, match="not running"):
            lab.do(process.attach(stdin=False, stdout=True, stderr=True))


def test_an_unknown_signal_number_is_refused(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sleep", "60"))
        with pytest.raises(Conflict):
            lab.do(process.signal(4000))
        with pytest.raises(Conflict, match="no terminal"):
            lab.do(process.resize(10, 10))
        finish(lab, process)


def test_a_folder_can_be_started_in_again(lab: Lab) -> None:
    with lab.folder() as folder:
        for code in (1, 2):
            process = lab.start(lab.request(folder, "sh", "-c", f"exit {code}"))
            assert lab.do(process.wait()).code == code


def test_the_path_of_the_run_folder_may_be_long(lab: Lab) -> None:
    with lab.folder() as folder:
        deep = folder / ("d" * 120) / "run"
        process = lab.start(lab.request(folder, "sleep", "60", run_dir=str(deep)))
        assert finish(lab, process) == 137


def test_nothing_is_left_of_children_when_the_first_process_ends(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sh", "-c", "sleep 1000 & sleep 1000 & exit 4"))
        assert lab.do(process.wait()).code == 4
    assert lab.cgroups() == []


def test_without_a_pid_namespace_children_are_killed_too(lab: Lab) -> None:
    from glassdock.runtime import defaults

    kinds = tuple(entry for entry in defaults.namespaces(network=False) if entry.type != "pid")
    result = lab.run("sh", "-c", "sleep 1234 & echo $!; exit 4", linux={"namespaces": kinds})
    assert result.code == 4
    eventually(lambda: not alive(int(result.out)))
    assert lab.cgroups() == []


@pytest.mark.needs_the_machines_root("no group is made for an ordinary user on this machine")
def test_the_trace_tells_every_step_with_times_and_places(lab: Lab) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "true", syscalls=True))
        lab.do(process.wait())
    names = [span.name for span in process.spans]
    wanted = ["runtime.shim", "runtime.cgroup", "runtime.clone"]
    wanted += ["runtime.join_cgroup"] if cgroups.layout().v1 else []  # on version 2 the clone begins in the cgroup
    wanted += ["runtime.child"]
    wanted += ["runtime.mount_root", "runtime.pivot", "runtime.capabilities", "runtime.seccomp", "runtime.exec"]
    assert [name for name in wanted if name in names] == wanted
    known = {span.id for span in process.spans}
    assert all(span.parent == 0 or span.parent in known for span in process.spans)
    steps = {span.name: span for span in process.spans if span.process == "init"}
    assert os.path.basename(steps["runtime.pivot"].file) == "rootfs.py"
    assert [call.name for call in steps["runtime.pivot"].syscalls] == ["pivot_root", "umount2"]
    assert all(span.duration > 0 for span in process.spans)


def test_a_failed_step_is_in_the_trace(lab: Lab) -> None:
    from glassdock import trace

    with lab.folder() as folder, trace.recording("daemon") as recording, pytest.raises(CommandNotFound):
        lab.start(lab.request(folder, "nosuch"))
    failed = [span.name for span in recording.spans if span.process == "init" and span.error]
    assert failed == ["runtime.program"]
