"""What a container sees: its own namespaces, its own root, not the machine's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glassdock.errors import CommandNotFound, StartFailed
from glassdock.oci.runtime import Mount, Namespace
from glassdock.runtime import cgroups, defaults
from tests.runtime.lab import Lab

pytestmark = pytest.mark.needs_root

OWN = ("mnt", "pid", "uts", "ipc", "cgroup")


def test_five_namespaces_are_its_own_and_the_network_is_not(lab: Lab) -> None:
    names = " ".join(f"/proc/self/ns/{name}" for name in (*OWN, "net", "user"))
    out = lab.run("sh", "-c", f"for n in {names}; do readlink $n; done").out.split()
    mine = [os.readlink(f"/proc/self/ns/{name}") for name in (*OWN, "net", "user")]
    assert [a == b for a, b in zip(out, mine, strict=True)] == [False] * 5 + [True] * 2


def test_a_new_network_namespace_has_lo_up(lab: Lab) -> None:
    result = lab.run("ip", "-o", "addr", linux={"namespaces": defaults.namespaces()})
    assert "127.0.0.1/8" in result.out
    assert result.out.count("\n") <= 2


@pytest.mark.needs_the_machines_root("the machine's own namespaces are joined")
def test_a_network_namespace_that_is_given_is_joined(lab: Lab) -> None:
    with lab.folder() as folder, open("/proc/self/ns/net") as mine:
        process = lab.start(lab.request(folder, "readlink", "/proc/self/ns/net"), netns=mine.fileno())
        lab.do(process.wait())
        assert os.readlink("/proc/self/ns/net") in (folder / "log").read_text()


@pytest.mark.needs_the_machines_root("the machine's own namespaces are joined")
def test_a_namespace_is_joined_by_path(lab: Lab) -> None:
    kinds = tuple(entry for entry in defaults.namespaces(network=False) if entry.type != "uts")
    joined = (*kinds, Namespace("uts", "/proc/self/ns/uts"))
    # Opened by the shim, whose /proc/self is the shim: the machine's own.
    result = lab.run("readlink", "/proc/self/ns/uts", linux={"namespaces": joined}, spec={"hostname": ""})
    assert result.out.strip() == os.readlink("/proc/self/ns/uts")


def test_it_is_process_one_and_sees_no_other(lab: Lab) -> None:
    assert lab.run("sh", "-c", "echo $$ /proc/[0-9]*").out.split() == ["1", "/proc/1"]


def test_the_machines_files_are_out_of_reach(lab: Lab) -> None:
    result = lab.run("sh", "-c", f"ls {lab.paths.root} /proc/1/root/../..{lab.paths.root}; ls /..")
    assert "lower" not in result.out
    assert result.err.count("No such file") == 2
    assert set(result.out.split()) == {"bin", "dev", "etc", "home", "proc", "root", "sys", "tmp"}


def test_the_machines_mounts_are_gone(lab: Lab) -> None:
    lines = lab.run("cat", "/proc/self/mountinfo").out.splitlines()
    places = {line.split()[4] for line in lines}
    assert {"/", "/proc", "/dev", "/sys", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys/fs/cgroup"} <= places
    assert all(place == "/" or place.startswith(("/proc", "/dev", "/sys")) for place in places)


def test_nothing_is_mounted_on_the_machine(lab: Lab) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    with lab.folder() as folder:
        process = lab.start(lab.request(folder, "sleep", "30"))
        assert Path("/proc/self/mountinfo").read_text() == before
        lab.do(process.signal(9))
        lab.do(process.wait())


def test_every_writable_mount_is_nodev(lab: Lab) -> None:
    with lab.folder() as folder:
        (folder / "data").mkdir()
        bind = Mount("/data", "bind", str(folder / "data"), ("rbind", "rprivate"))
        lines = lab.run("cat", "/proc/self/mountinfo", mounts=(bind,)).out.splitlines()
    options = {line.split()[4]: set(line.split()[5].split(",")) for line in lines}
    # devpts is the kernel's own file system of terminals: nobody can make a node in it.
    writable = {place for place, words in options.items() if "rw" in words} - {"/dev/pts"}
    assert "/data" in writable
    assert {place for place in writable if "nodev" not in options[place]} == set()


@pytest.mark.needs_the_machines_root("device nodes are made for the attack")
def test_a_device_node_made_inside_opens_nothing(lab: Lab) -> None:
    script = (
        "for d in /tmp /dev /dev/shm; do mknod $d/x c 1 5 && head -c 1 $d/x; done; mknod /tmp/b b 8 0 && cat /tmp/b"
    )
    result = lab.run("sh", "-c", script)
    assert result.err.count("Permission denied") == 4


def test_the_default_devices_work_and_cannot_be_changed(lab: Lab) -> None:
    before = os.stat("/dev/null")
    result = lab.run(
        "sh", "-c", "echo gone > /dev/null; head -c 3 /dev/zero | wc -c; chmod 600 /dev/null; rm /dev/null"
    )
    after = os.stat("/dev/null")
    assert result.out.strip() == "3"
    assert "Read-only file system" in result.err
    assert (before.st_mode, before.st_uid, before.st_rdev) == (after.st_mode, after.st_uid, after.st_rdev)


def test_standard_input_is_not_the_machines_null_device(lab: Lab) -> None:
    before = os.stat("/dev/null").st_mode
    lab.run("sh", "-c", "chmod 600 /proc/self/fd/0 /dev/stdin")
    assert os.stat("/dev/null").st_mode == before


def test_what_tells_about_the_machine_is_hidden(lab: Lab) -> None:
    paths = [path for path in defaults.masked_paths() if os.path.exists(path)]
    assert {"/proc/keys", "/sys/firmware"} <= set(paths)
    out = lab.run("sh", "-c", f"for p in {' '.join(paths)}; do [ -d $p ] && ls -A $p || cat $p; done").out
    assert out == ""


def test_what_steers_the_machine_is_read_only(lab: Lab) -> None:
    paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/panic_on_oom", "/proc/irq/default_smp_affinity"]
    paths += [path for path in ("/proc/sysrq-trigger",) if os.path.exists(path)]
    result = lab.run("sh", "-c", f"for p in {' '.join(paths)}; do echo x > $p; done")
    assert result.err.count("Read-only file system") == len(paths)
    own = cgroups.layout().v1 and not cgroups.unavailable()
    group = "/sys/fs/cgroup/pids/x" if own else "/sys/fs/cgroup/x"
    written = lab.run("sh", "-c", f"echo x > /sys/kernel/mm/ksm/run; mkdir {group}")
    assert written.err.count("Read-only file system") == 2


def test_its_own_cgroup_is_the_root_of_what_it_sees(lab: Lab) -> None:
    out = lab.run("cat", "/proc/self/cgroup").out.splitlines()
    assert out
    assert all(line.endswith(":/") for line in out)


def test_hostname_and_domainname_are_its_own(lab: Lab) -> None:
    result = lab.run("sh", "-c", "hostname; cat /proc/sys/kernel/domainname", spec={"domainname": "example"})
    assert result.out.split() == ["lab", "example"]
    assert os.uname().nodename != "lab"


def test_a_read_only_root_has_writable_mounts(lab: Lab) -> None:
    from glassdock.oci.runtime import Root

    tmp = Mount("/tmp", "tmpfs", "tmpfs", ("mode=1777",))
    result = lab.run(
        "sh", "-c", "touch /x; touch /tmp/x && echo fine", spec={"root": Root(readonly=True)}, mounts=(tmp,)
    )
    assert "Read-only file system" in result.err
    assert result.out == "fine\n"


def test_a_file_is_bound_and_made_where_it_is_missing(lab: Lab) -> None:
    with lab.folder() as folder:
        (folder / "hosts").write_text("127.0.0.1 localhost\n")
        bind = Mount("/etc/deep/hosts", "bind", str(folder / "hosts"), ("rbind", "ro"))
        result = lab.run("sh", "-c", "cat /etc/deep/hosts; echo x > /etc/deep/hosts", mounts=(bind,))
    assert result.out == "127.0.0.1 localhost\n"
    assert "Read-only" in result.err


def test_a_bind_through_a_symlink_of_the_image_stays_inside(lab: Lab) -> None:
    with lab.folder() as folder:
        (folder / "data").mkdir()
        (folder / "data" / "mark").write_text("mine\n")
        outside = folder / "outside"
        outside.mkdir()
        (folder / "upper" / "link").symlink_to(outside)
        request = lab.request(
            folder, "cat", f"{outside}/mark", mounts=(Mount("/link", "bind", str(folder / "data"), ("rbind",)),)
        )
        status = lab.do(lab.start(request).wait())
        assert status.code == 0, "the link was followed inside the root, where the folder was made"
        assert list(outside.iterdir()) == []


@pytest.mark.parametrize("link", ["proc", "sys"])
def test_proc_and_sys_must_be_real_folders_of_the_image(lab: Lab, link: str) -> None:
    with lab.folder() as folder:
        (folder / "upper" / link).symlink_to("tmp")
        with pytest.raises(StartFailed, match=f"/{link} must be mounted on ordinary directory"):
            lab.start(lab.request(folder, "true"))
    assert lab.cgroups() == []


def test_a_volume_that_a_symlink_leads_into_proc_is_refused(lab: Lab) -> None:
    with lab.folder() as folder:
        (folder / "data").mkdir()
        (folder / "upper" / "v").symlink_to("/proc/sys")
        bind = Mount("/v", "bind", str(folder / "data"), ("rbind",))
        with pytest.raises(StartFailed, match="inside /proc"):
            lab.start(lab.request(folder, "true", mounts=(bind,)))


def test_a_missing_bind_source_is_said(lab: Lab) -> None:
    with lab.folder() as folder:
        bind = Mount("/v", "bind", "/nowhere/at/all", ("rbind",))
        with pytest.raises(StartFailed, match=r"/nowhere/at/all on /v.*: no such file or directory"):
            lab.start(lab.request(folder, "true", mounts=(bind,)))
    assert lab.cgroups() == []


def test_sysctls_of_its_own_namespaces_are_set(lab: Lab) -> None:
    result = lab.run("cat", "/proc/sys/kernel/msgmax", linux={"sysctl": {"kernel.msgmax": "4242"}})
    assert result.out.strip() == "4242"
    assert Path("/proc/sys/kernel/msgmax").read_text().strip() != "4242"


def test_no_descriptor_of_the_machines_is_open_inside(lab: Lab) -> None:
    listed = lab.run("sh", "-c", "ls /proc/1/fd; true").out.split()
    assert sorted(listed) == ["0", "1", "2"]


def test_the_working_directory_cannot_be_a_leaked_descriptor(lab: Lab) -> None:
    for number in (3, 5, 7, 9):
        with lab.folder() as folder:
            request = lab.request(folder, "pwd", process={"cwd": f"/proc/self/fd/{number}"})
            with pytest.raises(StartFailed, match="chdir to cwd"):
                lab.start(request)


def test_executing_the_runtimes_program_from_inside_leads_nowhere(lab: Lab) -> None:
    with lab.folder() as folder, pytest.raises(CommandNotFound, match="exec /proc/self/exe"):
        lab.start(lab.request(folder, "/proc/self/exe"))


def test_the_runtimes_own_program_cannot_be_written(lab: Lab) -> None:
    """What /proc/PID/exe of launcher, shim and child leads to is a read-only mount (2019-5736)."""
    assert os.statvfs(f"/proc/{lab.launcher.pid}/exe").f_flag & os.ST_RDONLY
    assert os.path.samefile(f"/proc/{lab.launcher.pid}/exe", "/proc/self/exe")
