"""The plan: a pure function, readable, in the right order. None of this needs root."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from glassdock.errors import InvalidParameter, NotSupported
from glassdock.linux.mount import MountAttr, MountFlag
from glassdock.oci.runtime import (
    Device,
    Hook,
    Hooks,
    IDMapping,
    Linux,
    Namespace,
    Process,
    Rlimit,
    Root,
    Spec,
)
from glassdock.oci.runtime import Mount as Entry
from glassdock.runtime import capabilities, defaults, options, plan
from glassdock.runtime.cgroups import Layout
from glassdock.runtime.mounting import BindMount, MountFilesystem
from glassdock.runtime.plan import Plan
from glassdock.unionfs.mounts import Mount

ROOT = Mount(("/layers/b", "/layers/a"), "/layers/upper", "/layers/work")
LAYOUT = Layout((), "/sys/fs/cgroup")


def make(spec: dict[str, Any] | None = None, *, user: str = "", netns: bool = False, **linux: Any) -> Plan:
    """A plan of Docker's defaults with changes."""
    kernel: dict[str, Any] = {
        "namespaces": defaults.namespaces(network=False),
        "cgroups_path": "/glassdock/abc",
        "masked_paths": defaults.masked_paths(),
        "readonly_paths": defaults.readonly_paths(),
    }
    body = Process(args=("sh", "-c", "x"), env=("PATH=/bin",), capabilities=capabilities.sets(capabilities.DEFAULT))
    whole: dict[str, Any] = {"process": body, "hostname": "h", "mounts": defaults.mounts()}
    made = Spec(linux=Linux(**(kernel | linux)), **(whole | (spec or {})))
    return plan.make(made, ROOT, "/run/target", user=user, netns=netns, layout=LAYOUT)


def process(**changes: Any) -> dict[str, Any]:
    return {"process": msgspec.structs.replace(Process(args=("sh",), env=()), **changes)}


def tags(made: Plan) -> list[str]:
    return [str(step.__struct_config__.tag) for step in made.steps]


def test_the_steps_are_in_the_order_that_the_kernel_needs() -> None:
    found = tags(make(netns=True, user="ada"))
    order = ["join", "mount_root", "mount", "mount_cgroups", "device", "device_links", "readonly_paths", "mask_paths"]
    order += ["hostname", "pivot", "user", "cwd", "drop_capabilities", "set_user", "capabilities", "program"]
    places = [found.index(tag) for tag in order]
    assert places == sorted(places)


def test_it_can_be_told() -> None:
    told = make().describe()
    assert told[0] == "clone with new namespaces: cgroup, ipc, mount, pid, uts"
    assert "pivot_root: the machine's files are out of reach" in told
    assert told[-1] == "execute sh -c x"
    assert all("\n" not in line for line in told)


def test_it_survives_the_way_to_the_child() -> None:
    made = make(netns=True, user="ada")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Plan) == made


def test_the_filter_comes_last_and_the_right_to_install_it_goes_with_it() -> None:
    from glassdock.runtime import seccomp_profile

    profile = seccomp_profile.default_profile(capabilities.DEFAULT)
    loose, strict = make(seccomp=profile), make(process(no_new_privileges=True), seccomp=profile)
    assert tags(strict)[-1] == "no_new_privileges"
    assert [(step.lent, step.drop) for made in (loose, strict) for step in made.last] == [(True, True), (False, False)]


