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
