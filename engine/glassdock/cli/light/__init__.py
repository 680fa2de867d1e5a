"""Stand-ins for modules that are slow to import, for a process whose whole life is shorter than their import.

Interface:
- `install()`: from here on `import msgspec`, `enum`, `typing`, ... in this process give the light ones of this folder.
- `full(name)`: the real module all the same, with all that it needs.

Rules: only `glassdock-runtime` installs them, before it imports anything else. A stand-in does what the engine's own
modules use of the original, in the same words; tests/cli/test_light.py compares the two. What it lacks, and what is
rarely used (`re`, `subprocess`), is the original's, imported at its first use: that costs time, and nothing else.

Source: decision 0110.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

Module: Any = type(sys)
_LATE = "datetime fnmatch gzip hashlib json pathlib pwd pyseccomp re selectors shutil subprocess tempfile".split()
_ours: dict[str, ModuleType] = {}
_real: dict[str, ModuleType] = {}


class Late(Module):  # type: ignore[misc]
    """A module of which the original is imported when something is asked for that is not here."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(full(self.__name__), name)


class LateValue:
    """What a call of an original gives, made when it is used: a pattern that is compiled when something is matched."""

    def __init__(self, module: str, name: str, *given: Any) -> None:
        self._late = (module, name, given)

    def __getattr__(self, name: str) -> Any:
        module, function, given = self._late
        return getattr(getattr(full(module), function)(*given), name)


class LateClass:
    """A class of an original, which is imported when a value of it is made."""

    def __init__(self, module: str, name: str) -> None:
        self._late = (module, name)

    def __call__(self, *given: Any, **named: Any) -> Any:
        """A value of the original."""
        return getattr(full(self._late[0]), self._late[1])(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(full(self._late[0]), self._late[1]), name)


def install() -> None:
    """Put the stand-ins where `import` looks first; what is imported already stays."""
    if _ours:
        return
    from glassdock.cli.light import language, sockets, values

    made = {**language.modules(), **sockets.modules(), **values.modules()}
    made |= {name: Late(name) for name in _LATE}
    made["re"].__dict__["compile"] = lambda *given: LateValue("re", "compile", *given)
    made["pathlib"].__dict__["Path"] = LateClass("pathlib", "Path")
    for name, module in made.items():
        if name not in sys.modules:
            _ours[name] = sys.modules[name] = module


def full(name: str) -> ModuleType:
    """The real module. While it is imported, so that what it imports is real too, the stand-ins are put aside."""
    if name not in _real:
        for other in _ours:
            sys.modules.pop(other, None)
        sys.modules.update(_real)
        try:
            __import__(name)
            _real[name] = sys.modules[name]
        finally:
            for other in _ours:
                if other in sys.modules:
                    _real[other] = sys.modules[other]
            sys.modules.update(_ours)
    return _real[name]


def module(name: str, members: dict[str, Any]) -> ModuleType:
    """A stand-in with these members; what else is asked for comes from the original."""
    made = Late(name)
    made.__dict__.update(members)
    return made
