"""Light `msgspec`: value classes, and JSON that is checked against them.

Interface: `modules()`: the stand-in by its name.

Rules: a document is refused where msgspec refuses it, in its words: "Expected `int`, got `str` - at `$.process.uid`".
What one process says to the other goes through marshal(3py) instead of msgpack: both are forks of one interpreter.
"""

from __future__ import annotations

import marshal
import sys

from glassdock.cli.light import module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    Reader = Callable[[Any, str], Any]

_MISSING = object()


def modules() -> dict[str, ModuleType]:
    """The stand-in by its name."""
    members = {
        "Struct": Struct,
        "field": field,
        "DecodeError": DecodeError,
        "ValidationError": ValidationError,
        "to_builtins": to_builtins,
        "structs": module("msgspec.structs", {"replace": replace}),
        "json": module("msgspec.json", {"encode": encode, "decode": decode, "format": form, "Encoder": JSONEncoder}),
        "msgpack": module("msgspec.msgpack", {"Encoder": Encoder, "Decoder": Decoder}),
    }
    return {"msgspec": module("msgspec", members)}


class DecodeError(ValueError):
    """Not the format at all."""


class ValidationError(DecodeError):
    """The format, but not the type."""


class field:
    """A field with another name outside, or a default that is made anew."""

    def __init__(self, *, name: str | None = None, default: Any = _MISSING, default_factory: Any = None) -> None:
        self.name, self.default, self.factory = name, default, default_factory


class Config:
    """What was said beside the bases of a class."""

    def __init__(self, above: Any, words: dict[str, Any], name: str) -> None:
        self.rename = words.get("rename", above.rename if above else None)
        self.tag_field = words.get("tag_field", above.tag_field if above else None)
        tag = words.get("tag", above.wants_tag if above else None)
        self.wants_tag = tag
        self.tag = name if tag is True else tag
        self.omit_defaults = words.get("omit_defaults", above.omit_defaults if above else False)


class _Made(type):
    """The class of value classes. A field's default is the attribute of the class: nothing is stored for it."""

    def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any], **words: Any) -> Any:
        above: Any = bases[0] if bases else None
        config = Config(above and above.__struct_config__, words, name)
        fields = list(above.__struct_fields__) if above else []
        outside = dict(above.__outside__) if above else {}
        defaults = set(above.__defaults__) if above else set()
        for word in space.get("__annotations__", ()):
            default = space.get(word, _MISSING)
            outer = _camel(word) if config.rename else word
            if type(default) is field:
                outer, default = default.name or outer, default.default
                if default is _MISSING:
                    del space[word]
                else:
                    space[word] = default
            if default is not _MISSING:
                defaults.add(word)
            if word not in outside:
                fields.append(word)
            outside[word] = outer
        made: Any = super().__new__(cls, name, bases, space)
        made.__struct_config__, made.__struct_fields__, made.__outside__ = config, tuple(fields), outside
        made.__defaults__, made.__readers__ = frozenset(defaults), None
        return made

    @property
    def __struct_encode_fields__(cls: Any) -> tuple[str, ...]:
        """The names of its fields in JSON."""
        return tuple(cls.__outside__.values())


def _camel(word: str) -> str:
    first, *rest = word.split("_")
    return first + "".join([part.title() for part in rest])


class Struct(metaclass=_Made):
    """A value: fields by place or by name, equal where they are."""

    if TYPE_CHECKING:
        __struct_config__: Config
        __struct_fields__: tuple[str, ...]
        __outside__: dict[str, str]
        __defaults__: frozenset[str]
        __readers__: dict[str, tuple[str, Reader]] | None

    def __init_subclass__(cls, **_: Any) -> None:
        """Words beside the bases are the metaclass's."""

    def __init__(self, *given: Any, **named: Any) -> None:
        inside = self.__dict__
        if given:
            inside.update(zip(self.__struct_fields__, given, strict=False))
        inside.update(named)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _parts(self) == _parts(other)

    def __hash__(self) -> int:
        return hash(_parts(self))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({shown})"


def _parts(value: Any) -> tuple[Any, ...]:
    return tuple([getattr(value, name) for name in value.__struct_fields__])


