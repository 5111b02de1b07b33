"""Hashes, durable writes, and names that fit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LONGEST_NAME = 255  # bytes, on all file systems in use
CHUNK = 1 << 20
RACY = 2_000_000_000  # ns in which a file may change and keep its times


@dataclass(frozen=True)
class Stamp:
    """What tells a file from a changed one without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def is_settled(self, now_ns: int) -> bool:
        """Whether a change from now on gives other times; not for a file written just now.

        A clock that was set back makes files look as if written later: those are not trusted.
        """
        return max(self.mtime_ns, self.ctime_ns) + RACY < now_ns


def sha256(path: Path) -> bytes:
    """The SHA-256 of a file's bytes."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    return hasher.digest()


def stable_hash(path: Path, clock_ns: Callable[[], int] = time.time_ns) -> tuple[bytes, Stamp, int]:
    """A file's hash, its stamp, and when it was read.

    Raises:
        OSError: it cannot be read, or it went on changing while it was read.
    """
    for _ in range(3):
        before, read = Stamp.of(path.stat()), clock_ns()
        found = sha256(path)
        if Stamp.of(path.stat()) == before:
            return found, before, read
    raise OSError(f"{path} changes while it is read")


def sync_file(path: Path) -> None:
    """Have the disk keep the content of a file."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the disk keep the names in a folder; nothing where the system has no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Write a whole file under its name, or leave what was there: never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = hashlib.sha256(as_bytes(path.name)).hexdigest()[:12]
    temporary = path.with_name(f".{os.getpid()}-{mark}")
    try:
        temporary.write_bytes(content)
        sync_file(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def as_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def fitting(stem: str, end: str) -> str:
    """`stem + end` as a file name; a long stem is cut, and told from others by a hash."""
    name = stem + end
    if len(as_bytes(name)) <= LONGEST_NAME:
        return name
    mark = f"~{hashlib.sha256(as_bytes(stem)).hexdigest()[:8]}"
    room = LONGEST_NAME - len(as_bytes(mark + end))
    cut = as_bytes(stem)[:room].decode("utf-8", "ignore")
    return cut + mark + end


def named_candidates(relative: str, suffix: str, end: str = "") -> list[str]:
    """Where the result of an input may go, the first that is free being taken.

    Args:
        relative: the input's path in IN, with forward slashes.
        suffix: of the result's format, such as ".png".
        end: what tells it from other results of that input, such as "-0002".
    """
    path = PurePosixPath(relative)
    mark = hashlib.sha256(as_bytes(relative)).hexdigest()[:8]
    names = (
        fitting(path.stem, end + suffix),
        fitting(path.name, end + suffix),
        fitting(path.name, f"~{mark}{end}{suffix}"),
    )
    return [str(path.with_name(name)) for name in names]
