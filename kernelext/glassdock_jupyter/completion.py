"""Completion in magics: verbs, flags, live containers, images, networks and volumes, Dockerfile instructions.

Interface:
- `Matcher(magics).match(context)`: for `IPCompleter.custom_matchers`.

Rules: in a line of ours Python's names are suppressed. The engine is asked only if it runs; completion never starts
one, and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext

    from glassdock_jupyter.magics import GlassdockMagics

_LINE = re.compile(
    r"^\s*(?:[\w.,\s]+=\s*)?%{1,2}(container|image|network|volume|engine|registry|docker|xray|dockerfile)\s+(.*)$"
)
_INSTRUCTIONS = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "ONBUILD", "RUN"),
    *("SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
_GROUPS = ("container", "image", "network", "volume", "engine")
_OF_IMAGES = {"run", "create", "pull", "push", "history", "layers", "rmi", "tag", "images"}


class Matcher:
    """The completions of one shell's magics."""

    def __init__(self, magics: GlassdockMagics) -> None:
        self.magics = magics

    @context_matcher()  # type: ignore[untyped-decorator]
    def match(self, context: CompletionContext) -> Any:
        """IPython's question."""
        before = context.text_until_cursor
        fragment = re.split(r"\s", before)[-1]
        found: Iterable[str] | None = None
        line = _LINE.match(before)
        if line:
            found = self._words(line[1], line[2].split()[: -1 if fragment else None], fragment)
        elif context.full_text.lstrip().startswith("%%dockerfile") and context.cursor_line > 0:
            found = self._dockerfile(before)
        if found is None:
            return {"completions": [], "suppress": False}
        # Nothing to offer must offer something all the same: IPython heeds "suppress" only with a completion, and
        # would fill the menu with Python's names. What is there already changes nothing.
        names = sorted({name for name in found if name.startswith(fragment)}) or [fragment]
        return {
            "completions": [SimpleCompletion(name, type="glassdock") for name in names],
            "suppress": True,
            "matched_fragment": fragment,
        }

    def _words(self, magic: str, words: list[str], fragment: str) -> Iterable[str]:
        """What may come after `words` of a magic."""
        import click

        from glassdock.cli.main import glassdock

        path = {"dockerfile": ["image", "build"], "docker": []}.get(magic, [magic])
        if magic == "xray":
            return self._names("container")
        command: click.Command | None = glassdock
        for word in [*path, *words]:
            if not isinstance(command, click.Group) or word.startswith("-"):
                break
            path, command = [*path, word], command.get_command(click.Context(command), word)
        if command is None:
            return ()
        if isinstance(command, click.Group):
            return command.list_commands(click.Context(command))
        if fragment.startswith("-"):
            return [name for param in command.params if isinstance(param, click.Option) for name in param.opts]
        if words and words[-1] in ("--network", "--net"):
            return self._names("network")
        if words and words[-1] in ("-v", "--volume"):
            return [f"{name}:" for name in self._names("volume")]
        if magic == "dockerfile" or command.name in ("build", "info", "version", "status", "doctor"):
            return ()
        of_image = path[:1] == ["image"] or command.name in _OF_IMAGES
        return self._names(path[0] if path[0] in ("network", "volume") else "image" if of_image else "container")

    def _dockerfile(self, before: str) -> Iterable[str] | None:
        words = before.split()
        if not before.strip() or (len(words) == 1 and not before[-1].isspace()):
            return _INSTRUCTIONS
        if words[0].upper() == "FROM":
            return self._names("image")
        return None

    def _names(self, kind: str) -> list[str]:
        """The names of the engine's objects now; none where it does not run."""
        from glassdock import errors, paths
        from glassdock.client import containers, images, system, volumes, wire

        session = self.magics.session
        try:
            if session.host is None and not wire.ping(paths.socket_path(), timeout=0.2):
                return []
            if kind == "container":
                rows = containers.List(all=True).do(session).rows
                return [name.lstrip("/") for row in rows for name in row.get("Names") or ()]
            if kind == "network":
                return [str(row["Name"]) for row in system.Networks().do(session).rows]
            if kind == "volume":
                return [str(row["Name"]) for row in volumes.List().do(session).rows]
            tags = [tag for row in images.List().do(session).rows for tag in row.get("RepoTags") or ()]
            return [*tags, *(tag.removesuffix(":latest") for tag in tags)]
        except errors.GlassdockError:
            return []
