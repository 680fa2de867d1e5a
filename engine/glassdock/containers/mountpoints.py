"""What a container is given beside its root: `-v`, `--mount`, `--volumes-from` and the image's VOLUMEs, as one list.

Interface:
- `Point`: one mount point, as the record keeps it and `inspect` shows it.
- `asked(config, host, points_of)`: all of them, checked; raises InvalidParameter in Docker's words.
- `entry(point)`: the mount of the runtime's specification. `absolute(target)`: a checked destination.

Rules: a pure function of the request and of other containers' lists; nothing is made. One destination has one mount:
what `-v` and `--mount` say replaces what comes from another container, which replaces what the image says.

Source: https://docs.docker.com/engine/storage/, moby `volume/mounts` (for the words)
"""

from __future__ import annotations

import os
import posixpath
import secrets
from collections.abc import Callable, Iterable

import msgspec

from glassdock.containers.config import Config, HostConfig, MountPoint
from glassdock.errors import InvalidParameter, NotFound
from glassdock.oci import runtime as oci
from glassdock.runtime.options import SUBPATH
from glassdock.volumes import ANONYMOUS

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
# Of each row a mode may have one word.
_MODES = (("rw", "ro"), PROPAGATIONS, ("z", "Z"), ("copy", "nocopy"), ("consistent", "cached", "delegated", "default"))


class Point(msgspec.Struct, frozen=True):
    """One mount point. `source` is a path of the machine's; that of a volume is known once the volume is there.

    `named` says that somebody chose the volume's name, `copy` that an empty volume gets what the image has there,
    `make` that a source that is missing is made, `deep` that read-only holds for what is mounted below as well.
    """

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    writable: bool = True
    propagation: str = ""
    named: bool = False
    copy: bool = False
    make: bool = False
    recursive: bool = True
    deep: bool = True
    subpath: str = ""
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    tmpfs: tuple[str, ...] = ()


PointsOf = Callable[[str], tuple[Point, ...]]


def asked(config: Config, host: HostConfig, points_of: PointsOf) -> tuple[Point, ...]:
    """The mount points of a container with this configuration."""
    if host.volume_driver not in ("", "local"):
        raise NotFound(f'plugin "{host.volume_driver}" not found', "There is only the volume driver `local`.")
    found: dict[str, Point] = {}
    for words in host.volumes_from or ():
        found |= {point.destination: point for point in _inherited(words, points_of)}
    tmpfs = {absolute(target) for target in host.tmpfs or {}}
    own: set[str] = set()
    explicit = [*(_bind(text) for text in host.binds or ()), *(_mount(mount) for mount in host.mounts or ())]
    for point in explicit:
        if point.destination in own or point.destination in tmpfs:
            raise InvalidParameter(f"Duplicate mount point: {point.destination}")
        own.add(point.destination)
        found[point.destination] = point
    for target in config.volumes or {}:
        where = absolute("/" + target)
        if where not in found and where not in tmpfs:
            found[where] = _anonymous(where)
    return tuple(point for where, point in found.items() if where in own or where not in tmpfs)


def entry(point: Point) -> oci.Mount:
    """The mount that the runtime carries out."""
    if point.type == "tmpfs":
        options = ("nosuid", "nodev", "noexec", *point.tmpfs, *(() if point.writable else ("ro",)))
        return oci.Mount(point.destination, "tmpfs", "tmpfs", options)
    readonly = () if point.writable else ("rro",) if point.deep and point.recursive else ("ro",)
    below = (f"{SUBPATH}={point.subpath}",) if point.subpath else ()
    how = "rbind" if point.recursive else "bind"
    options = (how, point.propagation or "rprivate", "nodev", *readonly, *below)
    return oci.Mount(point.destination, "bind", point.source, options)


def absolute(target: str) -> str:
    """A destination, cleaned; raises InvalidParameter."""
    if not target.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{target}' mount path must be absolute")
    clean = posixpath.normpath("/" + target.lstrip("/"))
    if clean == "/":
        raise InvalidParameter("invalid specification: destination can't be '/'")
    return clean


def _anonymous(where: str) -> Point:
    return Point("volume", where, name=secrets.token_hex(32), driver="local", copy=True, labels={ANONYMOUS: ""})


