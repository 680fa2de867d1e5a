"""From an instruction to a step: what it does to the image's config, and what it does to the files.

Interface:
- `place(scope, instruction, origins, network)`: the step; the scope moves on.
- `unsupported(instruction)`: why the instruction cannot be carried out yet, or "".

Rules: the texts for the image's history are written for people who read `docker history`: the instruction with its
variables replaced, RUN with its shell and its arguments as Docker writes them (decision 0050).
Source: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import functools
import json
import posixpath
import re
import shlex
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from glassdock.build import mounts, remote, words
from glassdock.build.instructions import (
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    Source,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from glassdock.build.lines import heredoc
from glassdock.build.scope import DEFAULT_SHELL, StageScope
from glassdock.build.work import CopyWork, DirectoryWork, MountWork, RunWork, Step, Work

_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(\w+))?")
_PROTOCOLS = ("tcp", "udp", "sctp")

Placed = tuple[str, Work | None]  # the history's text, and the work


def place(
    scope: StageScope,
    instruction: Instruction,
    *,
    origins: Mapping[str, int | str | None],
    network: str,
    trigger: bool,
) -> Step:
    """The step of an instruction; `scope` is afterwards what it left. Raises ValueError for what makes no sense.

    `origins` says what each name after `from=` means: a stage's index, or an image's name.
    """
    placer = _PLACERS[type(instruction)]
    created_by, work = placer(scope, instruction, {"origins": origins, "network": network})
    return Step(instruction.source, created_by, scope.config, scope.author, work, trigger)


def unsupported(instruction: Instruction) -> str:
    """What of the instruction the builder does not do yet, "" where it does all."""
    if isinstance(instruction, Run):
        if instruction.security == "insecure":
            return "RUN --security=insecure"
        if instruction.devices:
            return "RUN --device"
    return ""


def label_step(scope: StageScope, labels: Mapping[str, str], source: Source) -> Step:
    """The step that `--label` adds at the end."""
    scope.change(labels={**(scope.config.labels or {}), **labels})
    text = "LABEL " + " ".join(f"{name}={value}" for name, value in labels.items())
    return Step(replace(source, keyword="LABEL", text=text), text, scope.config, scope.author)


def _shell_words(scope: StageScope, command: Command, text: str | None = None) -> tuple[str, ...]:
    if not command.shell:
        return command.words
    return (*(scope.config.shell or DEFAULT_SHELL), text if text is not None else command.words[0])


def _run(scope: StageScope, run: Run, more: dict[str, Any]) -> Placed:
    text = None
    found = [
        mounts.read(
            mount, scope.expand, functools.partial(_absolute, scope), more["origins"].get(mount.fields.get("from"))
        )
        for mount in run.mounts
    ]
    argv: tuple[str, ...] = ()
    if run.heredocs and run.command.shell:
        line = run.command.words[0]
        document = run.heredocs[0]
        if not heredoc(line):
            text = line + "".join(f"\n{document.body}{document.name}" for document in run.heredocs)
        elif document.content.startswith("#!"):
            argv = (mounts.PIPES + document.name,)  # the document names its own interpreter
            found.append(MountWork("document", argv[0], content=document.content.encode()))
        else:
            text = document.content  # `RUN <<EOF` alone: the document is the script
    argv = argv or _shell_words(scope, run.command, text)
    env, shown, hidden = scope.run_environment()
    network = {"": more["network"], "default": more["network"]}.get(run.network, run.network)
    work = RunWork(argv, env, scope.config.working_dir or "/", scope.config.user, network, hidden, tuple(found))
    arguments = [f"|{len(shown)}", *shown] if shown else []
    return " ".join(["RUN", *arguments, *argv]), work


def _copy(scope: StageScope, copy: Copy, more: dict[str, Any]) -> Placed:
    sources = tuple(scope.expand(source) for source in copy.sources)
    destination = scope.expand(copy.destination)
    chown, chmod = scope.expand(copy.chown), scope.expand(copy.chmod)
    if len(sources) + len(copy.documents) > 1 and not destination.endswith("/") and destination not in (".", ".."):
        keyword = copy.source.keyword
        raise ValueError(
            f"When using {keyword} with more than one source file, the destination must be a directory and end with a /"
        )
    documents = tuple((document.name, _document(scope, document)) for document in copy.documents)
    unpack = copy.unpack if copy.unpack is not None else copy.add
    remotes = _remotes(scope, copy, sources)
    local = tuple(source for source in sources if not (copy.add and remote.is_remote(source)))
    work = CopyWork(
        more["origins"].get(copy.from_), local, documents, _absolute(scope, destination), chown, chmod,
        tuple(scope.expand(pattern) for pattern in copy.excludes), unpack, copy.parents, copy.link,
        remotes=remotes, unpack_remotes=copy.unpack is True,
    )  # fmt: skip
    flags = [f"--{name}={value}" for name, value in (("from", copy.from_), ("chown", chown), ("chmod", chmod)) if value]
    names = [*sources, *(f"<<{name}" for name, _ in documents), destination]
    return " ".join([copy.source.keyword, *flags, *names]), work


def _remotes(scope: StageScope, copy: Copy, sources: tuple[str, ...]) -> tuple[remote.Remote, ...]:
    """The sources of an ADD that have to be fetched; raises ValueError where a flag does not go with them."""
    far = [source for source in sources if remote.is_remote(source)]
    if far and not copy.add:
        raise ValueError(f"source can't be a URL for {copy.source.keyword}")
    checksum = scope.expand(copy.checksum)
    if checksum and len(sources) + len(copy.documents) != 1:
        raise ValueError("checksum can't be specified for multiple sources")
    if checksum and not far:
        raise ValueError("checksum can't be specified for non-HTTP(S) and non-Git sources")
    keep = copy.keep_git_dir is True
    return tuple(remote.check(remote.Remote(source, checksum, keep and remote.is_git(source))) for source in far)


def _document(scope: StageScope, document: Any) -> bytes:
    content: str = document.content
    if document.expand:
        content = words.expand(content, scope.variables(), words.HEREDOC).text
    return content.encode()


def _absolute(scope: StageScope, path: str) -> str:
    """`path` from the working directory, cleaned; a trailing slash (or a dot) keeps meaning "a directory"."""
    joined = posixpath.join(scope.config.working_dir or "/", path)
    is_directory = joined.endswith(("/", "/.", "/..")) or path in ("", ".", "..")
    cleaned = "/" + posixpath.normpath("/" + joined).lstrip("/")
    return cleaned + "/" if is_directory and cleaned != "/" else cleaned


def _workdir(scope: StageScope, workdir: Workdir, _: dict[str, Any]) -> Placed:
    path = _absolute(scope, scope.expand(workdir.path)).rstrip("/") or "/"
    scope.change(working_dir=path)
    return f"WORKDIR {path}", DirectoryWork(path, scope.config.user) if path != "/" else None


def _env(scope: StageScope, env: Env, _: dict[str, Any]) -> Placed:
    pairs = scope.set_env(env.pairs)
    return "ENV " + " ".join(f"{pair.name}={_quoted(pair.value)}" for pair in pairs), None


def _label(scope: StageScope, label: Label, _: dict[str, Any]) -> Placed:
    pairs = {scope.expand(pair.name): scope.expand(pair.value) for pair in label.pairs}
    scope.change(labels={**(scope.config.labels or {}), **pairs})
    return "LABEL " + " ".join(f"{name}={_quoted(value)}" for name, value in pairs.items()), None


def _quoted(value: str) -> str:
    """Quoted where it would not be one word."""
    return shlex.quote(value) if re.search(r"\s", value) else value


def _arg(scope: StageScope, arg: Arg, _: dict[str, Any]) -> Placed:
    declared = scope.declare(arg)
    return "ARG " + " ".join(name if value is None else f"{name}={value}" for name, value in declared), None


def _user(scope: StageScope, user: User, _: dict[str, Any]) -> Placed:
    scope.change(user=scope.expand(user.user))
    return f"USER {scope.config.user}", None


def _cmd(scope: StageScope, cmd: Cmd, _: dict[str, Any]) -> Placed:
    argv = _shell_words(scope, cmd.command) if cmd.command.words != ("",) else ()
    scope.change(cmd=argv)
    scope.has_cmd = True
    return f"CMD {json.dumps(argv)}", None


def _entrypoint(scope: StageScope, entrypoint: Entrypoint, _: dict[str, Any]) -> Placed:
    argv = _shell_words(scope, entrypoint.command) if entrypoint.command.words != ("",) else ()
    scope.change(entrypoint=argv or None)
    if not scope.has_cmd:
        scope.change(cmd=None)  # the base image's command was meant for its own entry point
    return f"ENTRYPOINT {json.dumps(argv)}", None


def _expose(scope: StageScope, expose: Expose, _: dict[str, Any]) -> Placed:
    ports = [port for text in expose.ports for word in scope.expand_words(text) for port in _ports(word)]
    scope.change(exposed_ports={**(scope.config.exposed_ports or {}), **{port: {} for port in ports}})
    return "EXPOSE " + " ".join(ports), None


def _ports(text: str) -> list[str]:
    found = _PORT.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    protocol = (found[3] or "tcp").lower() if found else ""
    if not found or not 0 < first <= last < 65536:
        raise ValueError(f"invalid containerPort: {text}")
    if protocol not in _PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _volume(scope: StageScope, volume: Volume, _: dict[str, Any]) -> Placed:
    paths = [scope.expand(path) for path in volume.paths]
    if not all(paths):
        raise ValueError("VOLUME specified can not be an empty string")
    scope.change(volumes={**(scope.config.volumes or {}), **{path: {} for path in paths}})
    return f"VOLUME {json.dumps(paths)}", None


def _stop_signal(scope: StageScope, stop: StopSignal, _: dict[str, Any]) -> Placed:
    name = scope.expand(stop.signal)
    known = {entry.name.removeprefix("SIG") for entry in signal.Signals} | {"RTMIN", "RTMAX"}
    plain = name.upper().removeprefix("SIG")
    if not (name.isdigit() and 0 < int(name) < 65) and re.split(r"[+-]", plain)[0] not in known:
        raise ValueError(f"invalid signal: {name}")
    scope.change(stop_signal=name)
    return f"STOPSIGNAL {name}", None


def _shell(scope: StageScope, shell: Shell, _: dict[str, Any]) -> Placed:
    scope.change(shell=shell.words)
    return f"SHELL {json.dumps(shell.words)}", None


def _healthcheck(scope: StageScope, health: HealthCheck, _: dict[str, Any]) -> Placed:
    scope.change(healthcheck=health.check)
    return health.source.text, None


def _maintainer(scope: StageScope, maintainer: Maintainer, _: dict[str, Any]) -> Placed:
    scope.author = maintainer.author
    return f"MAINTAINER {maintainer.author}", None


def _onbuild(scope: StageScope, onbuild: OnBuild, _: dict[str, Any]) -> Placed:
    scope.change(on_build=(*(scope.config.on_build or ()), onbuild.expression))
    return f"ONBUILD {onbuild.expression}", None


_PLACERS: Mapping[type, Callable[[StageScope, Any, dict[str, Any]], Placed]] = {
    Arg: _arg,
    Cmd: _cmd,
    Copy: _copy,
    Entrypoint: _entrypoint,
    Env: _env,
    Expose: _expose,
    HealthCheck: _healthcheck,
    Label: _label,
    Maintainer: _maintainer,
    OnBuild: _onbuild,
    Run: _run,
    Shell: _shell,
    StopSignal: _stop_signal,
    User: _user,
    Volume: _volume,
    Workdir: _workdir,
}
