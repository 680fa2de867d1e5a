"""Client's and engine's spans on one axis."""

from __future__ import annotations

from glassdock.client.recording import lines, merge
from tests.kernelext import samples


def test_the_story_is_told_in_order_with_who_did_what() -> None:
    steps = merge(samples.client_spans(), samples.engine_spans())
    assert len(steps) == 17
    assert [step.actor for step in steps if step.depth <= 2][:3] == ["client", "client", "daemon"]
    actors = list(dict.fromkeys(step.actor for step in steps))
    assert actors == ["client", "daemon", "images", "registry", "unionfs", "network", "launcher", "shim", "init"]


def test_the_engines_spans_hang_under_the_clients_span_in_which_they_began() -> None:
    steps = merge(samples.client_spans(), samples.engine_spans())
    names = [step.name for step in steps]
    depth = {step.name: step.depth for step in steps}
    assert depth["containers.create"] == depth["client.create"] + 1
    assert depth["containers.start"] == depth["client.start"] + 1
    assert names.index("client.start") < names.index("network.attach") < names.index("client.follow")


def test_times_begin_at_the_first_span() -> None:
    steps = merge(samples.client_spans(), samples.engine_spans())
    assert steps[0].start == 0
    assert all(step.start >= 0 and step.duration >= 0 for step in steps)


def test_without_the_clients_spans_the_engines_stand_alone() -> None:
    steps = merge((), samples.engine_spans())
    assert [step.name for step in steps if step.depth == 0] == ["containers.create", "containers.start"]


def test_nothing_recorded_is_no_steps() -> None:
    assert merge((), ()) == ()


def test_source_files_are_named_below_the_source_root() -> None:
    assert merge((), samples.engine_spans())[0].file == "glassdock/runtime/rootfs.py"


def test_the_text_names_a_failed_step() -> None:
    (failed,) = [line for line in lines(merge((), samples.engine_spans())) if "!" in line]
    assert "runtime.pivot_root" in failed
    assert failed.endswith("! OSError: refused")


def test_what_happened_long_after_the_run_is_another_story() -> None:
    engine = samples.engine_spans()
    later = [
        span | {"id": span["id"] + 100, "parent": 0, "start": span["start"] + 60_000_000_000} for span in engine[:1]
    ]
    later[0]["name"] = "containers.signal"
    for client in (samples.client_spans(), []):
        assert "containers.signal" not in [step.name for step in merge(client, [*engine, *later])]


def test_of_two_starts_the_last_is_told() -> None:
    engine = samples.engine_spans()
    again = [
        span
        | {"id": span["id"] + 100, "parent": span["parent"] and span["parent"] + 100, "start": span["start"] + 10**11}
        for span in engine
        if span["id"] >= 5
    ]
    names = [step.name for step in merge((), [*engine, *again])]
    assert names.count("containers.start") == 1
    assert "containers.create" not in names


def test_what_was_made_ready_before_the_run_is_ahead() -> None:
    (ahead,) = [step for step in merge(samples.client_spans(), samples.engine_spans()) if step.ahead]
    assert (ahead.name, ahead.start) == ("shim.setup", 0)


def test_what_two_processes_do_at_the_same_time_is_told_in_the_same_order_every_time() -> None:
    def told(shim: int, init: int) -> list[str]:
        facts = {"duration": 5, "attributes": {}, "file": "", "line": 0, "error": "", "syscalls": []}
        rows = [("runtime.child", 1, 0, "shim", 0), ("a", 2, 1, "shim", shim), ("b", 3, 1, "init", init)]
        spans = [
            {**facts, "name": name, "id": key, "parent": parent, "process": process, "start": start}
            for name, key, parent, process, start in rows
        ]
        return [step.name for step in merge((), spans)]

    assert told(shim=1, init=2) == told(shim=2, init=1) == ["runtime.child", "a", "b"]
