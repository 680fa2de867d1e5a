"""Which shared libraries a program needs, read from the files themselves.

Interface:
- `read(path)`: what a file says it needs; None if it is no ELF file.
- `stripped(data)`: the file without what is only for debuggers and linkers.
- `Resolver().libraries(paths)`: all that these need, and those need in turn: name to file.

Rules: nothing is run (`ldd` runs the program it is asked about). The search is the loader's: the file's own run path,
then the folders of /etc/ld.so.conf, then the standard ones; a library for another kind of machine is passed over.

Sources: elf(5), ld.so(8)
"""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NEEDED, _STRTAB, _RPATH, _RUNPATH = 1, 5, 15, 29
_STANDARD = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")


@dataclass(frozen=True, slots=True)
class Elf:
    """What an ELF file says: the loader that starts it, the libraries it needs, where it looks for them."""

    machine: tuple[int, int]
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


def read(path: Path) -> Elf | None:
    """The file's dynamic section; None if it is no ELF file, or one that cannot be read."""
    try:
        data = path.read_bytes()
        return _parse(data) if data[:4] == b"\x7fELF" else None
    except (OSError, struct.error, IndexError):
        return None


def stripped(data: bytes) -> bytes:
    """An ELF program or library up to the end of what is loaded; anything else, and one with an appendix, as it is."""
    if data[:4] != b"\x7fELF":
        return data
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    try:
        sections = struct.unpack_from(order + ("Q" if wide else "I"), data, 40 if wide else 32)[0]
        size, count = struct.unpack_from(order + "HH", data, 58 if wide else 46)
        end = max((begin + length for _, begin, _, length in _segments(data)), default=0)
    except struct.error:
        return data
    if not end or not end <= sections or sections + size * count != len(data):
        return data
    kept = bytearray(data[:end])
    struct.pack_into(order + ("Q" if wide else "I"), kept, 40 if wide else 32, 0)
    struct.pack_into(order + "HH", kept, 60 if wide else 48, 0, 0)
    return bytes(kept)


def _segments(data: bytes) -> list[tuple[int, int, int, int]]:
    """Of each program header: kind, offset in the file, address, length in the file."""
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    offset = struct.unpack_from(order + ("Q" if wide else "I"), data, 32 if wide else 28)[0]
    size, count = struct.unpack_from(order + "HH", data, 54 if wide else 42)
    segments: list[tuple[int, int, int, int]] = []
    for number in range(count):
        at = offset + number * size
        if wide:
            kind, _, begin, address, _, length = struct.unpack_from(order + "IIQQQQ", data, at)
        else:
            kind, begin, address, _, length = struct.unpack_from(order + "IIIII", data, at)
        segments.append((kind, begin, address, length))
    return segments


def _parse(data: bytes) -> Elf:
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    machine = (data[4], struct.unpack_from(order + "H", data, 18)[0])
    segments = _segments(data)
    interpreter = ""
    rows: list[tuple[int, int]] = []
    for kind, begin, _, length in segments:
        if kind == _INTERPRETER:
            interpreter = data[begin : begin + length].split(b"\0")[0].decode()
        elif kind == _DYNAMIC:
            rows = list(struct.iter_unpack(order + ("qQ" if wide else "iI"), data[begin : begin + length]))
    table = dict(rows).get(_STRTAB, 0)
    strings = next((begin + table - at for kind, begin, at, n in segments if kind == _LOAD and at <= table < at + n), 0)

    def texts(*tags: int) -> tuple[str, ...]:
        found = [data[strings + value : data.index(b"\0", strings + value)] for tag, value in rows if tag in tags]
        return tuple(os.fsdecode(text) for text in found)

    paths = tuple(part for text in texts(_RPATH, _RUNPATH) for part in text.split(":") if part)
    return Elf(machine, interpreter, texts(_NEEDED), paths)


@dataclass(slots=True)
class Resolver:
    """The machine's libraries, found as its loader finds them."""

    folders: list[str] = field(default_factory=lambda: [*_configured("/etc/ld.so.conf"), *_STANDARD])

    def libraries(self, paths: Iterable[Path]) -> dict[str, Path]:
        """Every library that these files and their libraries need, by the name they ask for; missing ones left out."""
        found: dict[str, Path] = {}
        pending = [Path(os.path.realpath(path)) for path in paths]
        seen: set[Path] = set()
        while pending:
            path = pending.pop()
            if path in seen or (elf := read(path)) is None:
                continue
            seen.add(path)
            for name in elf.needed:
                library = found.get(name) or self.find(name, elf, path.parent)
                if library is not None:
                    found[name] = library
                    pending.append(Path(os.path.realpath(library)))
        return found

    def find(self, name: str, elf: Elf, origin: Path) -> Path | None:
        """The library that `name` is for a file in the folder `origin`."""
        own = [part.replace("${ORIGIN}", str(origin)).replace("$ORIGIN", str(origin)) for part in elf.runpath]
        for folder in [*own, *self.folders]:
            path = Path(folder, name)
            if path.is_file() and (other := read(path)) is not None and other.machine == elf.machine:
                return path
        return None


def _configured(path: str, depth: int = 0) -> list[str]:
    """The folders of an ld.so.conf, with what it includes."""
    found: list[str] = []
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"] and depth < 8:
            for pattern in words[1:]:
                for included in sorted(glob.glob(os.path.join(os.path.dirname(path), pattern))):
                    found += _configured(included, depth + 1)
        else:
            found += [word for word in words if word.startswith("/")]
    return found
