"""What variables mean: the arguments before the first FROM, and the environment and arguments of a stage.

Interface:
- `GlobalScope.of(tree, options)`: ARGs before FROM, platform arguments, `--build-arg`.
- `StageScope`: a stage's config as it grows; `expand(text)`, `declare(arg)`, `set_env(pairs)`.

Rules: ENV wins over ARG of the same name. An ARG without a value takes `--build-arg`, else the global one. A stage that
begins with another stage inherits its arguments. Proxy arguments need no declaration, and are kept out of the history.
Source: https://docs.docker.com/reference/dockerfile/#arg
"""

from __future__ import annotations

import platform
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from glassdock.build import words
from glassdock.build.dockerfile import Dockerfile
from glassdock.build.instructions import Arg, Pair
from glassdock.build.options import BuildOptions
from glassdock.oci.image import ContainerConfig, ImageConfig

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PROXIES = frozenset([*_PROXIES, *(name.lower() for name in _PROXIES)])
PLATFORM_ARGUMENTS = frozenset(
    f"{prefix}{part}" for prefix in ("BUILD", "TARGET") for part in ("PLATFORM", "OS", "ARCH", "VARIANT")
)
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def architecture() -> str:
    """This machine's architecture in Docker's words."""
    return _MACHINES.get(platform.machine(), platform.machine())


def _platform_arguments(wanted: str) -> dict[str, str]:
    here = f"linux/{architecture()}"
    values: dict[str, str] = {}
    for prefix, text in (("BUILD", here), ("TARGET", wanted or here)):
        system, _, rest = text.partition("/")
        machine, _, variant = rest.partition("/")
        values |= {f"{prefix}PLATFORM": text, f"{prefix}OS": system, f"{prefix}ARCH": machine}
        values[f"{prefix}VARIANT"] = variant
    return values


@dataclass(slots=True)
class GlobalScope:
    """The variables of FROM lines, and what stages may ask for. `consumed` collects the build arguments in use."""

    escape: str
    given: Mapping[str, str]
    values: dict[str, str]
    consumed: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, tree: Dockerfile, options: BuildOptions) -> GlobalScope:
        """The scope before the first FROM; raises ValueError for a bad substitution."""
        given = {name: value for name, value in options.build_args.items() if value is not None}
        scope = cls(tree.escape, given, _platform_arguments(options.platform))
        for name in scope.values.keys() & given:
            scope.values[name] = scope.argument(name, None) or ""
        for argument in tree.arguments:
            for name, default in argument.names:
                value = scope.argument(name, None if default is None else scope.expand(default))
                if value is not None:
                    scope.values[name] = value
        return scope

    def expand(self, text: str) -> str:
        """Replace the variables of a FROM line."""
        return words.expand(text, self.values, words.Rules(escape=self.escape)).text

    def argument(self, name: str, default: str | None) -> str | None:
        """The value of an argument: `--build-arg` wins."""
        if name in self.given:
            self.consumed.add(name)
            return self.given[name]
        return default


@dataclass(slots=True)
class StageScope:
    """A stage while it is planned: the config so far, and what `$name` means."""

    outer: GlobalScope
    config: ContainerConfig
    author: str = ""
    arguments: dict[str, str | None] = field(default_factory=dict)
    has_cmd: bool = False

    @classmethod
    def from_image(cls, outer: GlobalScope, image: ImageConfig | None) -> StageScope:
        """The beginning of a stage on an image, or on nothing."""
        if image is None:
            return cls(outer, ContainerConfig(env=(f"PATH={DEFAULT_PATH}",)))
        return cls(outer, image.config, image.author)

    def child(self) -> StageScope:
        """The beginning of a stage on this one."""
        return replace(self, arguments=dict(self.arguments), has_cmd=False)

    @property
    def environment(self) -> dict[str, str]:
        """The image's environment."""
        parts = [item.partition("=") for item in self.config.env or ()]
        return {name: value for name, _, value in parts}

    def variables(self) -> Mapping[str, str]:
        """What `$name` means here."""
        arguments = {name: value for name, value in self.arguments.items() if value is not None}
        return ChainMap(self.environment, arguments, {"PATH": DEFAULT_PATH})

    def expand(self, text: str) -> str:
        """Replace variables and remove quotes; raises ValueError."""
        return words.expand(text, self.variables(), words.Rules(escape=self.outer.escape)).text

    def expand_words(self, text: str) -> tuple[str, ...]:
        """Replace variables, then split at spaces outside quotes."""
        return words.expand(text, self.variables(), words.Rules(escape=self.outer.escape)).words

    def change(self, **fields: object) -> None:
        """Set members of the config."""
        self.config = msgspec.structs.replace(self.config, **fields)

    def set_env(self, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        """ENV: all values are expanded with what was there before the instruction."""
        expanded = tuple(Pair(self.expand(pair.name), self.expand(pair.value)) for pair in pairs)
        environment = self.environment | {pair.name: pair.value for pair in expanded}
        self.change(env=tuple(f"{name}={value}" for name, value in environment.items()))
        return expanded

    def declare(self, argument: Arg) -> tuple[tuple[str, str | None], ...]:
        """ARG: each name with its value, None where nobody gave one."""
        declared: list[tuple[str, str | None]] = []
        for name, default in argument.names:
            if name in self.outer.given or default is None:
                value = self.outer.argument(name, self.outer.values.get(name))
            else:
                value = self.expand(default)
            self.arguments[name] = value
            declared.append((name, value))
        return tuple(declared)

    def run_environment(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """For RUN: its environment, the declared arguments as `NAME=value` for the history, and the hidden proxies."""
        environment = self.environment
        arguments = {
            name: environment.get(name, value) for name, value in self.arguments.items() if name not in PROXIES
        }
        shown = tuple(f"{name}={value or ''}" for name, value in arguments.items())
        own = {name: value for name, value in arguments.items() if value is not None and name not in environment}
        added = tuple(f"{name}={value}" for name, value in own.items())
        proxies = {name: value for name, value in self.outer.given.items() if name in PROXIES}
        self.outer.consumed.update(proxies)
        hidden = tuple(f"{name}={value}" for name, value in proxies.items() if name not in environment)
        return (*(self.config.env or ()), *added), shown, hidden
