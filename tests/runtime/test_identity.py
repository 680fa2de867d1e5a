"""Who the process is and what it may do: user, groups, capabilities, seccomp, limits, directory, environment."""

from __future__ import annotations

import os

import pytest

from glassdock.errors import InvalidParameter, StartFailed
from glassdock.oci.runtime import Rlimit, User
from glassdock.runtime import capabilities, seccomp_profile
from tests.runtime.lab import Lab

pytestmark = pytest.mark.needs_root


def status(lab: Lab, *names: str, **changes: object) -> dict[str, str]:
    """Lines of /proc/self/status inside."""
    out = lab.run("cat", "/proc/self/status", **changes).out
    table = dict(line.split(":\t", 1) for line in out.splitlines())
    return {name: table[name].strip() for name in names}


def test_capabilities_are_dockers_fourteen(lab: Lab) -> None:
    found = status(lab, "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    wanted = f"{capabilities.mask(capabilities.DEFAULT):016x}"
    assert wanted == "00000000a80425fb"
    assert found == {"CapInh": "0" * 16, "CapPrm": wanted, "CapEff": wanted, "CapBnd": wanted, "CapAmb": "0" * 16}


def test_another_user_has_none_but_the_same_bounding_set(lab: Lab) -> None:
    found = status(lab, "CapPrm", "CapEff", "CapBnd", user="ada")
    assert found == {"CapPrm": "0" * 16, "CapEff": "0" * 16, "CapBnd": "00000000a80425fb"}


def test_a_capability_that_the_machine_lacks_is_left_out_with_a_warning(lab: Lab) -> None:
    lacking = sorted(set(capabilities.ALL) - capabilities.available())
    if not lacking:
        pytest.skip("this machine's bounding set is complete")
    with lab.folder() as folder:
        request = lab.request(folder, "true", process={"capabilities": capabilities.sets(capabilities.ALL)})
        process = lab.start(request)
        assert lab.do(process.wait()).code == 0
    assert [warning.split()[0] for warning in process.warnings] == lacking


def test_an_unknown_capability_is_left_out_with_a_warning(lab: Lab) -> None:
    with lab.folder() as folder:
        request = lab.request(folder, "true", process={"capabilities": capabilities.sets(["CAP_WINGS"])})
        process = lab.start(request)
        assert lab.do(process.wait()).code == 0
    assert "ignoring unknown or unavailable capabilities: [CAP_WINGS]" in process.warnings


def test_the_filter_is_installed_and_refuses(lab: Lab) -> None:
    assert status(lab, "Seccomp", "NoNewPrivs") == {"Seccomp": "2", "NoNewPrivs": "0"}
    result = lab.run("sh", "-c", "unshare -m true; mount -t tmpfs x /tmp")
    assert result.err.count("Operation not permitted") + result.err.count("permission denied") == 2


def test_without_a_profile_there_is_no_filter(lab: Lab) -> None:
    assert status(lab, "Seccomp", linux={"seccomp": None}) == {"Seccomp": "0"}


def test_no_new_privileges_is_kept_and_goes_with_the_filter(lab: Lab) -> None:
    found = status(lab, "Seccomp", "NoNewPrivs", process={"no_new_privileges": True}, user="ada")
    assert found == {"Seccomp": "2", "NoNewPrivs": "1"}


def test_with_sys_admin_the_filter_lets_it_mount(lab: Lab) -> None:
    caps = (*capabilities.DEFAULT, "CAP_SYS_ADMIN")
    changes = {
        "process": {"capabilities": capabilities.sets(caps)},
        "linux": {"seccomp": seccomp_profile.default_profile(caps)},
    }
    assert lab.run("mount", "-t", "tmpfs", "x", "/tmp", **changes).code == 0


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        ("ada", "uid=1000(ada) gid=1000(ada) groups=1000(ada),2000(math),2001(poets)"),
        ("1000", "uid=1000(ada) gid=1000(ada) groups=1000(ada),2000(math),2001(poets)"),
        ("ada:math", "uid=1000(ada) gid=2000(math) groups=2000(math)"),
        ("4242:4343", "uid=4242 gid=4343 groups=4343"),
        ("4242", "uid=4242 gid=0(root) groups=0(root)"),
        ("0:poets", "uid=0(root) gid=2001(poets) groups=2001(poets)"),
    ],
)
def test_a_user_is_found_in_the_containers_own_files(lab: Lab, user: str, wanted: str) -> None:
    assert lab.run("id", user=user).out.strip() == wanted


def test_groups_are_added_by_name_and_number(lab: Lab) -> None:
    assert lab.run("id", "-G", user="ada", groups=("777", "root")).out.split() == ["1000", "0", "777", "2000", "2001"]


def test_numbers_of_the_specification_are_taken_as_they_are(lab: Lab) -> None:
    result = lab.run("sh", "-c", "id -u; id -G; umask", process={"user": User(5, 6, 0o077, (7, 8))})
    assert result.out.split() == ["5", "6", "7", "8", "0077"]


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nobody-here", "unable to find user nobody-here: no matching entries in passwd file"),
        ("ada:nowhere", "unable to find group nowhere: no matching entries in group file"),
        ("99999999999", "must be in range"),
    ],
)
def test_an_unknown_user_is_said_in_dockers_words(lab: Lab, user: str, message: str) -> None:
    with lab.folder() as folder, pytest.raises((StartFailed, InvalidParameter), match=message):
        lab.start(lab.request(folder, "true", user=user))
    assert lab.cgroups() == []


def test_a_hostile_passwd_file_does_not_hang_the_start(lab: Lab) -> None:
    with lab.folder() as folder:
        (folder / "upper" / "etc").mkdir()
        os.mkfifo(folder / "upper" / "etc" / "passwd")
        with pytest.raises(StartFailed, match="not a regular file"):
            lab.start(lab.request(folder, "true", user="ada"))


def test_home_comes_from_the_users_entry_unless_it_is_given(lab: Lab) -> None:
    assert lab.run("sh", "-c", "echo $HOME", user="ada").out == "/home/ada\n"
    env = ("PATH=/bin", "HOME=/elsewhere")
    assert lab.run("sh", "-c", "echo $HOME", process={"env": env}).out == "/elsewhere\n"


def test_the_working_directory_is_made_where_it_is_missing(lab: Lab) -> None:
    assert lab.run("pwd", process={"cwd": "/not/there/yet"}).out == "/not/there/yet\n"


def test_resource_limits_are_set(lab: Lab) -> None:
    limits = (Rlimit("RLIMIT_NOFILE", hard=100, soft=50), Rlimit("RLIMIT_CORE", hard=0, soft=0))
    result = lab.run("sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c", process={"rlimits": limits})
    assert result.out.split() == ["50", "100", "0"]


def test_oom_score_is_set(lab: Lab) -> None:
    assert lab.run("cat", "/proc/self/oom_score_adj", process={"oom_score_adj": 500}).out == "500\n"


def test_signals_are_as_a_new_program_expects_them(lab: Lab) -> None:
    found = status(lab, "SigBlk", "SigIgn")
    assert found == {"SigBlk": "0" * 16, "SigIgn": "0" * 16}


def test_standard_output_can_be_opened_by_another_user(lab: Lab) -> None:
    assert lab.run("sh", "-c", "echo yes > /dev/stdout", user="ada").out == "yes\n"
