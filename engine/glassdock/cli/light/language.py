"""Light `typing`, `enum`, `dataclasses`, `functools`, `contextlib`, `platform`: what the engine uses of them.

Interface: `modules()`: the stand-ins by name.

Rules: nothing is compiled when a class is made: a dataclass has one `__init__` for all classes, a flag is an int with
a name. What the originals check, these leave to the tests that run with the originals.
"""

from __future__ import annotations

import _collections_abc
import _functools  # type: ignore[import-not-found]
import os

from glassdock.cli.light import module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any, TypeVar

    T = TypeVar("T")


def modules() -> dict[str, ModuleType]:
    """The stand-ins by name."""
    collections = module("collections", {"__path__": [], "abc": _collections_abc})
    return {
        "typing": module("typing", {**_TYPING, "cast": lambda _, value: value}),
        "enum": module("enum", {"IntFlag": IntFlag, "IntEnum": IntEnum}),
        "dataclasses": module("dataclasses", {"dataclass": dataclass, "field": field, "replace": replace}),
        "functools": module("functools", _FUNCTOOLS),
        "contextlib": module("contextlib", _CONTEXTLIB),
        "collections": collections,
        "platform": module("platform", {"machine": lambda: os.uname().machine}),
        "collections.abc": _collections_abc,
    }


class Special:
    """A word of `typing`'s: only annotations use it, and nobody reads them."""


class _Subscript:
    def __getitem__(self, _: object) -> _Subscript:
        return self


_TYPING: dict[str, Any] = {
    "TYPE_CHECKING": False,
    "Any": Special,
    "NoReturn": None,
    "TypeAlias": Special,
    "Protocol": Special,
    "ClassVar": _Subscript(),
    "runtime_checkable": lambda kind: kind,
}


class _Members(type):
    """The class of enumerations: integers in the class' body become its members."""

    _members: dict[str, Any]

    def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> Any:
        made: Any = super().__new__(cls, name, bases, space)
        made._members = members = {}
        for word, value in space.items():
            if type(value) is int and word[0] != "_":
                member = int.__new__(made, value)
                members[word] = member
                setattr(made, word, member)
        return made

    def __getitem__(cls, name: str) -> Any:
        return cls._members[name]

    def __iter__(cls) -> Iterator[Any]:
        return iter(cls._members.values())

    @property
    def __members__(cls) -> dict[str, Any]:
        return cls._members


class IntEnum(int, metaclass=_Members):
    """A number with a name."""

    @property
    def name(self) -> str:
        """Its word; those of all of its bits, where it has none."""
        words = [word for word, member in type(self)._members.items() if member == self]
        return words[0] if words else "|".join(word for word, member in type(self)._members.items() if member & self)

    @property
    def value(self) -> int:
        """The number."""
        return int(self)


class IntFlag(IntEnum):
    """Bits with names; what is put together of them is one of them."""

    def __or__(self, other: int) -> Any:
        return type(self)(int(self) | int(other))

    def __and__(self, other: int) -> Any:
        return type(self)(int(self) & int(other))

    def __xor__(self, other: int) -> Any:
        return type(self)(int(self) ^ int(other))

    def __invert__(self) -> Any:
        return type(self)(~int(self))

    __ror__, __rand__ = __or__, __and__


class Field:
    """A default that is made anew for each value."""

    def __init__(self, *, default: Any = None, default_factory: Any = None) -> None:
        self.default, self.factory = default, default_factory


field = Field


def dataclass(made: Any = None, /, *, frozen: bool = False, slots: bool = False) -> Any:
    """Fields from annotations, given by place or by name."""
    if made is None:
        return lambda found: dataclass(found, frozen=frozen, slots=slots)
    names = [*getattr(made, "__fields__", ()), *vars(made).get("__annotations__", ())]
    made.__fields__ = tuple(dict.fromkeys(names))
    factories = {}
    for name in made.__fields__:
        default = made.__dict__.get(name)
        if isinstance(default, Field):
            delattr(made, name)
            if default.factory is None:
                setattr(made, name, default.default)
            else:
                factories[name] = default.factory
    made.__factories__ = {**getattr(made, "__factories__", {}), **factories}
    made.__init__, made.__eq__ = _initialize, _equal
    made.__hash__ = _hash if frozen else None
    return made