def _bind(text: str) -> Point:
    """`[SOURCE:]TARGET[:MODE]`."""
    wrong = f"invalid volume specification: '{text}'"
    parts = text.split(":")
    if len(parts) > 3 or not all(parts[:2]) or (len(parts) == 2 and _is_mode(parts[1])):
        raise InvalidParameter(wrong, "Write /on/the/host:/in/the/container[:ro], or NAME:/in/the/container[:ro].")
    if len(parts) == 1:
        return _anonymous(_where(parts[0], wrong, "volume"))
    source, mode = parts[0], parts[2] if len(parts) == 3 else ""
    if len(parts) == 3 and not _is_mode(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    words = mode.split(",")
    kind = "bind" if source.startswith("/") else "volume"
    spread = next((word for word in words if word in PROPAGATIONS), "")
    if (spread and kind == "volume") or (kind == "bind" and {"copy", "nocopy"} & set(words)):
        raise InvalidParameter(f"{wrong}: invalid mode: {mode}")
    where = _where(parts[1], wrong, kind)
    writable = "ro" not in words
    if kind == "bind":
        clean = posixpath.normpath("/" + source.lstrip("/"))
        return Point("bind", where, clean, mode=mode, writable=writable, propagation=spread or "rprivate", make=True)
    copy = "nocopy" not in words
    return Point(
        "volume", where, name=source, driver="local", mode=mode or "z", writable=writable, named=True, copy=copy
    )


def _where(target: str, wrong: str, kind: str) -> str:
    try:
        return absolute(target)
    except InvalidParameter as error:
        raise InvalidParameter(f'{wrong}: invalid mount config for type "{kind}": {error.message}') from error


def _is_mode(text: str) -> bool:
    words = text.split(",")
    known = {word for row in _MODES for word in row}
    return set(words) <= known and all(sum(word in row for word in words) <= 1 for row in _MODES)


def _inherited(words: str, points_of: PointsOf) -> Iterable[Point]:
    """`CONTAINER[:MODE]`: what another container has."""
    if not words:
        raise InvalidParameter("volumes-from specification cannot be an empty string")
    name, colon, mode = words.partition(":")
    if colon and (not _is_mode(mode) or set(mode.split(",")) & {*PROPAGATIONS, "copy", "nocopy"}):
        raise InvalidParameter(f"invalid mode: {mode}")
    for point in points_of(name):
        if point.type != "tmpfs":
            writable = point.writable and "ro" not in mode.split(",")
            yield msgspec.structs.replace(point, writable=writable, copy=False)


def _mount(mount: MountPoint) -> Point:
    """One `--mount`."""
    makers = {"bind": _mount_bind, "volume": _mount_volume, "tmpfs": _mount_tmpfs}
    wrong = f'invalid mount config for type "{mount.type}"'
    if mount.type not in makers:
        raise InvalidParameter(f"{wrong}: mount type unknown", "Choose of bind, volume and tmpfs.")
    if not mount.target:
        raise InvalidParameter(f"{wrong}: field Target must not be empty")
    try:
        return makers[mount.type](mount, absolute(mount.target))
    except InvalidParameter as error:
        raise InvalidParameter(f"{wrong}: {error.message}", error.remedy) from error


def _mount_bind(mount: MountPoint, where: str) -> Point:
    options = mount.bind_options or {}
    if not mount.source:
        raise InvalidParameter("field Source must not be empty")
    spread = options.get("Propagation") or "rprivate"
    if spread not in PROPAGATIONS:
        raise InvalidParameter(f"invalid propagation mode: {spread}", f"Choose of {', '.join(PROPAGATIONS)}.")
    _refuse_extra(mount, "volume_options", "VolumeOptions")
    if not mount.source.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{mount.source}' mount path must be absolute")
    make = bool(options.get("CreateMountpoint"))
    if not make and not os.path.lexists(mount.source):
        raise InvalidParameter(f"bind source path does not exist: {mount.source}", "`-v` makes the folder.")
    if options.get("ReadOnlyForceRecursive") and not mount.read_only:
        raise InvalidParameter("mount must be read-only to be recursively read-only")
    if options.get("ReadOnlyForceRecursive") and spread != "rprivate":
        raise InvalidParameter("ReadOnlyForceRecursive requires BindOptions.Propagation to be rprivate")
    source = posixpath.normpath("/" + mount.source.lstrip("/"))
    return Point(
        "bind", where, source, writable=not mount.read_only, propagation=spread, make=make,
        recursive=not options.get("NonRecursive"), deep=not options.get("ReadOnlyNonRecursive"),
    )  # fmt: skip


def _mount_volume(mount: MountPoint, where: str) -> Point:
    options = mount.volume_options or {}
    _refuse_extra(mount, "bind_options", "BindOptions")
    if not mount.source and mount.read_only:
        raise InvalidParameter("must not set ReadOnly mode when using anonymous volumes")
    subpath = options.get("Subpath") or ""
    if subpath and (subpath.startswith("/") or ".." in subpath.split("/")):
        raise InvalidParameter("subpath must be a relative path within the volume")
    driver = options.get("DriverConfig") or {}
    return Point(
        "volume",
        where,
        name=mount.source or secrets.token_hex(32),
        driver=driver.get("Name") or "local",
        mode="z",
        writable=not mount.read_only,
        named=bool(mount.source),
        copy=not options.get("NoCopy") and not subpath,
        subpath=subpath,
        labels={**(options.get("Labels") or {}), **({} if mount.source else {ANONYMOUS: ""})},
        options=driver.get("Options") or {},
    )


def _mount_tmpfs(mount: MountPoint, where: str) -> Point:
    options = mount.tmpfs_options or {}
    _refuse_extra(mount, "bind_options", "BindOptions")
    if mount.source:
        raise InvalidParameter("field Source must not be specified")
    words = [f"size={options['SizeBytes']}"] if options.get("SizeBytes") else []
    words += [f"mode={options['Mode']:o}"] if options.get("Mode") else []
    for option in options.get("Options") or ():
        words.append("=".join(option))
    return Point("tmpfs", where, writable=not mount.read_only, tmpfs=tuple(words))


def _refuse_extra(mount: MountPoint, name: str, field: str) -> None:
    if getattr(mount, name):
        raise InvalidParameter(f"field {field} must not be specified")
