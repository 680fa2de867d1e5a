"""`glassdock volume` and `--mount`, on the real engine and in the body that they become."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glassdock.client.create import Options, body
from glassdock.errors import InvalidParameter
from tests.support.daemon import Daemon


def mount(word: str) -> dict[str, object]:
    """The row of `HostConfig.Mounts`."""
    (row,) = body(Options(image="busybox", mounts=(word,)))["HostConfig"]["Mounts"]
    assert isinstance(row, dict)
    return row


def test_mount_options_reach_the_api() -> None:
    words = "type=volume,src=data,dst=/d,volume-nocopy,volume-subpath=a/b,volume-label=x=y,volume-driver=local"
    assert mount(f"{words},volume-opt=type=tmpfs,volume-opt=device=tmpfs,readonly") == {
        "Type": "volume",
        "Source": "data",
        "Target": "/d",
        "ReadOnly": True,
        "VolumeOptions": {
            "NoCopy": True,
            "Subpath": "a/b",
            "Labels": {"x": "y"},
            "DriverConfig": {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs"}},
        },
    }
    assert mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1700")["TmpfsOptions"] == {
        "SizeBytes": 1 << 20,
        "Mode": 0o1700,
    }
    bind = mount("type=bind,source=/a,target=/b,bind-propagation=rshared,bind-recursive=disabled")
    assert bind["BindOptions"] == {"Propagation": "rshared", "NonRecursive": True}
    assert mount("type=bind,source=./a,target=/b")["Source"] == str(Path("a").absolute())


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("type=bind,source=/a", "target is required"),
        ("type=bind,source=/a,dst=/b,volume-nocopy", "cannot mix 'volume-"),
        ("dst=/b,what=1", "unexpected key 'what' in 'what=1'"),
        ("dst=/b,what", "invalid field 'what' must be a key=value pair"),
        ("dst=/b,readonly=perhaps", "invalid value for readonly: perhaps"),
    ],
)
def test_a_mount_that_cannot_be_read_is_refused(word: str, said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        mount(word)


@pytest.mark.needs_root
def test_volumes_are_made_listed_and_removed(engine: Daemon) -> None:
    def say(*words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "glassdock", "volume", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, env=engine.env, timeout=60, check=False, input=""
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    assert say("create", "--label", "a=b", "ours") == "ours\n"
    assert "local    ours" in say("ls")
    assert say("ls", "-q", "-f", "label=a=b") == "ours\n"
    assert say("inspect", "-f", "{{.Name}} {{.Driver}}", "ours") == "ours local\n"
    assert "Total reclaimed space: 0B" in say("prune", "-f")
    assert say("rm", "ours") == "ours\n"
    assert "no such volume" in say("rm", "ours", code=1)
    made = say("create", "-o", "type=tmpfs", "-o", "device=tmpfs").strip()
    assert len(made) == 64
    assert made in say("prune", "-f")
