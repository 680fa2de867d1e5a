"""BuildKit's checks: what works and should not be written so, each under the name that BuildKit gives it.

Interface:
- `checks(tree, bases, ignored)`: the findings of a file, in the order of its lines. `bases` has the configs of the base
  images that are known, by name; `ignored` is the `.dockerignore` of the context.
- `options(directive)`: what `# check=skip=NAME,NAME;error=true` asks for.

Rules: a check is one generator; what cannot be known (the environment of an image that is not here) is not claimed, so
an editor can ask without an engine. What is wrong is a `Problem` and not a finding.
Source: https://docs.docker.com/reference/build-checks/
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from glassdock.build import flags, words
from glassdock.build.dockerfile import Dockerfile, Stage
from glassdock.build.ignore import Matcher
from glassdock.build.instructions import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    Source,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from glassdock.build.lines import Finding
from glassdock.build.scope import PLATFORM_ARGUMENTS, PROXIES
from glassdock.errors import GlassdockError, InvalidParameter
from glassdock.oci.image import ImageConfig
from glassdock.oci.reference import Reference

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_RESERVED = ("context", "scratch")
_EXPERIMENTAL = ("InvalidDefinitionDescription",)
_EVERYTHING = ("*", "**", "**/*")


@dataclass(frozen=True, slots=True)
class Options:
    """Which checks to leave out or to add (`all` is every one), and whether a finding ends the build."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    def wants(self, rule: str) -> bool:
        """Whether findings of this rule are told."""
        if rule in _EXPERIMENTAL:
            return bool({rule, "all"} & self.experimental)
        return not {rule, "all"} & self.skip


def options(directive: str) -> Options:
    """Read the value of the `check` directive; raises InvalidParameter."""
    found: dict[str, str] = {}
    for part in directive.split(";") if directive.strip() else ():
        name, equals, value = (text.strip() for text in part.partition("="))
        if not equals or name not in ("skip", "experimental", "error"):
            raise InvalidParameter(f'invalid check option "{part.strip()}"', "check=skip=NAME,NAME;error=true")
        found[name] = value
    if found.get("error", "false").lower() not in ("true", "false", "1", "0", "t", "f"):
        raise InvalidParameter(f'failed to parse check option "error={found["error"]}"', "error=true or error=false")

    def names(key: str) -> frozenset[str]:
        return frozenset(name.strip() for name in found.get(key, "").split(",") if name.strip())

    error = found.get("error", "").lower() in ("true", "1", "t")
    return Options(names("skip"), names("experimental"), error)


def checks(
    tree: Dockerfile, bases: Mapping[str, ImageConfig] | None = None, ignored: Matcher | None = None
) -> tuple[Finding, ...]:
    """Every finding that the file's own directive does not leave out; raises InvalidParameter for a bad directive."""
    wanted = options(tree.directives.get("check", ""))
    found = list(tree.findings)
    for rule in _OF_A_FILE:
        found += rule(tree)
    found += _variables(tree, bases or {})
    if ignored is not None:
        found += _ignored_sources(tree, ignored)
    kept = {finding for finding in found if wanted.wants(finding.rule)}
    return tuple(sorted(kept, key=lambda finding: (finding.line, finding.rule, finding.message)))


def _casing(tree: Dockerfile) -> Iterator[Finding]:
    """Keywords all upper or all lower case, as the majority of the file has them."""
    sources = [source for stage in tree.stages for source in (stage.from_.source, *_sources(stage))]
    written = [(source, source.text.split(None, 1)[0]) for source in sources]
    lower = sum(word.islower() for _, word in written)
    casing = "lowercase" if lower > sum(word.isupper() for _, word in written) else "uppercase"
    for source, word in written:
        if not (word.islower() if casing == "lowercase" else word.isupper()):
            message = f"Command '{word}' should match the case of the command majority ({casing})"
            yield Finding(source.start, "ConsistentInstructionCasing", message)


