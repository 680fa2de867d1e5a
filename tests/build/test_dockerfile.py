"""The language: typed instructions, line ranges, and problems with what was probably meant."""

from __future__ import annotations

import doctest

import pytest

from glassdock.build import dockerfile
from glassdock.build.dockerfile import check, parse
from glassdock.build.flags import Mount
from glassdock.build.instructions import (
    Arg,
    Cmd,
    Copy,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Pair,
    Run,
    Shell,
    Volume,
)
from glassdock.errors import BuildError


def one(text: str) -> Instruction:
    (instruction,) = parse("FROM a\n" + text).stages[0].instructions
    return instruction


def test_the_example_of_the_module_is_true() -> None:
    assert doctest.testmod(dockerfile, raise_on_error=True).failed == 0


def test_stages_and_arguments_before_the_first_from() -> None:
    tree = parse("ARG V=1 W\nFROM --platform=linux/amd64 a:$V AS Build-1\nRUN x\nfrom b\n")
    assert [arg.names for arg in tree.arguments] == [(("V", "1"), ("W", None))]
    assert [(s.name, s.from_.image, s.from_.platform) for s in tree.stages] == [
        ("build-1", "a:$V", "linux/amd64"),
        ("1", "b", ""),
    ]


def test_shell_and_json_forms() -> None:
    run, cmd = one("RUN echo 'a b'  | cat"), one('CMD ["a b", "c"]')
    assert isinstance(run, Run)
    assert isinstance(cmd, Cmd)
    assert (run.command.words, run.command.shell) == (("echo 'a b'  | cat",), True)
    assert (cmd.command.words, cmd.command.shell) == (("a b", "c"), False)


@pytest.mark.parametrize("text", ["CMD [a, b]", "CMD ['a']", 'CMD ["a"', 'CMD ["a",]', 'CMD ["a"] x'])
def test_almost_json_is_the_shell_form(text: str) -> None:
    cmd = one(text)
    assert isinstance(cmd, Cmd)
    assert cmd.command.shell


def test_json_with_more_than_strings_is_refused() -> None:
    (problem,) = check('FROM a\nCMD ["a", 1]')
    assert problem.message == "when using JSON array syntax, arrays must be comprised of strings only"


def test_pairs() -> None:
    for text, pairs in [
        ('ENV A=1 B="x y" C=a\\ b D=', [("A", "1"), ("B", '"x y"'), ("C", "a\\ b"), ("D", "")]),
        ("ENV A b  c = d", [("A", "b  c = d")]),
        ("LABEL a.b=c\\\n   d='e f'", [("a.b", "c"), ("d", "'e f'")]),
    ]:
        instruction = one(text)
        assert isinstance(instruction, Env | Label)
        assert instruction.pairs == tuple(Pair(*pair) for pair in pairs)


def test_copy_with_flags_sources_and_documents() -> None:
    copy = one("COPY --from=0 --chown=a:b --chmod=u+x --link --exclude=*.a --exclude=b a <<EOF b/ /c d/\nhi\nEOF\n")
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.destination) == (("a", "b/", "/c"), "d/")
    assert (copy.from_, copy.chown, copy.chmod, copy.link, copy.excludes) == ("0", "a:b", "u+x", True, ("*.a", "b"))
    assert [(document.name, document.content) for document in copy.documents] == [("EOF", "hi\n")]
    spaced = one('ADD ["a b", "/c d/"]')
    assert isinstance(spaced, Copy)
    assert (spaced.add, spaced.sources, spaced.destination) == (True, ("a b",), "/c d/")


def test_run_flags() -> None:
    run = one("RUN --mount=type=cache,target=/x,sharing=locked --mount=src=a,dst=/b,rw --network=none make")
    assert isinstance(run, Run)
    assert run.mounts == (
        Mount("cache", {"target": "/x", "sharing": "locked"}),
        Mount("bind", {"source": "a", "target": "/b", "readwrite": "true"}),
    )
    assert (run.network, run.command.words) == ("none", ("make",))


def test_the_lesser_instructions() -> None:
    volume, expose, shell = one('VOLUME ["/a b", "/c"]'), one("EXPOSE 80/tcp  90-91"), one('SHELL ["/bin/sh", "-ec"]')
    assert isinstance(volume, Volume)
    assert isinstance(expose, Expose)
    assert isinstance(shell, Shell)
    assert (volume.paths, expose.ports, shell.words) == (("/a b", "/c"), ("80/tcp", "90-91"), ("/bin/sh", "-ec"))
    maintainer, arg = one("MAINTAINER A B <a@b>"), one("ARG A B=1")
    assert isinstance(maintainer, Maintainer)
    assert isinstance(arg, Arg)
    assert (maintainer.author, arg.names) == ("A B <a@b>", (("A", None), ("B", "1")))


