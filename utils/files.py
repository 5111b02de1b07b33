"""Read files safely: only regular files, and only up to a size.

A read from a pipe with the name of a file would wait for a writer for ever, and a device may have
no end. Every file of the user, and every file that a text names, is opened here.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Do not wait for the other end of a pipe; do not share with child processes; do not change bytes.
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOINHERIT", "O_BINARY")
)


class NoFile(OSError):
    """Something is no regular file, or is larger than allowed."""


def open_file(path: str | Path, most: int | None = None) -> BinaryIO:
    """Open a regular file for reading; links to one are followed.

    Args:
        most: the largest size in bytes; None for any size.

    Raises:
        NoFile: it is a pipe, a device, a folder or the like, or larger than `most`.
        OSError: it does not exist, or may not be read.
    """
    _expect_file(os.stat(path), path)  # first, because opening some devices has an effect
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        _expect_file(status, path)
        if most is not None and status.st_size > most:
            raise _fault(f"it has {status.st_size} bytes, more than the {most} allowed", path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: str | Path, most: int) -> bytes:
    """All bytes of a regular file.

    Raises:
        NoFile: it has more than `most` bytes, or is no regular file.
        OSError: it does not exist, or may not be read.
    """
    with open_file(path, most) as file:
        data = file.read(most + 1)
    if len(data) > most:  # it has grown since it was opened
        raise _fault(f"it has more than the {most} bytes allowed", path)
    return data


def is_file(path: str | Path) -> bool:
    """Whether there is a regular file; also False for a name that no file can have."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _expect_file(status: os.stat_result, path: str | Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise _fault(f"it is {kind}, not a file", path)


def _fault(reason: str, path: str | Path) -> NoFile:
    return NoFile(errno.EINVAL, reason, str(path))