def _stage_names(tree: Dockerfile) -> Iterator[Finding]:
    seen: set[str] = set()
    for stage in tree.stages:
        name, line = stage.from_.name, stage.from_.source.start
        if not name:
            continue
        keyword, *_, as_, written = stage.from_.source.text.split()
        if written != name:
            yield Finding(line, "StageNameCasing", f"Stage name '{written}' should be lowercase")
        if as_.islower() != keyword.islower():
            message = f"'{as_}' and '{keyword}' keywords' casing do not match"
            yield Finding(line, "FromAsCasing", message)
        if name in _RESERVED:
            message = f'Stage name should not use the same name as reserved stage "{name}"'
            yield Finding(line, "ReservedStageName", message)
        if name in seen:
            message = f'Duplicate stage name "{name}", stage names should be unique'
            yield Finding(line, "DuplicateStageName", message)
        seen.add(name)


def _platforms(tree: Dockerfile) -> Iterator[Finding]:
    for stage in tree.stages:
        platform, line = stage.from_.platform, stage.from_.source.start
        if re.fullmatch(r"\$(TARGETPLATFORM|\{TARGETPLATFORM\})", platform):
            reason = "in FROM is redundant as this is the default behavior"
            yield Finding(line, "RedundantTargetPlatform", f"Setting platform to predefined {platform} {reason}")
        elif platform and "$" not in platform:
            parts = platform.split("/")
            system, machine = parts[:2] if len(parts) > 1 else ("linux", parts[0])
            if not (stage.from_.name and (system in stage.from_.name or machine in stage.from_.name)):
                message = f'FROM --platform flag should not use constant value "{platform}"'
                yield Finding(line, "FromPlatformFlagConstDisallowed", message)


def _arguments_of_from(tree: Dockerfile) -> Iterator[Finding]:
    """Variables of FROM lines: declared before the first FROM, with a default that makes a name."""
    defaults = dict.fromkeys(PLATFORM_ARGUMENTS, "x")
    declared = set(defaults)
    for argument in tree.arguments:
        for name, default in argument.names:
            declared.add(name)
            value = None if default is None else _expanded(tree, default, defaults)
            if value is not None:
                defaults[name] = value.text
    for stage in tree.stages:
        line = stage.from_.source.start
        for text in (stage.from_.image, stage.from_.platform):
            expanded = _expanded(tree, text, dict.fromkeys(declared, "x"))
            for name in sorted(expanded.unset if expanded else ()):
                hint = _near(name, declared, "")
                yield Finding(line, "UndefinedArgInFrom", f"FROM argument '{name}' is not declared{hint}")
        image = _expanded(tree, stage.from_.image, defaults)
        if image is not None and image.used | image.unset and not _is_reference(image.text):
            message = f"Default value for ARG {stage.from_.image} results in empty or invalid base image name"
            yield Finding(line, "InvalidDefaultArgInFrom", message)


def _once(tree: Dockerfile) -> Iterator[Finding]:
    """CMD, ENTRYPOINT and HEALTHCHECK: of several only the last counts."""
    for stage in tree.stages:
        last: dict[str, Instruction] = {}
        for instruction in stage.instructions:
            if not isinstance(instruction, Cmd | Entrypoint | HealthCheck):
                continue
            keyword = instruction.source.keyword
            if earlier := last.get(keyword):
                reason = "should not be used in the same stage because only the last one will be used"
                message = f"Multiple {keyword} instructions {reason}"
                yield Finding(earlier.source.start, "MultipleInstructionsDisallowed", message)
            last[keyword] = instruction


