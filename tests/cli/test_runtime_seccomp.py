"""`glassdock-runtime` and filters: installed behind the gate, decided by an agent, told by `features`."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tests.cli.bundles import Runtime
from tests.runtime.test_seccomp_start import FEW, Agent, notifying

pytestmark = pytest.mark.needs_root


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def test_a_filter_may_forbid_what_the_gate_is_made_of(runtime: Runtime) -> None:
    runtime.change(lambda spec: spec["linux"].update(seccomp=msgspec.to_builtins(FEW)))
    runtime.change(lambda spec: spec["process"].update(args=["echo", "hello"], noNewPrivileges=True))
    assert runtime("run", "one").stdout == "hello\n"


def test_an_agent_decides(runtime: Runtime, tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent.sock")
    try:
        profile = msgspec.to_builtins(notifying(agent.path, "mkdir"))
        runtime.change(lambda spec: spec["linux"].update(seccomp=profile))
        runtime.change(lambda spec: spec.update(annotations={"colour": "blue"}))
        runtime.program("mkdir /tmp/x; echo $?")
        assert runtime("run", "one").stdout == "1\n"
    finally:
        agent.close()
    (told,) = agent.told
    assert told["state"]["id"] == "one"
    assert told["state"]["bundle"] == str(runtime.folder)
    assert told["state"]["annotations"] == {"colour": "blue"}


def test_features_tell_what_is_there(runtime: Runtime) -> None:
    found = json.loads(runtime("features").stdout)
    assert {"idmap", "ridmap"} <= set(found["mountOptions"])
    assert {"user", "time"} <= set(found["linux"]["namespaces"])
    assert "SCMP_ACT_NOTIFY" in found["linux"]["seccomp"]["actions"]
    assert "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in found["linux"]["seccomp"]["supportedFlags"]
    assert found["linux"]["mountExtensions"]["idmap"]["enabled"]
