"""The magics: a line of a notebook, parsed by the command line's own commands and done by the client's verbs.

Interface:
- `register(shell)`, `unregister(shell)`.
- `%container`, `%image`, `%network`, `%volume`, `%engine`, `%registry`, `%docker`, `%xray`, `%%dockerfile`,
  `%exercise`, `%source`.

Rules: no magic prints what it returns; a cell that ends in one shows it. Words are split as a shell does, `{name}` is
a Python variable (see `words.py`). Errors are cards (`cards.py`). What this kernel starts carries the label
`glassdock.session`, so that it can be found again.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import Unicode

from glassdock_jupyter.cards import card, carded

if TYPE_CHECKING:
    from glassdock.client.session import Session

LABEL = "glassdock.session"
_HELP = ("-h", "--help")


@magics_class
class GlassdockMagics(Magics):
    """The engine's verbs in a notebook. `%config GlassdockMagics` shows and sets what can be chosen."""

    host = Unicode("", help="The engine's address; empty: $GLASSDOCK_HOST or the user's own engine.").tag(config=True)

    def __init__(self, shell: Any, **kwargs: Any) -> None:
        super().__init__(shell, **kwargs)
        self._session: Session | None = None
        self._last: Any = None

    @property
    def session(self) -> Session:
        """This kernel's connection, made when it is first needed; another `host` makes another."""
        from glassdock.client.session import Session

        host = self.host or None
        if self._session is None or self._session.host != host:
            self.close()
            self._session = Session(host, labels={LABEL: session_id()}, stdin=None)
        return self._session

    def close(self) -> None:
        """Give the connection back."""
        if self._session is not None:
            self._session.close()
            self._session = None

    @no_var_expand
    @line_cell_magic
    def container(self, line: str, cell: str | None = None) -> Any:
        """Containers: run, exec, ps, logs, stop, kill, rm, wait, inspect, start, attach, create, restart, pause,
        unpause, update, stats, rename, top, port, diff, export, prune.

            %container run [OPTIONS] IMAGE [COMMAND] [ARG...]
            c = %container run -d --name web IMAGE

        As a cell magic, `%%container run -i IMAGE sh` gives the cell's text to the container as its input.
        Everything after the image belongs to the container. `{name}` is a Python variable.
        The result is an object: c.exit_code, c.stdout, c.logs(), c.exec('ps'), c.stop(), c.rm(), c.trace().

        `%container VERB --help` shows a verb's options.
        """
        return self._do("container", line, stdin=cell)

    @no_var_expand
    @line_magic
    def image(self, line: str) -> Any:
        """Images: ls, pull, push, build, history, layers, tag, rm, inspect.

            %image pull busybox
            %image layers busybox

        `%image VERB --help` shows a verb's options; `%%dockerfile` builds one from a cell.
        """
        return self._do("image", line)

    @no_var_expand
    @line_magic
    def network(self, line: str) -> Any:
        """Networks: ls, inspect.

        `%network VERB --help` shows a verb's options.
        """
        return self._do("network", line)

    @no_var_expand
    @line_magic
    def volume(self, line: str) -> Any:
        """Volumes: create, ls, inspect, rm, prune.

        `%volume VERB --help` shows a verb's options.
        """
        return self._do("volume", line)

    @no_var_expand
    @line_magic
    def engine(self, line: str) -> Any:
        """The engine and this machine: status, doctor.

        %engine status
        %engine doctor
        """
        return self._do("engine", line)

    @no_var_expand
    @line_magic
    def registry(self, line: str) -> Any:
        """The course registry: its address and what it keeps.

        `%registry --help` shows the options.
        """
        return self._do("registry", line)

    @no_var_expand
    @line_magic
    def docker(self, line: str) -> Any:
        """A whole docker command line: `%docker run --rm busybox echo hi`.

        The verbs and flags of docker; `%docker --help` lists them.
        """
        return self._do("", line)

    @no_var_expand
    @line_magic
    def xray(self, line: str) -> Any:
        """The recording of a run, from this client to the program's exec: `%xray NAME`, `%xray {c}`.

        Without a name: the last run of this notebook.
        """
        with carded():
            words = self._words(line)
            if _asks_help(words):
                return _Help(str(GlassdockMagics.xray.__doc__))
            return self._recording(words)

    @no_var_expand
    @line_cell_magic
    def dockerfile(self, line: str, cell: str | None = None) -> Any:
        """Build an image from the cell.

            %%dockerfile -t NAME [--build-arg KEY=VALUE] [--target STAGE] [--context DIR]

        The cell is the Dockerfile, as it stands. The context is empty unless --context names a folder.
        The result is an object: image.layers(), image.history(), image.push().

        `%dockerfile --help` shows all options.
        """
        with carded():
            words = self._words(line)
            if cell is None and not _asks_help(words):
                from glassdock.errors import InvalidParameter

                raise InvalidParameter("%dockerfile needs a cell", "Write %%dockerfile -t NAME, then the Dockerfile.")
            return self._perform(["image", "build", *words], text=cell or "")

    @no_var_expand
    @line_magic
    def exercise(self, line: str) -> Any:
        """The course's exercises: the map, or `%exercise NAME [--check | --hint | --reset | --solution]`."""
        from glassdock_jupyter.exercises import exercise_command

        return self._own(exercise_command, line)

    @no_var_expand
    @line_magic
    def source(self, line: str) -> Any:
        """The engine's own code, live: `%source runtime.launch`."""
        from glassdock_jupyter.source import source_command

        return self._own(source_command, line)

    def _do(self, group: str, line: str, stdin: str | None = None) -> Any:
        with carded():
            words = self._words(line)
            if group == "registry" and words == ["ls"]:
                words = []
            return self._perform([group, *words] if group else words, stdin=stdin)

    def _own(self, command: Any, line: str) -> Any:
        """A command that does its own work and returns what to show."""
        with carded():
            words = self._words(line)
            if _asks_help(words):
                return _Help(command.get_help(command.make_context(command.name, [], resilient_parsing=True)))
            return command.main(words, prog_name=command.name, standalone_mode=False)

    def _words(self, line: str) -> list[str]:
        from glassdock_jupyter.words import split

        assert self.shell is not None
        return split(line, self.shell.user_ns)

    def _perform(self, words: Sequence[str], *, text: str | None = None, stdin: str | None = None) -> Any:
        """Parse the words, do the verb, and give the object for what it returned."""
        from glassdock.cli.call import Call
        from glassdock.cli.main import parse
        from glassdock.errors import Unavailable

        call = parse(words, text=text)
        if not isinstance(call, Call):
            return None
        from glassdock_jupyter.doing import prepared
        from glassdock_jupyter.objects import present
        from glassdock_jupyter.output import Cell

        session, cell = self.session, Cell()
        verb = prepared(call.verb, stdin)
        session.output = cell
        name = ""
        try:
            result = verb.do(session)
        except Unavailable:
            self.close()  # the engine is gone: the next command looks for it anew, and starts it where it is ours
            raise
        else:
            name = str(getattr(result, "name", "") or getattr(result, "id", ""))
        finally:
            cell.finish(name)
        if call.plain:
            call.show(result)
            return None
        shown = present(verb, result, session, cell)
        if hasattr(shown, "trace"):
            self._last = shown
        return shown

    def _recording(self, words: Sequence[str]) -> Any:
        from glassdock.client.containers import trace_of
        from glassdock.errors import InvalidParameter
        from glassdock_jupyter.pictures.recorder import RunRecorder

        if len(words) > 1:
            raise InvalidParameter("%xray takes one container", "%xray NAME, or nothing for the last run.")
        last = self._last
        if last is not None and (not words or words[0] in (str(last), last.id, last.name)):
            return last.trace()
        if not words:
            raise InvalidParameter("nothing was run in this notebook yet", "%container run IMAGE, then %xray.")
        return RunRecorder.of(words[0], (), trace_of(self.session, words[0]))