def _instructions(tree: Dockerfile) -> Iterator[Finding]:
    """What one instruction shows by itself."""
    for source, instruction in _all(tree):
        line, keyword = source.start, source.keyword
        match instruction:
            case Maintainer():
                message = "Maintainer instruction is deprecated in favor of using label"
                yield Finding(line, "MaintainerDeprecated", message)
            case Env() | Label() if "=" not in words.quoted_words(_rest(source), tree.escape)[0]:
                message = f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format'
                yield Finding(line, "LegacyKeyValueFormat", message)
            case Expose(ports=ports):
                yield from _ports(line, ports)
        if isinstance(instruction, Env | Arg):
            names = [n for n, _ in instruction.names] if isinstance(instruction, Arg) else []
            names += [pair.name for pair in instruction.pairs] if isinstance(instruction, Env) else []
            for name in names:
                if _SECRET.search(name) and not _NO_SECRET.search(name):
                    message = f'Do not use ARG or ENV instructions for sensitive data ({keyword} "{name}")'
                    yield Finding(line, "SecretsUsedInArgOrEnv", message)


def _ports(line: int, ports: tuple[str, ...]) -> Iterator[Finding]:
    for port in ports:
        number, _, protocol = port.partition("/")
        if protocol != protocol.lower() and "$" not in protocol:
            message = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
            yield Finding(line, "ExposeProtoCasing", message)
        if ":" in re.sub(r"\$\{[^}]*\}", "", number):
            reason = "should not define an IP address or host-port mapping"
            yield Finding(line, "ExposeInvalidFormat", f"EXPOSE instruction {reason}, found '{port}'")


def _descriptions(tree: Dockerfile) -> Iterator[Finding]:
    """A comment above a stage or an argument is its description, and begins with its name (experimental)."""
    named = [(stage.from_.source, "FROM", [stage.from_.name]) for stage in tree.stages if stage.from_.name]
    named += [(argument.source, "ARG", [name for name, _ in argument.names]) for argument in tree.arguments]
    for stage in tree.stages:
        arguments = [instruction for instruction in stage.instructions if isinstance(instruction, Arg)]
        named += [(argument.source, "ARG", [name for name, _ in argument.names]) for argument in arguments]
    for source, keyword, names in named:
        described = [comment.split(" ")[0].lower() for comment in source.comments if " " in comment]
        if source.comments and not {name.lower() for name in names} & set(described):
            what = "<arg_key>" if keyword == "ARG" and len(names) > 1 else names[0]
            message = f"Comment for {keyword} should follow the format: `# {what} <description>`"
            yield Finding(source.start, "InvalidDefinitionDescription", message)


@dataclass(slots=True)
class _Known:
    """What is known at a place of a stage: the variables (None: not all of them), WORKDIR and SHELL."""

    names: set[str] | None
    workdir: bool = False
    shell: bool = False

    def child(self) -> _Known:
        return _Known(None if self.names is None else set(self.names), self.workdir, self.shell)


def _variables(tree: Dockerfile, bases: Mapping[str, ImageConfig]) -> Iterator[Finding]:
    """What depends on the instructions before: variables, the working directory, the shell."""
    ends: dict[str, _Known] = {}
    for stage in tree.stages:
        known = _beginning(stage, ends, bases)
        for instruction in stage.instructions:
            yield from _undefined(tree, instruction, known)
            line = instruction.source.start
            match instruction:
                case Env(pairs=pairs) if known.names is not None:
                    known.names |= {pair.name for pair in pairs}
                case Workdir(path=path):
                    if not known.workdir and not path.startswith(("/", "$")):
                        message = f'Relative workdir "{path}" can have unexpected results if the base image changes'
                        yield Finding(line, "WorkdirRelativePath", message)
                    known.workdir = True
                case Cmd(command=command) | Entrypoint(command=command) if command.shell and not known.shell:
                    reason = "to prevent unintended behavior related to OS signals"
                    message = f"JSON arguments recommended for {instruction.source.keyword} {reason}"
                    yield Finding(line, "JSONArgsRecommended", message)
            known.shell = known.shell or instruction.source.keyword == "SHELL"
        if stage.from_.name:
            ends[stage.from_.name] = known


