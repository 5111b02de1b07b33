"""Clips whose parts are done are joined, in a thread of the driver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from . import clips
from .dispatch import FINISHED, PROBLEM, UNIT, Outcome
from .faults import Problem, UnitFault, is_full
from .files import sha256, sync_file
from .ledger import ASIDE, DONE, PARTS, STAGED, Ledger, Unit
from .outputs import Saved, Store, cannot_write, plain
from .units import CLIPS


class Joiner:
    """Sees when the parts of a clip have all ended, and joins them.

    Args:
        source: IN.
        with_sound: the whole gets the sound of the input.
        tell: called with a clip and what became of it, in another thread.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        source: Path,
        with_sound: bool,
        tell: Callable[[Unit, Outcome], object],
    ):
        self.ledger, self.store = ledger, store
        self.source, self.with_sound = source, with_sound
        self._tell = tell
        self._look: set[str] = set()
        self._busy: set[str] = set()
        self._tidy: dict[int, list[Path]] = {}

    def part_ended(self, input: str) -> None:
        """A part of this input has ended, well or not."""
        self._look.add(input)

    @property
    def is_busy(self) -> bool:
        return bool(self._look or self._busy)

    def ended(self, clip: Unit) -> None:
        self._busy.discard(clip.input)

    def step(self) -> None:
        """Begin to join what is complete; remove parts of clips that are done."""
        for id in [id for id in self._tidy if self.ledger.state(id) == DONE]:
            for path in self._tidy.pop(id):
                path.unlink(missing_ok=True)
        for input in sorted(self._look - self._busy):
            states = self.ledger.part_states(input)
            if STAGED in states:
                continue  # which is done in a moment
            self._look.discard(input)
            clip = self.ledger.clip(input)
            if not states <= {DONE, ASIDE} or self.ledger.state(clip.id) != PARTS:
                continue
            self._busy.add(input)
            thread = threading.Thread(target=self._run, args=[clip, states], daemon=True)
            thread.start()

    def _run(self, clip: Unit, states: set[int]) -> None:
        try:
            parts = self.ledger.parts(clip.input)
            if ASIDE in states:
                failed = [part for part in parts if part.fault]
                names = ", ".join(str(part.part + 1) for part in failed)
                raise UnitFault(f"Of its parts these failed: {names}. {failed[0].fault}")
            outcome = Outcome(FINISHED, saved=tuple(self._joined(clip, parts)))
        except (UnitFault, Problem) as fault:
            outcome = Outcome(UNIT, str(fault))
        except OSError as error:
            problem = str(cannot_write(self.store.staging, error))
            outcome = Outcome(PROBLEM if is_full(error) else UNIT, problem)
        except Exception as error:  # of the library for clips
            outcome = Outcome(UNIT, f"The parts cannot be joined: {error!r}")
        self._tell(clip, outcome)

    def _joined(self, clip: Unit, parts: Sequence[Unit]) -> list[Saved]:
        """What the parts make up, by the nodes that saved them."""
        entries = [self.ledger.outputs(part.id) for part in parts]
        files = [self.store.folders.out / entry["path"] for each in entries for entry in each]
        self._tidy[clip.id] = files
        nodes = list(dict.fromkeys(entry["node"] for each in entries for entry in each))
        saved = []
        for node in nodes:
            own = [entry for each in entries for entry in each if entry["node"] == node]
            paths = [self.store.folders.out / entry["path"] for entry in own]
            if paths[0].suffix in CLIPS:
                saved.append(self._joined_clip(clip, node, paths))
            else:  # frames
                saved += [
                    Saved(node, number, len(own), path.suffix, entry["hash"], entry["size"], path)
                    for number, (entry, path) in enumerate(zip(own, paths, strict=True))
                ]
        return saved

    def _joined_clip(self, clip: Unit, node: str, paths: Sequence[Path]) -> Saved:
        name = f"{clip.id}-joined-{len(node)}-{plain(node)}{paths[0].suffix}"
        target = self.store.staging / name
        target.unlink(missing_ok=True)
        clips.join(paths, target, self.source / clip.input if self.with_sound else None)
        sync_file(target)
        size = target.stat().st_size
        return Saved(node, 0, 1, paths[0].suffix, sha256(target).hex(), size, target)
