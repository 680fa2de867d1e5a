"""The wrappers: one call each, errors with the call's name, traced."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from glassdock import trace
from glassdock.linux import bpf, capset, clone, mount, prctl, process
from glassdock.linux.clone import CloneFlag
from glassdock.linux.mount import MountAttr, MountFlag, OpenTree, UmountFlag


def in_child(work: object) -> int:
    """Run `work` in a fork; its exit status, 99 for an exception."""
    pid = os.fork()
    if pid == 0:
        try:
            assert callable(work)
            work()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 99)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_an_error_names_the_call_and_the_place(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"umount2: .*nowhere") as caught:
        mount.umount2(str(tmp_path / "nowhere"))
    assert caught.value.errno in (errno.ENOENT, errno.EPERM)


def test_a_call_is_told_to_the_tracer_with_its_flags_and_result() -> None:
    whole = trace.recording("test", syscalls=True)
    with whole as recording, trace.span("test.mount"), pytest.raises(OSError, match="mount: "):
        mount.mount(None, "/nowhere", None, MountFlag.BIND | MountFlag.RDONLY)
    call = recording.spans[0].syscalls[0]
    assert call.name == "mount"
    assert "'/nowhere'" in call.arguments
    assert "BIND" in call.arguments
    assert call.result in ("ENOENT", "EPERM")
    assert call.duration > 0


def test_nothing_is_told_without_a_recording_that_wants_calls() -> None:
    with trace.recording("test") as recording, trace.span("test.close"):
        process.close_range(4000, 4001)
    assert recording.spans[0].syscalls == []


def test_clone_gives_a_pid_a_pidfd_and_a_sound_child() -> None:
    pid, pidfd = clone.clone3(CloneFlag(0))
    if pid == 0:
        os._exit(7 if os.getppid() > 1 else 8)
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    assert ended is not None
    assert (ended.si_pid, ended.si_status) == (pid, 7)


@pytest.mark.needs_root
def test_clone_makes_namespaces() -> None:
    reader, writer = os.pipe()
    pid, pidfd = clone.clone3(CloneFlag.NEWPID | CloneFlag.NEWUTS)
    if pid == 0:
        os.write(writer, f"{os.getpid()}".encode())
        os._exit(0)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert os.read(reader, 10) == b"1"
    for descriptor in (reader, writer, pidfd):
        os.close(descriptor)


def test_clone_says_what_is_wrong() -> None:
    with pytest.raises(OSError, match="clone3: Bad file descriptor"):
        clone.clone3(CloneFlag(0), cgroup=9999)


@pytest.mark.needs_root
def test_namespaces_are_unshared_and_joined() -> None:
    before = os.open("/proc/self/ns/uts", os.O_RDONLY)
    name = os.readlink("/proc/self/ns/uts")

    def work() -> None:
        clone.unshare(CloneFlag.NEWUTS)
        assert os.readlink("/proc/self/ns/uts") != name
        clone.setns(before, CloneFlag.NEWUTS)
        os._exit(0 if os.readlink("/proc/self/ns/uts") == name else 1)

    assert in_child(work) == 0
    os.close(before)


@pytest.mark.needs_root
def test_a_detached_tree_is_attached_and_changed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/file").write_text("seen")

    def work() -> None:
        clone.unshare(CloneFlag.NEWNS)
        mount.mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
        tree = mount.open_tree(mount.AT_FDCWD, str(tmp_path / "a"), OpenTree.CLONE)
        mount.mount_setattr(tree, add=MountAttr.RDONLY | MountAttr.NODEV)
        target = os.open(tmp_path / "b", os.O_PATH)
        mount.move_mount(tree, target)
        assert (tmp_path / "b/file").read_text() == "seen"
        flags = os.statvfs(tmp_path / "b").f_flag
        mount.umount2(str(tmp_path / "b"), UmountFlag.DETACH)
        os._exit(0 if flags & os.ST_RDONLY and not (tmp_path / "b/file").exists() else 1)

    assert in_child(work) == 0
    assert not (tmp_path / "b/file").exists()


@pytest.mark.needs_root
def test_a_file_system_is_configured_and_mounted(tmp_path: Path) -> None:
    def work() -> None:
        clone.unshare(CloneFlag.NEWNS)
        mount.mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
        context = mount.fsopen("tmpfs")
        mount.fsconfig_string(context, "size", "4096")
        mount.fsconfig_flag(context, "ro")
        mount.fsconfig_create(context)
        tree = mount.fsmount(context, MountAttr.NOEXEC)
        mount.move_mount(tree, mount.AT_FDCWD, target_path=str(tmp_path))
        os._exit(0 if os.statvfs(tmp_path).f_blocks == 1 else 1)

    assert in_child(work) == 0


def test_capabilities_are_read_and_given_up() -> None:
    def work() -> None:
        capset.capset(0, 0, 0)
        os._exit(0 if capset.capget() == (0, 0, 0) else 1)

    assert in_child(work) == 0
    assert capset.NUMBERS["CAP_CHOWN"] == 0
    assert capset.NUMBERS["CAP_SYS_ADMIN"] == 21
    assert capset.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40


def test_no_new_privileges_stays() -> None:
    def work() -> None:
        prctl.set_no_new_privileges()
        os._exit(0 if "NoNewPrivs:\t1" in Path("/proc/self/status").read_text() else 1)

    assert in_child(work) == 0


def test_a_process_is_named() -> None:
    def work() -> None:
        prctl.set_name("a-name-of-15-byt")
        os._exit(0 if Path("/proc/self/comm").read_text() == "a-name-of-15-by\n" else 1)

    assert in_child(work) == 0


def test_a_child_dies_with_its_parent() -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        child = os.fork()
        if child == 0:
            prctl.set_parent_death_signal(signal.SIGKILL)
            os.write(writer, b"x")
            signal.pause()
        os.read(reader, 1)
        os._exit(0)
    os.waitpid(parent, 0)
    os.close(writer)
    assert os.read(reader, 1) == b""  # the last writer is gone
    os.close(reader)


def test_descriptors_are_closed_in_ranges() -> None:
    def work() -> None:
        low = os.dup2(0, 700)
        os.dup2(0, 701)
        process.close_range(700, 700)
        os.fstat(701)
        try:
            os.fstat(low)
        except OSError:
            os._exit(0)

    assert in_child(work) == 0


@pytest.mark.needs_root
def test_domain_name_and_personality() -> None:
    def work() -> None:
        clone.unshare(CloneFlag.NEWUTS)
        process.setdomainname("example")
        assert Path("/proc/sys/kernel/domainname").read_text() == "example\n"
        process.personality(8)
        os._exit(0 if process.personality(0xFFFFFFFF) == 8 else 1)

    assert in_child(work) == 0


def test_a_program_is_assembled_as_the_kernel_reads_it() -> None:
    assert bpf.assemble([(0xB7, 0, 0, 0, 1), (0x95, 0, 0, 0, 0)]) == bytes.fromhex("b7000000010000009500000000000000")
