"""The plan: stages as a graph, variables replaced, configs as the reference says. Nothing runs here."""

from __future__ import annotations

from typing import Any

import pytest

from glassdock.build.dockerfile import parse
from glassdock.build.options import BuildOptions
from glassdock.build.plan import make_plan
from glassdock.build.work import CopyWork, DirectoryWork, Plan, RunWork, Step
from glassdock.errors import BuildError, InvalidParameter, NotFound, NotSupported
from glassdock.oci.image import ContainerConfig, ImageConfig, RootFS

BASE = ContainerConfig(
    env=("PATH=/bin", "FROM_BASE=yes"), cmd=("base",), entrypoint=("/entry",), working_dir="/home", user="app"
)
ONBUILD = ContainerConfig(on_build=("COPY . /src", "RUN make ${TARGET:-all}"))


async def plan(text: str, **options: Any) -> Plan:
    async def resolve(name: str) -> ImageConfig:
        known = {"base": BASE, "onbuild": ONBUILD, "plain": ContainerConfig(), "base:3": BASE}
        if name not in known:
            raise NotFound(f"No such image: {name}")
        return ImageConfig("amd64", "linux", RootFS(()), config=known[name])

    return await make_plan(parse(text), BuildOptions(**options), resolve)


async def steps(text: str, **options: Any) -> tuple[Step, ...]:
    return (await plan(text, **options)).target.steps


async def last(text: str, **options: Any) -> Step:
    return (await steps(text, **options))[-1]


async def run(text: str, **options: Any) -> RunWork:
    work = (await last(text, **options)).work
    assert isinstance(work, RunWork)
    return work


async def test_only_what_the_target_needs_is_planned() -> None:
    text = (
        "FROM missing AS unused\nFROM base AS a\nFROM base AS b\nFROM plain\nCOPY --from=b /x /x\nCOPY --from=1 /y /y\n"
    )
    made = await plan(text)
    assert [stage.name for stage in made.stages] == ["a", "b", "3"]
    assert made.skipped == ("unused",)
    assert made.target.needs() == {1, 2}
    assert [stage.name for stage in (await plan(text, target="A")).stages] == ["a"]
    assert [stage.name for stage in (await plan(text, target="2")).stages] == ["b"]


async def test_a_stage_stands_on_an_earlier_one_and_takes_its_config_and_arguments() -> None:
    text = "FROM plain AS a\nARG V=1\nENV E=2\nWORKDIR /w\nFROM a\nRUN x\n"
    work = await run(text)
    assert work.env == ("E=2", "V=1")
    assert work.cwd == "/w"
    assert (await plan(text)).target.base == 0


async def test_a_name_of_a_stage_and_of_an_image_is_the_stage_after_it_and_the_image_before() -> None:
    made = await plan("FROM base AS base\nFROM base AS x\nCOPY --from=plain /a /b\n")
    assert [stage.base for stage in made.stages] == ["base", 0]
    work = made.target.steps[0].work
    assert isinstance(work, CopyWork)
    assert work.origin == "plain"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM plain\nCOPY --from=later /a /b\nFROM plain AS later\nFROM 0", "invalid"),
        ("FROM plain AS a\nCOPY --from=a /a /b", 'cannot copy from stage "a", it needs to be defined before'),
        ("FROM plain\nCOPY --from=1 /a /b", 'cannot copy from stage "1", it needs to be defined before'),
        ("FROM $X", "base name ($X) should not be blank"),
        ("FROM plain\nWORKDIR ${X:?give X}", "X: give X"),
        ("FROM plain\nENV A=${", "Dockerfile line 2: syntax error: missing '}'"),
        ("FROM plain\nEXPOSE 80000", "invalid containerPort: 80000"),
        ("FROM plain\nEXPOSE 80/icmp", "invalid proto: icmp"),
        ("FROM plain\nSTOPSIGNAL SIGNOPE", "invalid signal: SIGNOPE"),
        ("FROM plain\nCOPY a b /c", "more than one source file"),
    ],
)
async def test_what_makes_no_sense_says_where(text: str, message: str) -> None:
    if message == "invalid":
        with pytest.raises((BuildError, NotFound)):
            await plan(text)
        return
    with pytest.raises(BuildError) as caught:
        await plan(text)
    assert message in caught.value.message
    assert caught.value.line


async def test_an_unknown_target_is_told_with_what_was_meant() -> None:
    with pytest.raises(BuildError, match=r"failed to reach build target biuld in Dockerfile \(did you mean build\?\)"):
        await plan("FROM plain AS build\n", target="biuld")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("RUN --security=insecure y", "RUN --security=insecure"),
    ],
)
async def test_what_is_not_carried_out_yet_is_refused_before_an_image_is_looked_up(line: str, reason: str) -> None:
    with pytest.raises(NotSupported) as caught:
        await plan(f"FROM missing\n{line}\n")
    assert caught.value.message.startswith(f"Dockerfile line 2: {reason} is understood")


