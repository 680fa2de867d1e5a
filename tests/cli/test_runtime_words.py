"""The command line of `glassdock-runtime`: what go-runc writes is understood, what makes no sense is told."""

from __future__ import annotations

import pytest

from glassdock.cli import runtime
from glassdock.cli.runtime_verbs import GENERAL, VERBS
from glassdock.cli.runtime_words import Call, Usage, parse


def read(line: str) -> Call:
    return parse(VERBS, GENERAL, line.split())


def test_what_go_runc_writes_is_understood() -> None:
    call = read("--root /r --log /l --log-format json create --bundle /b --pid-file /p --no-new-keyring one")
    assert (call.verb, call.arguments) == ("create", ["one"])
    assert (call.settings["root"], call.settings["log"], call.settings["log-format"]) == ("/r", "/l", "json")
    assert (call.options["bundle"], call.options["pid-file"], call.options["no-new-keyring"]) == ("/b", "/p", True)
    assert read("kill --all one 15").arguments == ["one", "15"]
    assert read("kill one SIGTERM --all").options["all"] is True
    assert read("update --resources=- one").options["resources"] == "-"
    assert read("--debug=false list --format=json").options["format"] == "json"
    assert read("delete -force one").options["force"] is True


def test_behind_the_container_the_rest_is_the_programs() -> None:
    call = read("exec -e A=1 -e B=2 -t one sh -c -x --")
    assert call.options["env"] == ["A=1", "B=2"]
    assert call.arguments == ["one", "sh", "-c", "-x", "--"]
    assert read("ps one -o pid").arguments == ["one", "-o", "pid"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("frob", "No help topic for 'frob'"),
        ("start", '"start" requires exactly 1 argument(s)'),
        ("kill", '"kill" requires a minimum of 1 argument(s)'),
        ("kill one 9 two", '"kill" requires a maximum of 2 argument(s)'),
        ("run --bogus one", "flag provided but not defined: -bogus"),
        ("run one --bundle", "flag needs an argument: -bundle"),
        ("run --preserve-fds many one", "not a number"),
        ("run --detach=perhaps one", 'invalid boolean value "perhaps" for -detach'),
    ],
)
def test_what_makes_no_sense_is_told(line: str, words: str) -> None:
    with pytest.raises(Usage, match=words.replace("(", r"\(").replace(")", r"\)")):
        read(line)


def test_every_verb_has_a_function_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name, verb in VERBS.items():
        module, _, function = verb.place.partition(":")
        assert callable(getattr(__import__(f"glassdock.cli.{module}", fromlist=[function]), function))
        assert runtime.main([name, "--help"]) == 0
        assert verb.help in capsys.readouterr().out
    assert runtime.main(["--help"]) == 0
    told = capsys.readouterr().out
    assert [name for name in VERBS if f"  {name} " not in told] == []
    assert runtime.main([]) == 0
    assert runtime.main(["--version"]) == 0
    assert "spec: 1." in capsys.readouterr().out


def test_exit_codes_are_runcs(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    root = ["--root", str(tmp_path)]
    assert runtime.main(["frob"]) == 3
    assert runtime.main([*root, "state"]) == 1
    assert runtime.main([*root, "state", "nope"]) == 1
    assert runtime.main([*root, "exec", "nope", "true"]) == 255
    assert runtime.main([*root, "delete", "--force", "nope"]) == 0
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "container does not exist",
        "exec failed: container does not exist",
    ]
