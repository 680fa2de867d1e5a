"""What a bundle's process may do and what it sees: capabilities, hidden paths, the machine's proc."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.bundles import Runtime

pytestmark = pytest.mark.needs_root
CHOWN, KILL, SYSLOG = 1 << 0, 1 << 5, 1 << 34


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def capabilities(runtime: Runtime, **sets: list[str]) -> None:
    runtime.change(lambda spec: spec["process"].update(capabilities=sets))


def sets_of(text: str) -> dict[str, int]:
    return {line[3:6]: int(line[8:], 16) for line in text.splitlines() if line.startswith("Cap")}


def warnings(runtime: Runtime) -> list[str]:
    entries: list[dict[str, Any]] = [json.loads(line) for line in runtime.log.read_text().splitlines()]
    return [entry["msg"] for entry in entries if entry["level"] == "warning"]


def test_a_capability_that_nobody_knows_is_a_warning(runtime: Runtime) -> None:
    capabilities(runtime, bounding=["CAP_NONSENSE"], permitted=["CAP_KILL"])
    runtime.program("echo ran")
    assert runtime("run", "one").stdout == "ran\n"
    assert warnings(runtime) == ["ignoring unknown or unavailable capabilities: [CAP_NONSENSE]"]


def test_a_warning_without_a_log_goes_to_standard_error(runtime: Runtime) -> None:
    import subprocess

    capabilities(runtime, bounding=["CAP_NONSENSE"])
    runtime.program("exit 0")
    command = [word for word in runtime.command("run", "one") if word not in ("--log", str(runtime.log))]
    done = subprocess.run(command, cwd=runtime.folder, capture_output=True, text=True, timeout=30, check=True)
    entry = json.loads(done.stderr)
    assert (entry["level"], "CAP_NONSENSE" in entry["msg"]) == ("warning", True)


def test_an_ambient_capability_has_to_be_permitted_and_inheritable(runtime: Runtime) -> None:
    some = ["CAP_KILL", "CAP_CHOWN"]
    capabilities(
        runtime,
        bounding=some,
        effective=some,
        permitted=some,
        inheritable=["CAP_KILL"],
        ambient=["CAP_KILL", "CAP_CHOWN"],
    )
    runtime.program("cat /proc/self/status")
    assert sets_of(runtime("run", "one").stdout)["Amb"] == KILL
    assert warnings(runtime) == ["can't raise ambient capability CAP_CHOWN: operation not permitted"]


def test_execs_capabilities_are_ambient_only_where_some_are_inheritable(runtime: Runtime) -> None:
    some = ["CAP_KILL", "CAP_CHOWN"]
    capabilities(runtime, bounding=some, effective=some, permitted=some)
    runtime.begin("plain")
    capabilities(runtime, bounding=[*some, "CAP_SYSLOG"], effective=some, permitted=some, inheritable=["CAP_SYSLOG"])
    runtime.cgroup += "-2"
    runtime.change(lambda spec: spec["linux"].update(cgroupsPath=runtime.cgroup))
    runtime.begin("other")
    line = ("cat", "/proc/self/status")
    try:
        for name, ambient in (("plain", 0), ("other", SYSLOG)):
            found = sets_of(runtime("exec", "--cap", "CAP_SYSLOG", name, *line).stdout)
            assert (found["Bnd"], found["Eff"], found["Amb"]) == (CHOWN | KILL | SYSLOG, CHOWN | KILL | SYSLOG, ambient)
    finally:
        for name in ("plain", "other"):
            runtime("delete", "--force", name)


def test_hidden_folders_share_one_mount_and_are_hidden_once(runtime: Runtime) -> None:
    for name in ("a", "b"):
        (runtime.folder / "rootfs" / name).mkdir()
        (runtime.folder / "rootfs" / name / "secret").write_text("secret")
    runtime.change(lambda spec: spec["linux"]["maskedPaths"].extend(["/a", "/b", "/a", "/a/"]))
    runtime.program("ls /a /b; grep -c ' /a ' /proc/self/mountinfo; stat -c %d /a /b; touch /b/x || echo refused")
    told = runtime("run", "one").stdout.split()
    assert "secret" not in told
    assert told[2] == "1"
    assert told[3] == told[4]
    assert told[-1] == "refused"


def test_without_pivot_root_nobody_mounts_a_proc_without_masks(runtime: Runtime) -> None:
    runtime.change(lambda spec: spec["process"]["capabilities"]["bounding"].append("CAP_SETFCAP"))
    runtime.change(lambda spec: spec["process"]["capabilities"]["permitted"].append("CAP_SETFCAP"))
    runtime.program("unshare -mrpf sh -c 'mount -t proc none /proc && echo mounted'; echo end")
    done = runtime("run", "--no-pivot", "one")
    assert done.stdout == "end\n"
    assert "denied" in done.stderr or "not permitted" in done.stderr