async def test_arguments_before_from_and_their_scopes() -> None:
    text = "ARG V=3\nARG W=${V}.1\nFROM base:${V}\nARG W\nARG N=n-$W\nRUN x\n"
    assert (await run(text)).env[-2:] == ("W=3.1", "N=n-3.1")
    text = "ARG V=3\nFROM base\nRUN echo $V\n"
    assert (await run(text)).env == BASE.env
    with pytest.raises(NotFound, match=r"No such image: base:4 \(Dockerfile line 2\)"):
        await plan("ARG V=3\nFROM base:$V", build_args={"V": "4"})


async def test_env_wins_over_arg_and_build_arguments_over_defaults() -> None:
    text = "FROM plain\nARG A=default\nARG B\nARG C=c\nENV C=env\nRUN x\nLABEL l=$A-$B-$C\n"
    made = await steps(text, build_args={"A": "given", "C": "given", "X": "unused", "Y": None})
    work = made[4].work
    assert isinstance(work, RunWork)
    assert work.env == ("C=env", "A=given")
    assert made[-1].config.labels == {"l": "given--env"}
    assert made[4].created_by == "RUN |3 A=given B= C=env /bin/sh -c x"
    assert (await plan(text, build_args={"X": "unused", "A": "1"})).unused_arguments == ("X",)


async def test_platform_arguments_need_no_default() -> None:
    work = await run("FROM --platform=$BUILDPLATFORM plain\nARG TARGETARCH\nARG TARGETOS\nRUN x\n")
    assert work.env[1] == "TARGETOS=linux"
    assert work.env[0] in ("TARGETARCH=amd64", "TARGETARCH=arm64")
    with pytest.raises(NotSupported, match="cannot run on this machine"):
        await plan("FROM --platform=linux/s390x plain\n")


async def test_proxies_reach_run_and_stay_out_of_history() -> None:
    work = await run("FROM plain\nRUN x\n", build_args={"https_proxy": "http://p"})
    assert (work.env, work.hidden) == ((), ("https_proxy=http://p",))
    assert (await plan("FROM plain\nRUN x\n", build_args={"https_proxy": "http://p"})).unused_arguments == ()


