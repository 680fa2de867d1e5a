"""Escapes of the past that do not work, two: the kernel's own switches, devices, namespaces and handles.

Rules: every write writes the value that is there, so that a hole shows as a write that worked and changes nothing.
Source: https://www.kernel.org/doc/html/latest/admin-guide/sysctl/kernel.html
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from glassdock.oci.runtime import Mount
from tests.runtime.lab import Lab

pytestmark = pytest.mark.needs_root

SWITCHES = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hotplug",
    "/proc/sys/fs/binfmt_misc/status",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/irq/default_smp_affinity",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/profiling",
    "/sys/module/printk/parameters/time",
    "/sys/power/state",
    "/sys/kernel/mm/transparent_hugepage/enabled",
)
WRITE_BACK = """
for p in {paths}; do
    v=$(cat $p) || continue
    if (printf '%s' "$v" > $p) 2>/tmp/why; then echo "$p"; else cat /tmp/why >&2; fi
done
"""


def there(*paths: str) -> list[str]:
    return [path for path in paths if os.path.exists(path)]


def test_the_kernels_switches_cannot_be_thrown(lab: Lab) -> None:
    paths = there(*SWITCHES)
    assert "/proc/sys/kernel/core_pattern" in paths
    result = lab.run("sh", "-c", WRITE_BACK.format(paths=" ".join(paths)))
    assert result.out == ""
    assert result.err.count("Read-only file system") >= 3


@pytest.mark.needs_the_machines_root("the control writes a setting of the machine's")
def test_a_write_back_is_a_write() -> None:
    """The control: on the machine the same write works, with the value that is there."""
    path = Path("/proc/sys/kernel/randomize_va_space")
    path.write_text(path.read_text())


def test_sysrq_has_no_trigger(lab: Lab) -> None:
    # `h` prints a help text into the kernel's log, should it ever be heard.
    result = lab.run("sh", "-c", "echo h > /proc/sysrq-trigger && echo heard")
    assert result.out == ""


def test_what_is_read_only_cannot_be_made_writable(lab: Lab) -> None:
    script = """
    mount -o remount,rw /proc/sys && echo remounted
    mount -o remount,rw,bind /sys && echo remounted
    umount /proc/sys && echo unmounted
    umount -l /proc/keys && echo unmounted
    mount -t proc proc /tmp && echo mounted
    mount -t sysfs sysfs /tmp && echo mounted
    mount -t tmpfs x /tmp && echo mounted
    mount --bind /proc/1/root /tmp && echo mounted
    """
    result = lab.run("sh", "-c", script)
    assert result.out == ""
    assert result.err.count("denied") + result.err.count("not permitted") == 8


def test_no_other_namespace_is_made_or_entered(lab: Lab) -> None:
    """A user namespace of its own would give it every capability over the other kinds (2022-0185, 2022-0492)."""
    script = """
    for kind in U m p n i u; do unshare -$kind true && echo made $kind; done
    nsenter -t 1 -m true && echo entered
    """
    result = lab.run("sh", "-c", script)
    assert result.out == ""


def test_the_release_agent_is_not_there_and_the_groups_are_read_only(lab: Lab) -> None:
    script = """
    find /sys/fs/cgroup -name release_agent
    for f in $(find /sys/fs/cgroup -name notify_on_release -o -name cgroup.procs -o -name devices.allow); do
        (echo 1 > $f) && echo wrote $f
    done 2>/dev/null
    for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/sub && echo made $d; done
    mkdir /tmp/c
    for o in rdma memory pids devices none,name=x; do mount -t cgroup -o $o cgroup /tmp/c && echo mounted; done
    mount -t cgroup2 cgroup /tmp/c && echo mounted
    """
    result = lab.run("sh", "-c", script)
    assert result.out == ""
    assert "Read-only file system" in result.err


@pytest.mark.needs_the_machines_root("device nodes are made for the attack")
def test_devices_of_the_image_open_nothing(lab: Lab) -> None:
    with lab.folder() as folder:
        for name, kind, major, minor in (
            ("mem", "c", 1, 1),
            ("kmsg", "c", 1, 11),
            ("zero", "c", 1, 5),
            ("b", "b", 254, 0),
        ):
            mode = (stat.S_IFBLK if kind == "b" else stat.S_IFCHR) | 0o666
            os.mknod(folder / "upper" / name, mode, os.makedev(major, minor))
        request = lab.request(folder, "sh", "-c", "for n in mem kmsg zero b; do head -c 1 /$n; done")
        lab.do(lab.start(request).wait())
        log = (folder / "log").read_text()
    assert log.count("Permission denied") == 4


@pytest.mark.needs_the_machines_root("device nodes are made for the attack")
def test_a_device_made_in_a_volume_opens_nothing_inside(lab: Lab) -> None:
    with lab.folder() as folder:
        (volume := folder / "volume").mkdir()
        bind = Mount("/v", "bind", str(volume), ("rbind",))
        result = lab.run("sh", "-c", "mknod /v/zero c 1 5 && head -c 1 /v/zero", mounts=(bind,))
        assert "Permission denied" in result.err
        if not os.statvfs(volume).f_flag & os.ST_NODEV:
            with open(volume / "zero", "rb", buffering=0) as control:
                assert control.read(1) == b"\0"


HANDLE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
handle = (ctypes.c_byte * 128)()
ctypes.memmove(handle, (ctypes.c_uint32 * 4)(8, 1, 2, 0), 16)
found = libc.open_by_handle_at(os.open("/etc/passwd", os.O_RDONLY), handle, 0)
print(os.strerror(ctypes.get_errno()) if found < 0 else os.listdir(found))
"""


