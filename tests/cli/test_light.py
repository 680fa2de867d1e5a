"""The stand-ins of `glassdock-runtime`: what they read, write and refuse is what the originals do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glassdock.cli.runtime_facts import example
from glassdock.errors import InvalidParameter
from glassdock.oci import runtime as oci

_ENGINE = Path(oci.__file__).parents[2]


def light(script: str, *arguments: str) -> str:
    """What a script prints that runs on stand-ins."""
    start = f"import sys; sys.path.append({str(_ENGINE)!r})\nfrom glassdock.cli import light; light.install()\n"
    command = [sys.executable, "-IS", "-c", start + script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def whole() -> dict[str, Any]:
    spec = example(rootless=True)
    spec["linux"]["resources"] = {"memory": {"limit": 1 << 40, "disableOOMKiller": True}, "unified": {"a.b": "c"}}
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["a", "é"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 2, "op": "X"}]}],
    }
    spec["process"] |= {"user": {"uid": 5, "gid": 6, "additionalGids": [7]}, "consoleSize": {"height": 1, "width": 2}}
    return spec | {"annotations": {"a": "b"}, "unknown": [1, {"x": None}], "hooks": {"prestart": [{"path": "/x"}]}}


def test_a_bundles_document_is_read_and_written_alike() -> None:
    data = json.dumps(whole())
    script = (
        "from glassdock.oci import runtime as oci; spec = oci.decode(sys.argv[1]); print(oci.encode(spec).decode())"
    )
    assert oci.decode(light(script, data)) == oci.decode(data)


@pytest.mark.parametrize(
    "change",
    [
        {"hostname": 5},
        {"process": {"user": {"uid": "five"}}},
        {"process": {"args": "sh"}},
        {"process": {"terminal": 1}},
        {"linux": {"namespaces": [{"path": "/x"}]}},
        {"linux": {"resources": {"memory": {"limit": "much"}}}},
        {"linux": {"sysctl": {"a": 1}}},
        {"mounts": {}},
        {"root": []},
        {"annotations": 5},
    ],
)
def test_a_wrong_document_is_refused_in_the_same_words(change: dict[str, Any]) -> None:
    data = json.dumps(whole() | change)
    with pytest.raises(InvalidParameter) as refused:
        oci.decode(data)
    script = """
from glassdock.errors import InvalidParameter
from glassdock.oci import runtime as oci
try:
    oci.decode(sys.argv[1])
except InvalidParameter as error:
    print(error, end="")
"""
    assert light(script, data) == str(refused.value)


def test_what_is_no_json_is_refused() -> None:
    script = """
import msgspec
for text in ("", "{", "{} x", '{"a": NaN}', "[1,]"):
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        print("refused")
"""
    assert light(script).split() == ["refused"] * 5


def test_json_over_several_lines_is_the_originals() -> None:
    document: dict[str, Any] = {"a": [], "b": {}, "c": [1, {"d": 'e"\n'}], "f": None, "g": True}
    script = """
import msgspec
print(msgspec.json.format(sys.argv[1].encode(), indent=2).decode(), end="")
"""
    expected = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    assert light(script, json.dumps(document)) == expected


def test_contexts_flags_and_values_behave() -> None:
    script = """
import contextlib, dataclasses, enum, functools, msgspec
told = []
@contextlib.contextmanager
def context(swallow):
    told.append("in")
    try:
        yield 7
    except ValueError:
        if not swallow:
            raise
    finally:
        told.append("out")
with context(True) as seven:
    raise ValueError
try:
    with context(False):
        raise ValueError
except ValueError:
    told.append("raised")
with contextlib.ExitStack() as undo:
    undo.callback(told.append, "first")
    undo.callback(told.append, "second")
    later = undo.pop_all()
later.close()
class Bits(enum.IntFlag):
    A = 1
    B = 2
told += [(Bits.A | Bits.B).name, Bits["B"].value, int(Bits(3) & ~Bits.A)]
@dataclasses.dataclass(frozen=True)
class Data:
    x: int
    y: list = dataclasses.field(default_factory=list)
told += [Data(1) == Data(1), Data(1).y is Data(1).y, dataclasses.replace(Data(1), x=2).x]
class Value(msgspec.Struct, frozen=True):
    x: int
    y: str = "z"
told += [len({Value(1), Value(1, "z"), Value(2)}), msgspec.structs.replace(Value(1), y="w").y]
try:
    raise KeyError
except KeyError:
    with contextlib.suppress(LookupError):
        raise IndexError
print(told)
"""
    assert light(script).strip() == str(
        ["in", "out", "in", "out", "raised", "second", "first", "A|B", 2, 2, True, False, 2, 2, "w"]
    )


def test_no_verb_that_docker_waits_for_imports_an_original() -> None:
    script = """
import glassdock.cli.runtime, glassdock.cli.runtime_life, glassdock.cli.runtime_exec
print(sorted(light._real))
"""
    assert light(script).strip() == "[]"