def _initialize(self: Any, *given: Any, **named: Any) -> None:
    inside = self.__dict__
    if given:
        inside.update(zip(self.__fields__, given, strict=False))
    inside.update(named)
    for name, factory in self.__factories__.items():
        if name not in inside:
            inside[name] = factory()
    if hasattr(self, "__post_init__"):
        self.__post_init__()


def _equal(self: Any, other: Any) -> bool:
    return type(self) is type(other) and all(getattr(self, name) == getattr(other, name) for name in self.__fields__)


def _hash(self: Any) -> int:
    return hash(tuple([getattr(self, name) for name in self.__fields__]))


def replace(value: Any, /, **changes: Any) -> Any:
    """The same with changes."""
    return type(value)(**{name: getattr(value, name) for name in value.__fields__} | changes)


def lru_cache(maxsize: Any = 128, typed: bool = False) -> Any:
    """Remember results; the work is done in C, as by the original."""
    if callable(maxsize):
        return _functools._lru_cache_wrapper(maxsize, 128, typed, tuple)
    return lambda function: _functools._lru_cache_wrapper(function, maxsize, typed, tuple)


_FUNCTOOLS = {
    "cache": lambda function: _functools._lru_cache_wrapper(function, None, False, tuple),
    "lru_cache": lru_cache,
    "partial": _functools.partial,
    "reduce": _functools.reduce,
}


class _Manager:
    """One use of a generator as a context."""

    def __init__(self, made: Iterator[Any]) -> None:
        self._made = made

    def __enter__(self) -> Any:
        return next(self._made)

    def __exit__(self, kind: Any, error: Any, _: Any) -> bool:
        if kind is None:
            next(self._made, None)
            return False
        try:
            self._made.throw(error)  # type: ignore[attr-defined]
        except StopIteration as end:
            return end is not error
        except BaseException as raised:
            if raised is error:
                return False
            raise
        raise RuntimeError("generator didn't stop after throw()")


def contextmanager(function: Callable[..., Iterator[T]]) -> Callable[..., Any]:
    """A generator with one yield is a context."""
    return lambda *given, **named: _Manager(function(*given, **named))


class suppress:
    """Go on after one of these errors."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: Any, _: Any) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


class ExitStack:
    """Undo in the opposite order what was done, unless it is taken over by `pop_all`."""

    def __init__(self) -> None:
        self._exits: list[Any] = []

    def __enter__(self) -> ExitStack:
        return self

    def callback(self, function: Any, /, *given: Any, **named: Any) -> Any:
        """Call it at the end."""
        self._exits.append(lambda *_: function(*given, **named) and None)
        return function

    def enter_context(self, manager: Any) -> Any:
        """Enter it now, leave it at the end."""
        result = manager.__enter__()
        self._exits.append(manager.__exit__)
        return result

    def pop_all(self) -> ExitStack:
        """Another stack takes over."""
        other = ExitStack()
        other._exits, self._exits = self._exits, []
        return other

    def close(self) -> None:
        """The end, now."""
        self.__exit__(None, None, None)

    def __exit__(self, kind: Any, error: Any, where: Any) -> bool:
        given, raised = error, error
        while self._exits:
            leave = self._exits.pop()
            try:
                if leave(type(raised) if raised is not None else None, raised, where):
                    raised = None
            except BaseException as other:  # noqa: BLE001 - raised below, when all is undone
                other.__context__ = other.__context__ or raised
                raised = other
        if raised is not None and raised is not given:
            raise raised
        return given is not None and raised is None


_CONTEXTLIB = {"contextmanager": contextmanager, "suppress": suppress, "ExitStack": ExitStack}