def test_healthcheck() -> None:
    health = one("HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1h --retries=3 CMD curl -f x || exit 1")
    assert isinstance(health, HealthCheck)
    check = health.check
    assert check.test == ("CMD-SHELL", "curl -f x || exit 1")
    assert (check.interval, check.timeout, check.retries) == (90 * 10**9, 5 * 10**8, 3)
    assert check.start_period == 3600 * 10**9
    none = one("HEALTHCHECK NONE")
    assert isinstance(none, HealthCheck)
    assert none.check.test == ("NONE",)


def test_onbuild_keeps_the_expression_and_understands_it() -> None:
    onbuild = one("ONBUILD  RUN <<EOF\nx\nEOF\n")
    assert isinstance(onbuild, OnBuild)
    assert onbuild.expression == "RUN <<EOF\nx\nEOF"
    assert isinstance(onbuild.trigger, Run)
    assert onbuild.trigger.heredocs[0].body == "x\n"
    again = dockerfile.parse_trigger(onbuild.expression, 1)
    assert isinstance(again, Run)
    assert again.heredocs == onbuild.trigger.heredocs


PROBLEMS = [
    ("RUNN x", "unknown instruction: RUNN (did you mean RUN?)"),
    ("FORM b", "unknown instruction: FORM (did you mean FROM?)"),
    ("XYZZY b", "unknown instruction: XYZZY"),
    ("COPY a", "COPY requires at least two arguments, but only one was provided. Destination could not be determined"),
    ("COPY --chwon=1 a b", "unknown flag: --chwon (did you mean --chown?)"),
    ("COPY --from a b", "missing a value on flag: --from"),
    ("COPY --link=x a b", "expecting boolean value for flag --link, not: x"),
    ("COPY --chown=1 --chown=2 a b", "duplicate flag specified: --chown"),
    ("COPY a <<EOF\nx\nEOF", "COPY cannot accept a heredoc as a destination"),
    ("COPY --from=$X a b", "variable expansion is not supported for --from (name a stage"),
    ("ENV A", "ENV must have two arguments (ENV A=value)"),
    ("ENV A=1 B", 'Syntax error - can\'t find = in "B". Must be of the form: name=value'),
    ("ENV =1", "ENV names can not be blank"),
    ("RUN", "RUN requires at least one argument"),
    ("RUN --mount=type=cahce,target=/x y", 'unsupported mount type "cahce" (did you mean cache?)'),
    ("RUN --mount=tpye=cache y", "unexpected key 'tpye' in 'tpye=cache' (did you mean type?)"),
    ("RUN --network=lan y", 'network mode "lan" is not supported'),
    ("WORKDIR", "WORKDIR requires exactly one argument"),
    ("FROM a as", "FROM requires either one or three arguments"),
    ("FROM a AS 1x", 'invalid name for build stage: "1x"'),
    ("SHELL bash -c", "SHELL requires the arguments to be in JSON form"),
    ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
    ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
    ("HEALTHCHECK CND x", 'Unknown type "CND" in HEALTHCHECK (try CMD)'),
    ("HEALTHCHECK --interval=5x CMD x", 'time: invalid duration "5x"'),
    ("USER --x a", "unknown flag: --x"),
    ('VOLUME [""]', "VOLUME specified can not be an empty string"),
]


@pytest.mark.parametrize(("text", "reason"), PROBLEMS, ids=[text.split("\n")[0] for text, _ in PROBLEMS])
def test_a_problem_names_its_line_and_what_was_meant(text: str, reason: str) -> None:
    (problem,) = check("FROM a\n" + text)
    assert str(problem).startswith(f"dockerfile parse error on line 2: {reason}")


def test_several_problems_are_reported_at_once() -> None:
    with pytest.raises(BuildError) as caught:
        parse("FROM a\nRUNN x\n\nCOPY a\nENV B\n", "web.Dockerfile")
    assert [line.split(":")[0] for line in caught.value.message.split("\n")] == [
        f"dockerfile parse error on line {number}" for number in (2, 4, 5)
    ]
    assert (caught.value.file, caught.value.line) == ("web.Dockerfile", 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "file with no instructions"),
        ("# x\n", "file with no instructions"),
        ("RUN x", "no build stage"),
        ("ARG X", "no build stage"),
    ],
)
def test_a_file_without_from_is_refused(text: str, reason: str) -> None:
    assert reason in str(check(text)[0])
