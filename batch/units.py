"""What is to be done: the files of IN, and clips cut into parts."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import workflow as workflows
from .faults import Problem
from .files import Stamp, named_candidates, stable_hash
from .ledger import ASIDE, CLIP, NEW, PARTS, WHOLE, Ledger, NewUnit
from .models import ModelHashes
from .settings import Making
from .workflow import Workflow, digest

PICTURES = {
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".exr", ".avif", ".hdr",
}  # fmt: skip
CLIPS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"}
WRITTEN = {".png": ".png", ".jpg": ".jpg", ".jpeg": ".jpg", ".webp": ".webp"}
OVERRIDES = ".set.json"
BATCH = 256


@dataclass
class Found:
    """What a scan has met so far.

    Attributes:
        units: how many units in each state, by which they were known before.
        left_alone: {why: how many} of entries that are no inputs.
    """

    files: int = 0
    units: Counter = field(default_factory=Counter)
    left_alone: Counter = field(default_factory=Counter)


def result_suffix(relative: str, making: Making, is_video: bool) -> str:
    """The suffix of an input's result, as far as it is known beforehand."""
    if is_video:
        return ".mp4"
    if making.format != "same":
        return f".{making.format}"
    suffix = Path(relative).suffix
    return suffix if suffix.lower() in WRITTEN else ".png"


def walk(
    root: Path, skip: Path | None, left_alone: Callable[[str], object] = lambda why: None
) -> Iterator[list[tuple[str, os.stat_result]]]:
    """The files of each folder in turn, as (path relative to `root`, its status), by name.

    Links that lead out of `root` are not followed, nor are links to folders.
    """
    root = root.resolve()

    def visit(folder: Path, prefix: str) -> Iterator[list[tuple[str, os.stat_result]]]:
        files, folders = [], []
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            left_alone("folders that cannot be read")
            return
        for entry in entries:
            if entry.is_symlink() and not _stays_inside(Path(entry.path), root):
                left_alone("links out of IN or to folders")
            elif entry.is_dir():
                if skip is None or Path(entry.path) != skip:
                    folders.append(entry)
            elif entry.is_file():
                files.append((prefix + entry.name, entry.stat()))
            else:
                left_alone("entries that are no files")
        yield files
        for entry in folders:
            yield from visit(Path(entry.path), f"{prefix}{entry.name}/")

    yield from visit(root, "")


def _stays_inside(link: Path, root: Path) -> bool:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # it leads nowhere, or in a circle
        return False
    return target.is_file() and root in target.parents


@dataclass(frozen=True)
class Rules:
    """How inputs become units.

    Attributes:
        spans: cuts a clip, (file, split) -> (first frame, frames) of each part.
    """

    workflow: Workflow
    making: Making
    models: ModelHashes
    spans: Callable[[Path, str], list[tuple[int, int]]]