class _Help(str):
    """A help text as a cell's result: shown as it is, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return inspect.cleandoc(self)


def session_id() -> str:
    """This kernel's name on what it starts: from its connection file, so a restarted kernel has another."""
    if "GLASSDOCK_SESSION" in os.environ:
        return os.environ["GLASSDOCK_SESSION"]
    try:
        from ipykernel.connect import get_connection_file

        return Path(get_connection_file()).stem.removeprefix("kernel-")
    except (ImportError, RuntimeError):
        return f"pid-{os.getpid()}"


def register(shell: Any) -> None:
    """Add the magics and their completion to a shell."""
    from glassdock_jupyter.completion import Matcher

    magics = GlassdockMagics(shell)
    shell.register_magics(magics)
    shell.Completer.custom_matchers.append(Matcher(magics).match)


def unregister(shell: Any) -> None:
    """Undo `register`."""
    registry = shell.magics_manager.registry
    magics = registry.pop("GlassdockMagics", None)
    if magics is None:
        return
    for kind, names in magics.magics.items():
        for name, function in names.items():
            if shell.magics_manager.magics[kind].get(name) == _bound(magics, function):
                del shell.magics_manager.magics[kind][name]
    matchers = shell.Completer.custom_matchers
    matchers[:] = [m for m in matchers if getattr(getattr(m, "__self__", None), "magics", None) is not magics]
    shell.configurables[:] = [item for item in shell.configurables if item is not magics]
    magics.close()


def _bound(magics: Magics, function: Any) -> Callable[..., Any]:
    return getattr(magics, function) if isinstance(function, str) else function  # type: ignore[no-any-return]


def _asks_help(words: Sequence[str]) -> bool:
    return len(words) == 1 and words[0] in _HELP


__all__ = ["LABEL", "GlassdockMagics", "card", "register", "session_id", "unregister"]
