"""The checks: each warns where BuildKit's reference says so, and is silent where it says nothing."""

from __future__ import annotations

import pytest

from glassdock.build.checks import checks, options
from glassdock.build.dockerfile import parse
from glassdock.build.ignore import Matcher
from glassdock.errors import InvalidParameter
from glassdock.oci.image import ContainerConfig, ImageConfig, RootFS


def image(config: ContainerConfig) -> ImageConfig:
    return ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(diff_ids=()), config=config)


BASES = {
    "alpine": image(ContainerConfig(env=("PATH=/bin", "PYTHON_VERSION=3"))),
    "pwsh": image(ContainerConfig(shell=("pwsh", "-c"))),
}


def found(text: str, ignored: str = "") -> list[tuple[int, str, str]]:
    findings = checks(parse(text), BASES, Matcher(tuple(ignored.split())) if ignored else None)
    return [(finding.line, finding.rule, finding.message) for finding in findings]


def rules(text: str, ignored: str = "") -> list[tuple[int, str]]:
    return [(line, rule) for line, rule, _ in found(text, ignored)]


@pytest.mark.parametrize(
    ("text", "line", "rule", "message"),
    [
        ("FROM alpine AS Build\n", 1, "StageNameCasing", "Stage name 'Build' should be lowercase"),
        ("FROM alpine as build\n", 1, "FromAsCasing", "'as' and 'FROM' keywords' casing do not match"),
        ("FROM alpine\nRUN a \\\n\n  b\n", 3, "NoEmptyContinuation", "Empty continuation line"),
        (
            *("FROM alpine\nRUN x\nWorkdir /a\n", 3, "ConsistentInstructionCasing"),
            "Command 'Workdir' should match the case of the command majority (uppercase)",
        ),
        (
            *("from alpine\nrun x\nRUN y\n", 3, "ConsistentInstructionCasing"),
            "Command 'RUN' should match the case of the command majority (lowercase)",
        ),
        (
            *("FROM alpine AS b\nFROM alpine AS b\n", 2, "DuplicateStageName"),
            'Duplicate stage name "b", stage names should be unique',
        ),
        (
            *("FROM alpine AS scratch\n", 1, "ReservedStageName"),
            'Stage name should not use the same name as reserved stage "scratch"',
        ),
        (
            *("FROM alpine\nCMD run it\n", 2, "JSONArgsRecommended"),
            "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        ),
        (
            *("FROM alpine\nMAINTAINER me\n", 2, "MaintainerDeprecated"),
            "Maintainer instruction is deprecated in favor of using label",
        ),
        (
            *("ARG IMAGE=alpine\nFROM $IMAGES\n", 2, "UndefinedArgInFrom"),
            "FROM argument 'IMAGES' is not declared (did you mean IMAGE?)",
        ),
        (
            *("FROM alpine\nWORKDIR app\nWORKDIR more\n", 2, "WorkdirRelativePath"),
            'Relative workdir "app" can have unexpected results if the base image changes',
        ),
        (
            *("FROM alpine\nENV PATH=$PAHT:/x\n", 2, "UndefinedVar"),
            "Usage of undefined variable '$PAHT' (did you mean $PATH?)",
        ),
        (
            *('FROM alpine\nCMD ["a"]\nCMD ["b"]\n', 2, "MultipleInstructionsDisallowed"),
            "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            *("FROM alpine\nENV a b\n", 2, "LegacyKeyValueFormat"),
            '"ENV key=value" should be used instead of legacy "ENV key value" format',
        ),
        (
            *("FROM --platform=$TARGETPLATFORM alpine\n", 1, "RedundantTargetPlatform"),
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        (
            *("FROM --platform=linux/amd64 alpine\n", 1, "FromPlatformFlagConstDisallowed"),
            'FROM --platform flag should not use constant value "linux/amd64"',
        ),
        (
            *("FROM alpine\nARG DATABASE_PASSWORD\n", 2, "SecretsUsedInArgOrEnv"),
            'Do not use ARG or ENV instructions for sensitive data (ARG "DATABASE_PASSWORD")',
        ),
        (
            *("ARG TAG\nFROM alpine:${TAG}\n", 2, "InvalidDefaultArgInFrom"),
            "Default value for ARG alpine:${TAG} results in empty or invalid base image name",
        ),
        (
            *("FROM alpine\nEXPOSE 80/TCP\n", 2, "ExposeProtoCasing"),
            "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        ),
        (
            *("FROM alpine\nEXPOSE 127.0.0.1:80:80\n", 2, "ExposeInvalidFormat"),
            "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
        ),
    ],
)
def test_a_check_warns_in_buildkits_words(text: str, line: int, rule: str, message: str) -> None:
    assert (line, rule, message) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        'FROM alpine AS build\nWORKDIR /a\nWORKDIR b\nENV A=1 B=$PYTHON_VERSION\nCMD ["x"]\n',
        "from alpine as build\ncopy a b\n",
        "FROM pwsh\nCMD run it\n",  # a SHELL of its own is meant
        'FROM alpine\nSHELL ["bash", "-c"]\nCMD run it\n',
        "FROM alpine\nARG foo\nCOPY a$foo .\n",
        "FROM alpine AS base\nARG foo=x\nFROM base\nCOPY $foo .\n",
        "FROM scratch\nCOPY a /\nENV X=$http_proxy\n",
        "FROM unknown\nENV A=$WHO_KNOWS\n",  # the image is not here: its environment is not known
        'FROM alpine AS a\nENTRYPOINT ["x"]\nFROM alpine\nENTRYPOINT ["y"]\n',
        "FROM --platform=$BUILDPLATFORM alpine\n",
        "FROM --platform=linux/arm64 alpine AS build-arm64\n",
        "ARG TAG=3\nFROM alpine:${TAG}\n",
        "ARG TAG\nFROM alpine:${TAG:-3}\n",
        "FROM alpine\nENV PUBLIC_KEY=x TOKEN_FILE=y SECRET_VERSION=1 MONKEY=x\n",
        "FROM alpine\nARG P=80\nEXPOSE ${P:-80}/tcp 53/udp 1-2\n",
        "# a comment\nFROM alpine AS base\n",  # descriptions are checked where that is asked for
    ],
)
def test_what_is_well_written_has_no_findings(text: str) -> None:
    assert found(text) == []


def test_a_default_in_the_variable_does_not_define_it() -> None:
    assert rules("FROM alpine\nENV A=${NOPE:-x}\n") == [(2, "UndefinedVar")]


@pytest.mark.parametrize(
    ("ignored", "copy", "warned"),
    [
        ("secret", "COPY secret /", True),
        ("secret", "ADD ./secret/../secret /", True),
        ("*.log", "COPY a.log b.txt /", True),
        ("dir", "COPY dir/file /", True),
        ("secret", "COPY . /", False),
        ("*", "COPY . /", True),
        ("* !keep", "COPY other /", False),
        ("secret", "COPY --from=alpine secret /", False),
        ("secret", "ADD https://example.org/secret /", False),
    ],
)
def test_copy_of_what_is_ignored(ignored: str, copy: str, warned: bool) -> None:
    assert rules(f"FROM alpine\n{copy}\n", ignored) == ([(2, "CopyIgnoredFile")] if warned else [])


def test_descriptions_are_checked_where_it_is_asked_for() -> None:
    text = (
        "# check=experimental=all\n# base is the beginning\nFROM alpine AS base\n# bad\nARG foo=1\n# bad\n\nARG bar\n"
    )
    assert found(text) == [
        (5, "InvalidDefinitionDescription", "Comment for ARG should follow the format: `# foo <description>`")
    ]


def test_the_directive_leaves_checks_out() -> None:
    text = "FROM alpine as Build\nCMD x\n"
    assert rules(text) == [(1, "FromAsCasing"), (1, "StageNameCasing"), (2, "JSONArgsRecommended")]
    assert rules(f"# check=skip=FromAsCasing, StageNameCasing\n{text}") == [(3, "JSONArgsRecommended")]
    assert rules(f"# check=skip=all\n{text}") == []


@pytest.mark.parametrize("text", ["skip", "nope=1", "error=maybe"])
def test_a_bad_directive_is_told(text: str) -> None:
    with pytest.raises(InvalidParameter, match="check option"):
        options(text)


def test_error_is_off_unless_it_is_asked_for() -> None:
    assert not options("").error
    assert not options("skip=A;error=false").error
    assert options("skip=A;error=true").error
