"""`--security-opt`: as the client sends it, and as the daemon reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glassdock.client import security as sent
from glassdock.containers import security
from glassdock.containers.config import HostConfig
from glassdock.errors import InvalidParameter
from glassdock.runtime import capabilities


def host(*options: str, privileged: bool = False) -> HostConfig:
    return HostConfig(security_opt=options, privileged=privileged)


@pytest.mark.parametrize(
    ("option", "promise"),
    [
        ("no-new-privileges", True),
        ("no-new-privileges=true", True),
        ("no-new-privileges:true", True),
        ("no-new-privileges=1", True),
        ("no-new-privileges=false", False),
        ("label=disable", False),
        ("disable", False),
        ("apparmor=unconfined", False),
    ],
)
def test_the_promise_never_to_gain_privileges(option: str, *, promise: bool) -> None:
    assert security.read(host(option)).no_new_privileges is promise


@pytest.mark.parametrize("option", ["no-new-privileges=perhaps", "seccomp", "magic=on", ""])
def test_what_is_not_an_option_is_refused(option: str) -> None:
    with pytest.raises(InvalidParameter, match=r"invalid --security-opt [12]: "):
        security.read(host(option))


def test_a_profile_is_taken_as_it_was_sent() -> None:
    text = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "x=y", "action": "SCMP_ACT_LOG"}]})
    found = security.seccomp_of(host(f"seccomp={text}"), capabilities.DEFAULT)
    assert found
    assert found.default_action == "SCMP_ACT_ALLOW"
    assert found.syscalls[0].names == ("x=y",)


def test_who_is_unconfined_or_privileged_has_no_filter_unless_he_brings_one() -> None:
    assert security.seccomp_of(host("seccomp=unconfined"), ()) is None
    assert security.seccomp_of(host(privileged=True), ()) is None
    assert security.seccomp_of(host('seccomp={"defaultAction": "SCMP_ACT_LOG"}', privileged=True), ()) is not None
    assert security.seccomp_of(host("seccomp=builtin"), ()) == security.seccomp_of(host(), ())


def test_the_client_sends_the_content_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text('{\n  "defaultAction": "SCMP_ACT_ALLOW"\n}\n')
    assert sent.options([f"seccomp={file}", "no-new-privileges", "label:disable"]) == {
        "SecurityOpt": ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}', "no-new-privileges", "label:disable"]
    }
    assert sent.options(["seccomp=unconfined"]) == {"SecurityOpt": ["seccomp=unconfined"]}


def test_the_systems_paths_are_shown_by_two_empty_lists() -> None:
    assert sent.options(["systempaths=unconfined"]) == {"SecurityOpt": [], "MaskedPaths": [], "ReadonlyPaths": []}


def test_the_client_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"opening seccomp profile \(.*nothing\) failed: No such file"):
        sent.options([f"seccomp={tmp_path}/nothing"])
    (tmp_path / "bad").write_text("{")
    with pytest.raises(InvalidParameter, match="compacting json for seccomp profile"):
        sent.options([f"seccomp={tmp_path}/bad"])
    with pytest.raises(InvalidParameter, match="Invalid --security-opt"):
        sent.options(["seccomp"])
