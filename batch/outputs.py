"""Results into OUT: a temporary name, synced, then renamed.

A worker leaves results in the staging folder, synced. The driver writes into the ledger which they
are, with hashes and final names, and only then renames them; after that the unit is done. Whatever
is killed in between, the next start finds in the ledger what is still to be renamed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .faults import Problem, is_full
from .files import fitting, named_candidates, sha256, sync_file, sync_folder
from .ledger import Ledger, Unit
from .settings import Folders


@dataclass(frozen=True)
class Saved:
    """A result of a unit, as a worker gives it.

    Attributes:
        node: the node that saved it.
        number: which of that node's files it is.
        of: how many that node saved.
        suffix: of its name, such as ".png".
        path: where it lies synced; None where `content` has it.
    """

    node: str
    number: int
    of: int
    suffix: str
    hash: str
    size: int
    path: Path | None = None
    content: bytes | None = None


class Store:
    """The files of OUT."""

    def __init__(self, folders: Folders, ledger: Ledger):
        self.folders = folders
        self.ledger = ledger

    @property
    def staging(self) -> Path:
        """The folder for this run's workers."""
        return self.folders.staging / str(self.ledger.run)

    def prepare(self) -> None:
        self.staging.mkdir(parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove what earlier runs left in staging; call it after `recover`."""
        for entry in self.folders.staging.iterdir():
            if entry != self.staging:
                shutil.rmtree(entry, ignore_errors=True)

    def tidy(self) -> None:
        """Remove this run's folder of staging if nothing is left in it."""
        for folder in (self.staging, self.folders.staging):
            with suppress(OSError):
                folder.rmdir()

    # Names

    def place(self, unit: Unit, saved: Sequence[Saved]) -> list[dict]:
        """Where each result goes, claimed in the ledger: entries for its `outputs`.

        Bytes are written into the staging folder first.

        Raises:
            Problem: they cannot be written.
        """
        nodes = list(dict.fromkeys(one.node for one in saved))
        entries = []
        for one in saved:
            end = f"-{plain(one.node)}" if len(nodes) > 1 else ""
            end += f"-{one.number + 1:04}" if one.of > 1 else ""
            entries.append(
                {
                    "node": one.node,
                    "path": self._claim(unit, one, end),
                    "hash": one.hash,
                    "size": one.size,
                    "staged": self._staged(unit, one),
                }
            )
        return entries

    def _claim(self, unit: Unit, one: Saved, end: str) -> str:
        if unit.part >= 0:
            prefix = self.folders.parts.relative_to(self.folders.out).as_posix()
            path = f"{prefix}/{unit.key.hex()}{end}{one.suffix}"
            self.ledger.claim(path, unit)
            return path
        candidates = named_candidates(unit.input, one.suffix, end)
        for path in candidates[unit.name :]:
            holder = self.ledger.holder(path)
            if holder is None:
                self.ledger.claim(path, unit)
                break
            if holder[0] == unit.input:
                break  # claimed once the holder's file is put by
        return path

    def _staged(self, unit: Unit, one: Saved) -> str:
        path = one.path
        if path is None:
            path = self.staging / f"{unit.id}-{unit.tries}-{plain(one.node)}-{one.number}"
            self._write(path, one.content or b"")
        return os.path.relpath(path, self.folders.out)

    def _write(self, path: Path, content: bytes) -> None:
        try:
            path.write_bytes(content)
            sync_file(path)
        except OSError as error:
            raise cannot_write(path, error) from error

    # Renaming

    def publish(self, units: Iterable[tuple[Unit, list[dict]]]) -> list[int]:
        """Rename what is staged, sync the folders, and note whose the files now are.

        Returns:
            The ids of the units whose results are all in place.
        """
        folders: set[Path] = set()
        done = []
        for unit, entries in units:
            for entry in entries:
                try:
                    folders |= self._move(unit, entry)
                except OSError as error:
                    raise cannot_write(self.folders.out / entry["path"], error) from error
            done.append(unit.id)
        for folder in folders:
            sync_folder(folder)
        return done

    def _move(self, unit: Unit, entry: dict) -> set[Path]:
        staged, final = self.folders.out / entry["staged"], self.folders.out / entry["path"]
        if self._holds(final, entry):  # renamed before
            self.ledger.claim(entry["path"], unit)
            return {final.parent}
        made = _make_folders(final.parent)
        if final.exists():
            made |= self._put_by(final, entry["path"], unit)
        os.replace(staged, final)
        self.ledger.claim(entry["path"], unit)
        return made | {final.parent}

    def _put_by(self, final: Path, path: str, unit: Unit) -> set[Path]:
        """Keep a file whose place a unit's takes: another unit's, or one that nobody here wrote."""
        holder = self.ledger.holder(path)
        is_known = holder is not None and holder[1] != unit.id
        earlier = self._earlier(path, holder[1] if is_known else 0)
        while not is_known and earlier.exists():
            earlier = earlier.with_name(fitting(earlier.stem, f"~{earlier.suffix}"))
        made = _make_folders(earlier.parent)
        os.replace(final, earlier)
        return made | {earlier.parent}

    def _earlier(self, path: str, unit: int) -> Path:
        return self.folders.earlier / str(unit) / path

    # Starting again

    def recover(self, unit: Unit, entries: list[dict]) -> bool:
        """Whether all results of a unit that was staged can be put in place, by their hashes."""
        for entry in entries:
            places = (entry["staged"], entry["path"])
            if not any(self._holds(self.folders.out / place, entry) for place in places):
                return False
        return True

    def _holds(self, path: Path, entry: dict) -> bool:
        try:
            return path.stat().st_size == entry["size"] and sha256(path).hex() == entry["hash"]
        except OSError:
            return False

    def restore(self, unit: Unit, entries: list[dict]) -> bool:
        """Whether the results of a done unit are in OUT, or were put by and now are again."""
        moved: set[Path] = set()
        for entry in entries:
            path = entry["path"]
            final = self.folders.out / path
            holder = self.ledger.holder(path)
            if holder is not None and holder[1] == unit.id and final.exists():
                continue
            earlier = self._earlier(path, unit.id)
            if not self._holds(earlier, entry):
                return False
            if final.exists():
                moved |= self._put_by(final, path, unit)
            os.replace(earlier, final)
            self.ledger.claim(path, unit)
            moved |= {final.parent, earlier.parent}
        for folder in moved:
            sync_folder(folder)
        return True

    def copies(self, unit: Unit, entries: list[dict]) -> list[Saved] | None:
        """The results of a twin as those of a unit; None where they are not there any more."""
        saved = []
        for number, entry in enumerate(entries):
            original = self.folders.out / entry["path"]
            if not self._holds(original, entry):
                return None
            copy = self.staging / f"{unit.id}-twin-{number}"
            try:
                shutil.copyfile(original, copy)
                sync_file(copy)
            except OSError as error:
                raise cannot_write(copy, error) from error
            suffix = Path(entry["path"]).suffix
            saved.append(
                Saved("copy", number, len(entries), suffix, entry["hash"], entry["size"], copy)
            )
        return saved


def _make_folders(folder: Path) -> set[Path]:
    """Make a folder; the folders whose names are new on disk."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
    return {one.parent for one in missing}


def plain(node: str) -> str:
    """A node's id as part of a file name."""
    return "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in node)


def cannot_write(path: Path, error: OSError) -> Problem:
    remedy = "Make room" if is_full(error) else "Check the disk and its rights"
    return Problem(
        f"{path} cannot be written: {error.strerror or error}. {remedy} and start again: finished "
        "units are kept, and the run goes on where it was."
    )