def replace(value: Any, /, **changes: Any) -> Any:
    """The same with changes."""
    made = value.__class__.__new__(value.__class__)
    made.__dict__.update(value.__dict__, **changes)
    return made


def to_builtins(value: Any) -> Any:
    """Dictionaries, lists and plain values."""
    kind = type(value)
    if kind in (str, int, bool, float, bytes) or value is None:
        return value
    if kind is dict:
        return {key: to_builtins(part) for key, part in value.items()}
    if kind in (list, tuple, set, frozenset):
        return [to_builtins(part) for part in value]
    config = getattr(kind, "__struct_config__", None)
    if config is None:
        names = getattr(kind, "__fields__", None)
        if names is None:
            return int(value) if isinstance(value, int) else str(value)
        return {name: to_builtins(getattr(value, name)) for name in names}
    found = {config.tag_field or "type": config.tag} if config.tag is not None else {}
    for name, outer in kind.__outside__.items():
        part = getattr(value, name)
        if not (config.omit_defaults and name in kind.__defaults__ and _is_default(part, getattr(kind, name))):
            found[outer] = to_builtins(part)
    return found


def _is_default(part: Any, default: Any) -> bool:
    return part is default or (default in ({}, []) and part == default)


def encode(value: Any) -> bytes:
    """JSON without spaces."""
    return _json(to_builtins(value)).encode()


def _json(value: Any) -> str:
    import _json as fast

    if not value and value in ({}, []):
        return "{}" if isinstance(value, dict) else "[]"
    encoder: Any = fast.make_encoder
    make = encoder(None, None, fast.encode_basestring, None, ":", ",", False, False, False)
    return "".join(make(value, 0))


class JSONEncoder:
    """The encoder of a value to JSON as a value."""

    encode = staticmethod(encode)


class _Scanning:
    """What the scanner in C asks for: plain JSON."""

    strict, object_hook, object_pairs_hook, parse_float, parse_int = True, None, None, float, int

    @staticmethod
    def parse_constant(word: str) -> Any:
        raise ValueError(f"{word} is not JSON")


def _plain(data: bytes | str) -> Any:
    import _json as fast

    text = data if isinstance(data, str) else bytes(data).decode()
    scanner: Any = fast.make_scanner
    try:
        value, end = scanner(_Scanning)(text.lstrip(), 0)
    except (StopIteration, ValueError, ImportError, SystemError) as error:  # it looks for the json package to complain
        raise DecodeError("JSON is malformed") from error
    if text.lstrip()[end:].strip():
        raise DecodeError("JSON is malformed: trailing characters")
    return value


def decode(data: bytes | str, *, type: Any = None) -> Any:  # noqa: A002 - the original's
    """A document as a value of the type. Raises DecodeError, ValidationError."""
    value = _plain(data)
    return value if type is None else reader(type)(value, "$")


def form(data: bytes, *, indent: int = 2) -> bytes:
    """The document over several lines."""
    return _lines(_plain(data), "\n", indent).encode()


def _lines(value: Any, start: str, indent: int) -> str:
    inner = start + " " * indent
    if isinstance(value, dict) and value:
        rows = [f"{inner}{_json(key)}: {_lines(part, inner, indent)}" for key, part in value.items()]
        return "{" + ",".join(rows) + start + "}"
    if isinstance(value, list) and value:
        return "[" + ",".join(inner + _lines(part, inner, indent) for part in value) + start + "]"
    return _json(value)


def reader(kind: Any) -> Reader:
    """What turns plain values into values of the type, or refuses them."""
    if kind in (str, int, bool, bytes):
        return _simple(kind)
    if isinstance(kind, _Made):
        return lambda value, where: _struct(kind, value, where)
    if hasattr(kind, "__fields__"):
        return lambda value, _: kind(**value)
    origin: Any = getattr(kind, "__origin__", None)
    inner: Any = getattr(kind, "__args__", ())
    if origin in (tuple, list):
        return _sequence(origin, inner)
    if origin is dict:
        return _mapping(reader(inner[1]))
    if inner and origin is None:
        return _union([part for part in inner if part is not type(None)], type(None) in inner)
    return lambda value, _: value