async def test_env_sees_what_was_there_before_its_instruction() -> None:
    made = await last("FROM plain\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n")
    assert made.config.env == ("abc=bye", "def=hello", "ghi=bye")
    made = await last("FROM base\nENV PATH=/x:$PATH\n")
    assert made.config.env == ("PATH=/x:/bin", "FROM_BASE=yes")
    assert (await last("FROM plain\nENV P=$PATH\n")).config.env == (
        "P=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    )


async def test_working_directories_join() -> None:
    made = await steps("FROM base\nWORKDIR a\nWORKDIR ../b/\nWORKDIR /c\nWORKDIR .\nCOPY x y/\nCOPY x .\nCOPY x /\n")
    assert [step.config.working_dir for step in made[:4]] == ["/home/a", "/home/b", "/c", "/c"]
    assert isinstance(made[0].work, DirectoryWork)
    assert made[0].work.user == "app"
    assert [step.work.destination for step in made[4:] if isinstance(step.work, CopyWork)] == ["/c/y/", "/c/", "/"]


async def test_commands_and_entry_points() -> None:
    config = (await last('FROM base\nENTRYPOINT ["e"]\n')).config
    assert (config.entrypoint, config.cmd) == (("e",), None)
    config = (await last("FROM base\nCMD a b\nENTRYPOINT e f\n")).config
    assert (config.entrypoint, config.cmd) == (("/bin/sh", "-c", "e f"), ("/bin/sh", "-c", "a b"))
    config = (await last('FROM base\nSHELL ["/bin/ash", "-ec"]\nCMD x\n')).config
    assert config.cmd == ("/bin/ash", "-ec", "x")
    assert (await run('FROM base\nSHELL ["/bin/ash", "-ec"]\nRUN x\n')).argv == ("/bin/ash", "-ec", "x")
    config = (await last("FROM base\nENTRYPOINT []\nCMD []\n")).config
    assert (config.entrypoint, config.cmd) == (None, ())


async def test_the_other_instructions_change_the_config() -> None:
    text = """FROM base
EXPOSE 80 443/tcp 53/UDP 90-92 $PORTS
VOLUME /a /b
VOLUME ["/d e"]
STOPSIGNAL SIGINT
HEALTHCHECK --retries=2 CMD true
LABEL a=1 b="x y"
USER $FROM_BASE
MAINTAINER me
ONBUILD RUN x
"""
    step = await last(text)
    config = step.config
    assert list(config.exposed_ports or ()) == ["80/tcp", "443/tcp", "53/udp", "90/tcp", "91/tcp", "92/tcp"]
    assert list(config.volumes or ()) == ["/a", "/b", "/d e"]
    assert config.stop_signal == "SIGINT"
    assert config.healthcheck
    assert (config.healthcheck.test, config.healthcheck.retries) == (("CMD-SHELL", "true"), 2)
    assert config.labels == {"a": "1", "b": "x y"}
    assert (config.user, step.author, config.on_build) == ("yes", "me", ("RUN x",))


async def test_triggers_run_first_and_are_used_up() -> None:
    made = await plan("FROM onbuild\nENV TARGET=mine\nRUN x\n")
    assert [step.source.text for step in made.target.steps] == [
        "COPY . /src", "RUN make ${TARGET:-all}", "ENV TARGET=mine", "RUN x",
    ]  # fmt: skip
    assert [step.trigger for step in made.target.steps] == [True, True, False, False]
    assert made.target.steps[-1].config.on_build is None
    assert made.length == 3


async def test_run_heredocs_become_one_script() -> None:
    assert (await run("FROM plain\nRUN <<-EOF\n\tset -e\n\techo $HOME\n\tEOF\n")).argv[-1] == "set -e\necho $HOME\n"
    assert (await run("FROM plain\nRUN cat <<A <<-'B'\n1\nA\n\t2\nB\n")).argv[-1] == "cat <<A <<-'B'\n1\nA\n\t2\nB"


async def test_labels_of_the_command_line_come_last() -> None:
    step = await last("FROM base\nLABEL a=1 b=2\n", labels={"b": "3"})
    assert step.config.labels == {"a": "1", "b": "3"}
    assert step.source.text == "LABEL b=3"


async def test_the_history_is_for_people() -> None:
    text = 'FROM base\nENV A="x y"\nCOPY --chown=1 $FROM_BASE /d/\nCMD ["a", "b"]\nEXPOSE 80\nWORKDIR /w\nRUN a   b\n'
    assert [step.created_by for step in await steps(text)] == [
        "ENV A='x y'", "COPY --chown=1 yes /d/", 'CMD ["a", "b"]', "EXPOSE 80/tcp", "WORKDIR /w",
        "RUN /bin/sh -c a   b",
    ]  # fmt: skip


async def test_the_plan_can_be_read() -> None:
    text = (await plan('FROM base AS b\nRUN make\nFROM scratch\nCOPY --from=b /a /\nCMD ["/a"]\n')).describe()
    assert text.splitlines() == [
        "stage b from base",
        "  line 2: RUN make -- runs '/bin/sh -c make' in /home as app, network bridge",
        "stage 1 from scratch",
        "  line 4: COPY --from=b /a / -- copies /a from stage 0 to /",
        '  line 5: CMD ["/a"] -- changes the image\'s config, makes no layer',
    ]


def test_options_are_read_from_the_query() -> None:
    query = {
        "t": ["a:1", "b"], "dockerfile": "x/D", "buildargs": '{"A": "1", "B": null}', "labels": '{"l": "m"}',
        "nocache": "1", "q": "0", "pull": "true", "target": "t", "networkmode": "default", "version": "1", "rm": "1",
        "memory": "0", "ulimits": "null", "cachefrom": "[]", "shmsize": "0", "cgroupparent": "", "remote": "",
    }  # fmt: skip
    options = BuildOptions.from_query(
        query, "eyJodHRwczovL2luZGV4LmRvY2tlci5pby92MS8iOnsidXNlcm5hbWUiOiJ1IiwicGFzc3dvcmQiOiJwIn19"
    )
    assert (options.tags, options.dockerfile, options.target) == (("a:1", "b"), "x/D", "t")
    assert (options.build_args, options.labels) == ({"A": "1", "B": None}, {"l": "m"})
    assert (options.no_cache, options.quiet, options.pull, options.network) == (True, False, True, "bridge")
    assert options.credentials["docker.io"].username == "u"


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"squash": "1"}, NotSupported),
        ({"memory": "much"}, InvalidParameter),
        ({"ulimits": "[1]"}, InvalidParameter),
        ({"version": "2"}, NotSupported),
        ({"buildargs": "{"}, InvalidParameter),
        ({"buildargs": "[1]"}, InvalidParameter),
        ({"labels": '{"a": 1}'}, InvalidParameter),
    ],
)
def test_options_that_are_not_carried_out_are_refused(query: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        BuildOptions.from_query(query)