@pytest.mark.parametrize(
    ("spec", "linux", "message"),
    [
        ({"process": None}, {}, "no command specified"),
        ({"process": Process(args=("",))}, {}, "no command specified"),
        ({}, {"namespaces": (Namespace("pid"),)}, "mount namespace of its own"),
        ({}, {"namespaces": (Namespace("space"),)}, "unknown namespace 'space'"),
        ({}, {"namespaces": (Namespace("mount"), Namespace("mount"))}, "given twice"),
        ({}, {"namespaces": (Namespace("mount"),)}, "private UTS namespace"),
        ({"hostname": "h" * 65}, {}, "invalid hostname"),
        ({"mounts": (Entry("/", "bind", "/x"),)}, {}, "not '/'"),
        ({"mounts": (Entry("/a/..", "bind", "/x"),)}, {}, "not '/'"),
        ({"mounts": (Entry("/x", "bind", "x"),)}, {}, "absolute path"),
        ({"mounts": (Entry("/x", "bind", "/x", ("size=1",)),)}, {}, "invalid option 'size' for a bind"),
        ({"mounts": (Entry("/proc", "bind", "/x"),)}, {}, "inside /proc"),
        ({"mounts": (Entry("/proc/sys", "tmpfs"),)}, {}, "inside /proc"),
        ({"mounts": (Entry("//proc/./sys", "tmpfs"),)}, {}, "inside /proc"),
        ({"mounts": (Entry("/x", "tmpfs", "", ("remount",)),)}, {}, "'remount' is not supported"),
        ({}, {"sysctl": {"kernel.panic": "1"}}, "not in a separate kernel namespace"),
        ({}, {"sysctl": {"net.ipv4.ip_forward": "1"}}, "not allowed in host network namespace"),
        ({}, {"sysctl": {"net/../kernel/panic": "1"}}, "invalid sysctl"),
        ({}, {"masked_paths": ("proc",)}, "must be absolute"),
        ({}, {"readonly_paths": ("/proc/../etc",)}, "must be absolute"),
        ({}, {"devices": (Device("/dev/x", "q"),)}, "type 'q'"),
        ({}, {"rootfs_propagation": "sideways"}, "unknown propagation"),
        (process(rlimits=(Rlimit("RLIMIT_JOY", 1, 1),)), {}, "unknown rlimit"),
        (process(oom_score_adj=2000), {}, r"range for oom score adj is \[-1000, 1000\]"),
        (process(cwd="a\0b"), {}, "zero byte"),
        ({}, {"cgroups_path": "../x"}, "absolute and plain"),
    ],
)
def test_what_makes_no_sense_is_refused(spec: dict[str, Any], linux: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        make(spec, **linux)


def test_what_is_not_done_yet_is_not_pretended() -> None:
    with pytest.raises(NotSupported, match="not supported yet"):
        make({"hooks": Hooks(prestart=(Hook("/bin/true"),))})


def test_only_what_needs_it_is_done_outside() -> None:
    assert make().outside == ()
    one = (IDMapping(0, 1000, 10),)
    user = make(namespaces=(*defaults.namespaces(), Namespace("user")), uid_mappings=one, gid_mappings=one)
    assert [step.describe() for step in user.outside] == [
        "make the root: overlay of 2 read-only layers and the writable /layers/upper, its owners shifted: 0-9 = 1000-"
    ]
    paths = (Namespace("pid", "/proc/1/ns/pid"), Namespace("ipc", "/i"))
    joined = make(namespaces=(Namespace("mount"), Namespace("uts"), *paths))
    assert [step.describe() for step in joined.outside] == ["join pid /proc/1/ns/pid"]
    assert "join" in tags(joined)


def test_a_network_of_its_own_may_have_its_settings() -> None:
    settings = {"net.ipv4.ip_unprivileged_port_start": "0"}
    assert "sysctl" in tags(make(sysctl=settings, netns=True))
    assert "sysctl" in tags(make(sysctl=settings, namespaces=defaults.namespaces()))


def test_too_many_mounts_are_refused() -> None:
    binds = tuple(Entry(f"/m{number}", "bind", "/x") for number in range(201))
    with pytest.raises(InvalidParameter, match="mounts"):
        make({"mounts": binds})


def test_volumes_are_nodev_unless_somebody_says_dev() -> None:
    binds = (Entry("/a", "bind", "/x", ("rbind", "ro")), Entry("/b", "bind", "/x", ("bind", "dev", "shared")))
    first, second = (step for step in make({"mounts": binds}).steps if isinstance(step, BindMount))
    assert MountAttr(first.add) == MountAttr.RDONLY
    assert MountAttr(first.add_below) == MountAttr.NODEV
    assert first.recursive
    assert MountFlag(first.propagation) is MountFlag.PRIVATE
    assert MountAttr(second.add | second.add_below) == MountAttr(0)
    assert not second.recursive
    assert MountFlag(second.propagation) is MountFlag.SHARED


def test_a_tmpfs_keeps_its_options() -> None:
    entry = Entry("/t", "tmpfs", "name", ("size=1m", "mode=1777", "noexec", "noatime"))
    (step,) = (step for step in make({"mounts": (entry,)}).steps if isinstance(step, MountFilesystem))
    assert step.data == (("size", "1m"), ("mode", "1777"))
    assert MountAttr(step.attributes) == MountAttr.NOEXEC | MountAttr.NODEV | MountAttr.NOATIME
    assert step.source == "name"


def test_later_options_win() -> None:
    found = options.parse(("ro", "rw", "nosuid", "suid", "noatime", "relatime"))
    assert found.add == MountAttr(0)
    assert found.clear == MountAttr.RDONLY | MountAttr.NOSUID | MountAttr.ATIME


def test_a_read_only_root_is_made_so_after_everything_was_put_into_it() -> None:
    found = tags(make({"root": Root(readonly=True)}))
    assert found.index("readonly_root") > found.index("pivot")