def _struct(kind: Any, value: Any, where: str) -> Any:
    if type(value) is not dict:
        raise _expected("object", value, where)
    readers = kind.__readers__
    if readers is None:
        readers = kind.__readers__ = _readers(kind)
    made = kind.__new__(kind)
    inside = made.__dict__
    for outer, part in value.items():
        found = readers.get(outer)
        if found is not None:
            name, read = found
            inside[name] = read(part, f"{where}.{outer}")
    for name in kind.__struct_fields__:
        if name not in inside and name not in kind.__defaults__:
            raise ValidationError(f"Object missing required field `{kind.__outside__[name]}`" + _at(where))
    return made


def _readers(kind: Any) -> dict[str, tuple[str, Reader]]:
    found = {}
    for base in reversed(kind.__mro__):
        names = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
        for name, text in vars(base).get("__annotations__", {}).items():
            if name in kind.__outside__:
                found[kind.__outside__[name]] = (name, reader(eval(text, names)))  # noqa: S307 - our own annotation
    return found


_NAMES = {dict: "object", list: "array", str: "str", int: "int", bool: "bool", float: "float", type(None): "null"}


def _at(where: str) -> str:
    return f" - at `{where}`" if where != "$" else ""


def _expected(wanted: str, value: Any, where: str) -> ValidationError:
    return ValidationError(f"Expected `{wanted}`, got `{_NAMES.get(type(value), '?')}`" + _at(where))


def _simple(kind: type) -> Reader:
    wanted = _NAMES.get(kind, "bytes")

    def read(value: Any, where: str) -> Any:
        if type(value) is kind:
            return value
        if kind is int and type(value) is float and value == int(value):
            return int(value)
        raise _expected(wanted, value, where)

    return read


def _sequence(origin: Any, inner: tuple[Any, ...]) -> Reader:
    fixed = origin is tuple and inner[-1] is not ...
    parts = [reader(part) for part in inner if part is not ...]

    def read(value: Any, where: str) -> Any:
        if type(value) is not list:
            raise _expected("array", value, where)
        if fixed:
            return tuple([part(one, where) for part, one in zip(parts, value, strict=True)])
        one = parts[0]
        found = [one(part, f"{where}[{number}]") for number, part in enumerate(value)]
        return tuple(found) if origin is tuple else found

    return read


def _mapping(part: Reader) -> Reader:
    def read(value: Any, where: str) -> Any:
        if type(value) is not dict:
            raise _expected("object", value, where)
        return {key: part(one, f"{where}[...]") for key, one in value.items()}

    return read


def _union(kinds: list[Any], nothing: bool) -> Reader:
    tagged: dict[Any, Reader] = {_config(kind).tag: reader(kind) for kind in kinds if isinstance(kind, _Made)}
    one = reader(kinds[0]) if len(kinds) == 1 else None
    wanted: Any = kinds[0] if kinds else None
    name = "object" if isinstance(wanted, _Made) else _NAMES.get(getattr(wanted, "__origin__", wanted), "object")

    def read(value: Any, where: str) -> Any:
        if value is None and nothing:
            return None
        if one is not None:
            try:
                return one(value, where)
            except ValidationError as error:
                if str(error).startswith(f"Expected `{name}`, got") and str(error).endswith(_at(where)):
                    raise _expected(f"{name} | null", value, where) from None
                raise
        return tagged[value["type"]](value, where)

    return read


def _config(kind: Any) -> Config:
    found: Config = kind.__struct_config__
    return found


class Encoder:
    """Values as bytes for the other process."""

    def encode(self, value: Any) -> bytes:
        """One message."""
        return marshal.dumps(to_builtins(value))


class Decoder:
    """The way back."""

    def __init__(self, kind: Any) -> None:
        self._kind, self._read = kind, None

    def decode(self, data: bytes) -> Any:
        """One message. Raises DecodeError."""
        if self._read is None:
            self._read = reader(self._kind)  # type: ignore[assignment]
        return self._read(marshal.loads(data), "$")  # type: ignore[misc]  # noqa: S302 - our own process'
