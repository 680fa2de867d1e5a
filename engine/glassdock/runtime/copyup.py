"""The option tmpcopyup: a new tmpfs begins with what is in the folder that it will cover.

Interface: `copy(source, target)`: between two descriptors of folders.

Rules: names are looked up below descriptors and links are copied as links, so what an image holds is copied and leads
nowhere. Owners, modes and times come along; devices and sockets do not: what a container can write has none.

Source: https://github.com/opencontainers/runtime-spec/blob/main/config.md#linux-mount-options
"""

from __future__ import annotations

import os
import stat

_CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def copy(source: int, target: int) -> None:
    """Copy what is in the folder `source` into the folder `target`. Raises OSError."""
    here = os.open(".", _FOLDER, dir_fd=source)
    there = os.open(".", _FOLDER, dir_fd=target)
    try:
        for name in os.listdir(here):
            _entry(here, there, name)
    finally:
        os.close(here)
        os.close(there)


def _entry(here: int, there: int, name: str) -> None:
    found = os.stat(name, dir_fd=here, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=there, follow_symlinks=False)
    elif stat.S_ISREG(found.st_mode):
        with open(os.open(name, _FILE, dir_fd=here), "rb") as old, open(os.open(name, _NEW, dir_fd=there), "wb") as new:
            while data := old.read(_CHUNK):
                new.write(data)
            new.flush()  # before the times are set
            _dress(new.fileno(), found)
    elif stat.S_ISDIR(found.st_mode):
        os.mkdir(name, 0o700, dir_fd=there)
        old_folder, new_folder = os.open(name, _FOLDER, dir_fd=here), os.open(name, _FOLDER, dir_fd=there)
        try:
            copy(old_folder, new_folder)
            _dress(new_folder, found)
        finally:
            os.close(old_folder)
            os.close(new_folder)
    elif stat.S_ISFIFO(found.st_mode):
        os.mkfifo(name, stat.S_IMODE(found.st_mode), dir_fd=there)


def _dress(made: int, like: os.stat_result) -> None:
    os.fchown(made, like.st_uid, like.st_gid)
    os.fchmod(made, stat.S_IMODE(like.st_mode))  # after the owner, whose change takes setuid away
    os.utime(made, ns=(like.st_atime_ns, like.st_mtime_ns))
