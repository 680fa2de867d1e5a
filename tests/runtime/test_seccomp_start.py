"""A filter and the start: it forbids what it likes, and an agent can decide calls."""

from __future__ import annotations

import array
import ctypes
import fcntl
import json
import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glassdock.errors import StartFailed
from glassdock.oci.runtime import Seccomp, SeccompRule
from glassdock.runtime import capabilities
from glassdock.runtime.messages import ExecTask
from tests.runtime.lab import Lab
from tests.runtime.test_user_namespaces import USER, exec_in

pytestmark = pytest.mark.needs_root

# What a static busybox needs to say one word, and nothing that a start is made of.
FEW = Seccomp(
    "SCMP_ACT_KILL_PROCESS",
    syscalls=(
        SeccompRule(
            (
                *("execve", "brk", "mmap", "munmap", "mprotect", "arch_prctl", "set_tid_address", "set_robust_list"),
                *("rseq", "prlimit64", "readlink", "readlinkat", "getrandom", "newfstatat", "fstat", "ioctl", "uname"),
                *("write", "exit_group", "getuid", "geteuid", "getgid", "getegid", "setuid", "setgid", "prctl", "read"),
                *("rt_sigprocmask", "rt_sigaction", "futex"),
            ),
            "SCMP_ACT_ALLOW",
        ),
    ),
)


@pytest.mark.parametrize("user", ["", "ada"])
def test_a_filter_may_forbid_all_that_a_start_is_made_of(lab: Lab, user: str) -> None:
    process = {"no_new_privileges": True}
    result = lab.run("echo", "hello", process=process, linux={"seccomp": FEW}, user=user)
    assert (result.code, result.out) == (0, "hello\n")


@pytest.mark.parametrize("user", ["", "ada"])
def test_without_the_promise_only_giving_up_the_last_right_is_needed(lab: Lab, user: str) -> None:
    with_capset = SeccompRule((*FEW.syscalls[0].names, "capset"), "SCMP_ACT_ALLOW")
    profile = Seccomp("SCMP_ACT_KILL_PROCESS", syscalls=(with_capset,))
    result = lab.run("echo", "hello", linux={"seccomp": profile}, user=user)
    assert (result.code, result.out) == (0, "hello\n")


@pytest.mark.parametrize("promise", [True, False])
@pytest.mark.parametrize("user", ["", "ada"])
def test_the_right_to_install_it_does_not_stay(lab: Lab, user: str, *, promise: bool) -> None:
    process = {"no_new_privileges": promise}
    out = lab.run("grep", "-E", "Cap|Seccomp:", "/proc/self/status", process=process, user=user).out
    table = dict(line.split(":\t") for line in out.splitlines())
    wanted = 0 if user else capabilities.mask(capabilities.DEFAULT)
    assert table.pop("Seccomp") == "2"
    assert table.pop("CapBnd") == f"{capabilities.mask(capabilities.DEFAULT):016x}"
    assert {name: int(value, 16) for name, value in table.items()} == {
        "CapInh": 0,
        "CapPrm": wanted,
        "CapEff": wanted,
        "CapAmb": 0,
    }


@pytest.mark.needs_the_machines_root("the image's files are shown with other ids, which only root may do")
def test_a_filter_in_a_user_namespace(lab: Lab) -> None:
    out = lab.run("grep", "Seccomp:", "/proc/self/status", linux=USER).out
    assert out.split() == ["Seccomp:", "2"]


class Agent:
    """Listens for one listener after another, and answers each call that is held up with an errno of its own."""

    def __init__(self, path: Path) -> None:
        self.told: list[dict[str, Any]] = []
        self.path = str(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                data, rights, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(4))
                while chunk := connection.recv(1 << 16):
                    data += chunk
            self.told.append(json.loads(data))
            (number,) = array.array("i", rights[0][2])
            self._decide(number)

    @staticmethod
    def _decide(listener: int) -> None:
        """seccomp_unotify(2): until the process is gone."""
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        try:
            while all(not event & select.POLLHUP for _, event in poll.poll(10_000)):
                held = bytearray(80)
                fcntl.ioctl(listener, 0xC0502100, held)  # SECCOMP_IOCTL_NOTIF_RECV
                answer = held[:8] + ctypes.c_int64(0).value.to_bytes(8, "little")
                answer += (-71).to_bytes(4, "little", signed=True) + bytes(4)
                fcntl.ioctl(listener, 0xC0182101, answer)  # SECCOMP_IOCTL_NOTIF_SEND
        except FileNotFoundError:
            pass  # it was killed while it waited
        finally:
            os.close(listener)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path / "agent.sock")
    yield made
    made.close()


def notifying(path: str, *names: str) -> Seccomp:
    rule = SeccompRule(names, "SCMP_ACT_NOTIFY")
    return Seccomp("SCMP_ACT_ALLOW", listener_path=path, listener_metadata="colour=blue", syscalls=(rule,))


@pytest.mark.parametrize("promise", [True, False])
def test_an_agent_decides(lab: Lab, agent: Agent, *, promise: bool) -> None:
    changes = {"process": {"no_new_privileges": promise}, "linux": {"seccomp": notifying(agent.path, "mkdir")}}
    result = lab.run("sh", "-c", "mkdir /tmp/x; echo $?", **changes)
    assert (result.code, result.out) == (0, "1\n")
    assert "Protocol error" in result.err
    (told,) = agent.told
    assert told["fds"] == ["seccompFd"]
    assert told["metadata"] == "colour=blue"
    assert told["state"]["status"] == "creating"
    assert told["pid"] == told["state"]["pid"] > 1


def test_an_agent_may_be_asked_about_what_a_start_is_made_of(lab: Lab, agent: Agent) -> None:
    names = ("sendmsg", "sendto", "recvmsg", "recvfrom", "accept4", "socket", "close")
    result = lab.run("echo", "hello", linux={"seccomp": notifying(agent.path, *names)})
    assert (result.code, result.out) == (0, "hello\n")


def test_an_exec_has_an_agent_too(lab: Lab, agent: Agent) -> None:
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sleep", "100", linux={"seccomp": notifying(agent.path, "mkdir")}))
        try:
            # The agent serves one at a time: the first process has to let go of the second one's connection.
            Path(agent.path).unlink()
            second = Agent(Path(agent.path))
            try:
                assert exec_in(lab, folder, ExecTask("e" * 64, ("/bin/mkdir", "/tmp/x"), ("PATH=/bin",))) == 1
            finally:
                second.close()
            assert second.told[0]["state"]["status"] == "running"
        finally:
            lab.do(process.signal(9))
            lab.do(process.wait())


def test_without_the_agent_nothing_starts_and_nothing_is_left(lab: Lab, tmp_path: Path) -> None:
    profile = notifying(str(tmp_path / "nobody"), "mkdir")
    with lab.folder() as folder, pytest.raises(StartFailed, match="failed to connect with seccomp agent"):
        lab.start(lab.request(folder, "true", linux={"seccomp": profile}))
    assert lab.cgroups() == []