class Scan:
    """Goes through IN once and brings its units into the ledger."""

    def __init__(self, root: Path, out: Path, rules: Rules, ledger: Ledger):
        self.root, self.out = root.resolve(), out.resolve()
        self.rules = rules
        self.ledger = ledger
        self.found = Found()
        self._workflow = rules.workflow.digest()
        self._models = rules.models.of(rules.workflow.prompt)

    def run(
        self,
        report: Callable[[Sequence[NewUnit], Sequence[int]], object],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Scan; `report(units, their states)` is called for each batch once the ledger has it."""
        units: list[NewUnit] = []
        hashes: list[tuple[str, Stamp, int, bytes]] = []

        def flush() -> None:
            if not units:
                return
            with self.ledger.transaction():
                self.ledger.keep_hashes(hashes)
                states = self.ledger.add(units)
            self.found.units.update(states)
            report(tuple(units), states)
            units.clear()
            hashes.clear()

        for files in walk(self.root, self.out, self._leave):
            names = {relative for relative, _ in files}
            taken: set[str] = set()
            for relative, status in files:
                if stopped():
                    flush()
                    return
                if not self._is_input(relative):
                    continue
                self.found.files += 1
                units += self._units(relative, Stamp.of(status), names, taken, hashes)
                if len(units) >= BATCH or self.found.files < 8:  # workers wait for the first ones
                    flush()
        flush()

    def again(self, relative: str) -> tuple[list[NewUnit], list[int]]:
        """Bring a file that has changed into the ledger anew; its units and their states."""
        hashes: list[tuple[str, Stamp, int, bytes]] = []
        path = self.root / relative
        names = {relative + OVERRIDES} if Path(f"{path}{OVERRIDES}").is_file() else set()
        units = self._units(relative, Stamp.of(path.stat()), names, set(), hashes)
        return units, self.ledger.add(units)

    def _leave(self, why: str) -> None:
        self.found.left_alone[why] += 1

    def _is_input(self, relative: str) -> bool:
        suffix = Path(relative).suffix.lower()
        is_video = self.rules.workflow.is_video
        if suffix in (CLIPS if is_video else PICTURES):
            return True
        if not relative.endswith(OVERRIDES):
            self._leave(f"files that are no {'clips' if is_video else 'pictures'}")
        return False

    def _units(
        self,
        relative: str,
        stamp: Stamp,
        names: set[str],
        taken: set[str],
        hashes: list[tuple[str, Stamp, int, bytes]],
    ) -> list[NewUnit]:
        path = self.root / relative
        name = self._name(relative, taken)
        try:
            source = self.ledger.known_hash(str(path), stamp)
            if source is None:
                source, stamp, read = stable_hash(path)
                hashes.append((str(path), stamp, read, source))
        except OSError as error:
            why = f"The file cannot be read: {error.strerror or error}."
            key = bytes.fromhex(digest(["unreadable", relative, self._workflow]))
            return [NewUnit(key, relative, b"", name=name, state=ASIDE, fault=why)]
        try:
            changes = self._overrides(relative) if relative + OVERRIDES in names else {}
            models = self.rules.models.of(changes) if changes else {}
            parts = self._parts(path, source)
        except Problem as problem:
            key = self.key(source, [str(problem)])
            return [NewUnit(key, relative, source, name=name, state=ASIDE, fault=str(problem))]
        if stamp.size == 0:
            key = self.key(source, {})
            fault = "The file is empty."
            return [NewUnit(key, relative, source, name=name, state=ASIDE, fault=fault)]
        own = [changes, models] if changes else {}
        whole = NewUnit(
            self.key(source, [own, parts] if parts else own), relative, source, changes,
            part=CLIP if parts else WHOLE, name=name, state=PARTS if parts else NEW,
        )  # fmt: skip
        return [whole] + [
            NewUnit(self.key(source, [own, span]), relative, source, changes, number, span)
            for number, span in enumerate(parts)
        ]

    def key(self, source: bytes, own: Any) -> bytes:
        """The key of a unit: input bytes, workflow, settings, model files, and its own."""
        content = [source.hex(), self._workflow, self.rules.making.in_key(), self._models, own]
        return bytes.fromhex(digest(content))

    def _name(self, relative: str, taken: set[str]) -> int:
        """Which of its names an input takes first, so that a.jpg and a.png get different ones."""
        suffix = result_suffix(relative, self.rules.making, self.rules.workflow.is_video)
        candidates = named_candidates(relative, suffix)
        number = next((i for i, name in enumerate(candidates) if name not in taken), 2)
        taken.add(candidates[number])
        return number

    def _overrides(self, relative: str) -> dict[str, dict[str, Any]]:
        file = self.root / (relative + OVERRIDES)
        try:
            changes = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Problem(f"{file.name} cannot be read: {error}.") from error
        prompt = self.rules.workflow.prompt
        return workflows.resolve(prompt, self.rules.workflow.info, changes, file.name)

    def _parts(self, path: Path, source: bytes) -> list[tuple[int, int]]:
        split = self.rules.making.split
        if not split or not self.rules.workflow.is_video:
            return []
        name = f"parts of {source.hex()} by {split}"
        known = self.ledger.noted(name)
        if known is None:
            known = self.rules.spans(path, split)
            self.ledger.note(name, known)
        return [tuple(span) for span in known] if len(known) > 1 else []