def test_no_file_is_opened_by_its_handle(lab: Lab) -> None:
    """The escape of 2014 called shocker: inode 2 is the root of the machine's disk."""
    base = Path(sys.base_prefix)
    places = dict.fromkeys(("/lib", "/lib64", "/usr", str(base)))
    mounts = tuple(Mount(path, "bind", path, ("rbind", "ro")) for path in places)
    environment = ("PATH=/bin", f"LD_LIBRARY_PATH={base}/lib")
    result = lab.run(str(Path(sys.executable).resolve()), "-c", HANDLE, mounts=mounts, process={"env": environment})
    assert result.out == "Operation not permitted\n", result.err


def test_a_second_root_is_no_way_out_of_the_first(lab: Lab) -> None:
    """The classic way out of chroot: Docker allows the call, so what is above must not be there at all."""
    attack = (
        "import os\n"
        "os.makedirs('/tmp/jail', exist_ok=True); os.chroot('/tmp/jail')\n"
        "for _ in range(64): os.chdir('..')\n"
        "os.chroot('.'); print(sorted(os.listdir('/')))\n"
    )
    base = Path(sys.base_prefix)
    places = dict.fromkeys(("/lib", "/lib64", "/usr", str(base)))
    mounts = tuple(Mount(path, "bind", path, ("rbind", "ro")) for path in places)
    environment = ("PATH=/bin", f"LD_LIBRARY_PATH={base}/lib")
    result = lab.run(str(Path(sys.executable).resolve()), "-c", attack, mounts=mounts, process={"env": environment})
    assert "'bin'" in result.out, result.err
    assert "'work'" not in result.out
    assert "'var'" not in result.out


def test_what_is_the_machines_alone_is_refused(lab: Lab) -> None:
    script = """
    insmod /bin/busybox && echo done; swapon /bin/busybox && echo done; hostname escaped && echo done
    date -s "$(date +%Y.%m.%d-%H:%M:%S)"
    """
    result = lab.run("sh", "-c", script)
    assert "done" not in result.out
    assert result.err.count("Operation not permitted") + result.err.count("ermission denied") == 4, result.err