def _beginning(stage: Stage, ends: Mapping[str, _Known], bases: Mapping[str, ImageConfig]) -> _Known:
    image = stage.from_.image
    if image.lower() in ends:
        return ends[image.lower()].child()
    if image.lower() == "scratch":
        return _Known({"PATH"})
    if image not in bases:
        return _Known(None)
    config = bases[image].config
    return _Known({"PATH", *(item.partition("=")[0] for item in config.env or ())}, shell=bool(config.shell))


def _undefined(tree: Dockerfile, instruction: Instruction, known: _Known) -> Iterator[Finding]:
    for text, quotes in _expandable(instruction):
        if known.names is not None:
            expanded = _expanded(tree, text, dict.fromkeys(known.names | PROXIES, "x"), quotes=quotes)
            for name in sorted(expanded.unset if expanded else ()):
                message = f"Usage of undefined variable '${name}'{_near(name, known.names, '$')}"
                yield Finding(instruction.source.start, "UndefinedVar", message)
    if isinstance(instruction, Arg) and known.names is not None:
        known.names |= {name for name, _ in instruction.names}


def _expandable(instruction: Instruction) -> Iterator[tuple[str, bool]]:
    """The texts in which an instruction replaces variables, and whether quotes are quotes there."""
    texts: tuple[str, ...] = ()
    match instruction:
        case Env(pairs=pairs) | Label(pairs=pairs):
            texts = tuple(text for pair in pairs for text in (pair.name, pair.value))
        case Arg(names=names):
            texts = tuple(value for _, value in names if value is not None)
        case Copy():
            yield from ((document.content, False) for document in instruction.documents if document.expand)
            texts = (*instruction.sources, instruction.destination, instruction.chown, instruction.chmod)
            texts = (*texts, *instruction.excludes)
        case Workdir(path=text) | User(user=text) | StopSignal(signal=text):
            texts = (text,)
        case Expose(ports=texts) | Volume(paths=texts):
            pass
    yield from ((text, True) for text in texts)


def _ignored_sources(tree: Dockerfile, ignored: Matcher) -> Iterator[Finding]:
    """COPY of what .dockerignore keeps away; with a `!` in it the warning could be wrong, and is not given."""
    if not ignored or any(text.startswith("!") for text in ignored.texts):
        return
    for _, instruction in _all(tree):
        if not isinstance(instruction, Copy) or instruction.from_:
            continue
        for written in instruction.sources:
            if "$" in written or re.match(r"[a-z+]+://|git@", written):
                continue
            path = posixpath.normpath(written).lstrip("/") or "."
            whole = path == "." and any(text in _EVERYTHING for text in ignored.texts)
            if whole or (path != "." and ignored.excludes(path)):
                verb = "Add" if instruction.add else "Copy"
                message = f'Attempting to {verb} file "{path}" that is excluded by .dockerignore'
                yield Finding(instruction.source.start, "CopyIgnoredFile", message)


_OF_A_FILE: tuple[Callable[[Dockerfile], Iterator[Finding]], ...] = (
    _casing,
    _stage_names,
    _platforms,
    _arguments_of_from,
    _once,
    _instructions,
    _descriptions,
)


def _all(tree: Dockerfile) -> Iterator[tuple[Source, Instruction]]:
    for stage in tree.stages:
        yield from ((instruction.source, instruction) for instruction in stage.instructions)


def _sources(stage: Stage) -> Iterator[Source]:
    return (instruction.source for instruction in stage.instructions)


def _rest(source: Source) -> str:
    return source.text.split(None, 1)[1]


def _expanded(
    tree: Dockerfile, text: str, variables: Mapping[str, str], *, quotes: bool = True
) -> words.Expanded | None:
    try:
        return words.expand(text, variables, words.Rules(escape=tree.escape, quotes=quotes))
    except ValueError:
        return None  # the plan tells it, with its line


def _is_reference(text: str) -> bool:
    try:
        Reference.parse(text)
    except GlassdockError:
        return False
    return True


def _near(name: str, choices: set[str], mark: str) -> str:
    hint = flags.nearest(name, choices)
    return f" ({hint.replace('mean ', f'mean {mark}')})" if hint else ""
