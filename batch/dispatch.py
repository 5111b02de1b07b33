"""Scheduler, ledger and outputs as one: take a unit, finish it, flush.

What happens between two flushes goes into the ledger as one transaction. A flush has two steps: the
ledger is told which results are staged; then they are renamed, and the next transaction says that
their units are done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .faults import Problem
from .ledger import ASIDE as ASIDE_STATE
from .ledger import CLIP, DONE, NEW, PARTS, Ledger, NewUnit, Unit
from .outputs import Saved, Store
from .scheduler import ASIDE, Scheduler
from .settings import Limits

# What became of a unit on a worker
FINISHED, UNIT, SERVER, CHANGED, PROBLEM = "finished", "unit", "server", "changed", "problem"


@dataclass(frozen=True)
class Task:
    """A unit as a worker gets it; plain data, which goes to other machines.

    Attributes:
        file: the input, on storage that the worker sees; its name alone where `content` has it.
        content: the input's bytes, with --copy.
        staging: folder for results, on storage that the driver sees; None to send them back.
    """

    unit: Unit
    file: Path
    staging: Path | None
    content: bytes | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        kind: FINISHED, UNIT (it failed), SERVER (its server did), CHANGED (the file is another by
            now) or PROBLEM (the run cannot go on).
        text: of a fault, what happened.
        running: of a server's fault, whether it was running this unit.
        seconds: that the server took.
    """

    kind: str
    text: str = ""
    saved: tuple[Saved, ...] = ()
    report: Any = None
    seconds: float = 0.0
    running: bool = True


@dataclass
class Counts:
    """Units of this run by what became of them."""

    waiting: int = 0
    done: int = 0
    failed: int = 0
    before: int = 0  # done by earlier runs


@dataclass(frozen=True)
class Told:
    """Something that happened to a unit, for those who watch."""

    kind: str
    unit: Unit
    worker: str = ""
    text: str = ""


class Dispatcher:
    """One driver's hold of a run; used by one thread, while a scan may add units in another.

    Args:
        tell: called with each end of a unit.
        clock: seconds since 1970, for the ledger's stamps alone.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        limits: Limits | None = None,
        tell: Callable[[Told], object] = lambda told: None,
        clock: Callable[[], float] = time.time,
    ):
        self.ledger, self.store = ledger, store
        self.counts = Counts()
        self.scheduler = Scheduler(self._more, lambda: self.counts.waiting, limits)
        self._tell, self._clock = tell, clock
        self._writes: list[Callable[[], object]] = []
        self._staged: list[tuple[Unit, list[dict]]] = []
        self._renamed: list[int] = []

    # Units come in

    def recover(self, staged: Iterable[Unit]) -> None:
        """Bring to an end what an earlier run had staged, or have it done anew.

        Args:
            staged: those units, as `Ledger.begin` gives them.
        """
        good, bad = [], []
        for unit in staged:
            entries = self.ledger.outputs(unit.id)
            if self.store.recover(unit, entries):
                good.append((unit, entries))
            else:
                bad.append(unit.id)
        with self.ledger.transaction():
            self.ledger.done(self.store.publish(good))
            self.ledger.start_afresh(bad)
        self.store.sweep()

    def known(self, unit: NewUnit, state: int) -> None:
        """Count a unit that the scan has brought; a done one whose results are gone waits again."""
        if state == DONE:
            state = self._checked(self.ledger.find(unit.key, unit.input))
        if unit.part == CLIP and state in (PARTS, NEW):
            return  # its parts count
        if state == NEW:
            self.counts.waiting += 1
        elif state == DONE:
            self.counts.before += 1
        elif state == ASIDE_STATE:
            self.counts.failed += 1

    def _checked(self, unit: Unit) -> int:
        """DONE where the results of a done unit are there, else its state once it waits again."""
        entries = self.ledger.outputs(unit.id)
        if unit.part >= 0:
            is_there = self.ledger.state(self.ledger.clip(unit.input).id) == DONE or all(
                (self.store.folders.out / entry["path"]).exists() for entry in entries
            )
        else:
            is_there = self.store.restore(unit, entries)
        if not is_there:
            self.ledger.start_afresh([unit.id])
        return self.ledger.state(unit.id)

    def _more(self, count: int) -> list[Unit]:
        if not self.counts.waiting:
            return []
        self._write_all()
        units = self.ledger.hand_out(count)
        self.counts.waiting -= len(units)
        return units

    # Units go out and come back

    def take(self, worker: str) -> Unit | None:
        """The next unit for a worker. A twin of one that is done is finished on the spot."""
        while (unit := self.scheduler.take(worker)) is not None:
            now = self._clock()
            self._writes.append(partial(self.ledger.started, unit, worker, now))
            if not self._finished_as_twin(worker, unit):
                return unit
        return None

    def _finished_as_twin(self, worker: str, unit: Unit) -> bool:
        twin = self.ledger.twin(unit)
        entries = self.ledger.outputs(twin.id) if twin else []
        saved = self.store.copies(unit, entries) if entries else None
        if saved is None:
            return False
        self.finish(worker, unit, Outcome(FINISHED, saved=tuple(saved), report={"as": twin.input}))
        return True

    def finish(self, worker: str, unit: Unit, outcome: Outcome) -> None:
        """Note what became of a unit.

        Raises:
            Problem: the run cannot go on.
        """
        if not self.scheduler.has(worker, unit):
            return  # the worker had left, and the unit has gone back
        if outcome.kind == FINISHED and (missing := _missing(outcome.saved)):
            text = f"its result {missing} is not there: does the driver see the workers' storage?"
            outcome = Outcome(SERVER, text)
        if outcome.kind == FINISHED:
            self._finished(worker, unit, outcome)
        elif outcome.kind == UNIT:
            self._decided(worker, *self.scheduler.unit_failed(worker, unit, outcome.text))
        elif outcome.kind == SERVER:
            failed = self.scheduler.server_failed(worker, unit, outcome.text, outcome.running)
            self._decided(worker, *failed)
        elif outcome.kind == CHANGED:
            self.scheduler.drop(worker, unit)
            self._writes.append(lambda: self.ledger.drop(unit))
            self._tell(Told("changed", unit, worker, outcome.text))
        else:
            raise Problem(outcome.text)

    def _finished(self, worker: str, unit: Unit, outcome: Outcome) -> None:
        self.scheduler.done(worker, unit, outcome.seconds)
        self.counts.done += 1
        self._stage(unit, outcome)
        self._tell(Told("done", unit, worker))

    def _stage(self, unit: Unit, outcome: Outcome) -> None:
        now = self._clock()

        def write() -> None:
            entries = self.store.place(unit, outcome.saved)
            self.ledger.staged(unit, entries, outcome.report, outcome.seconds, now)
            self._staged.append((unit, entries))

        self._writes.append(write)

    def joined(self, clip: Unit, outcome: Outcome) -> None:
        """Note that the parts of a clip were joined, or could not be."""
        if outcome.kind == FINISHED:
            self._stage(clip, outcome)
            self._tell(Told("joined", clip))
        elif outcome.kind == PROBLEM:
            raise Problem(outcome.text)
        else:
            clip, now = replace(clip, fault=outcome.text), self._clock()
            self._writes.append(lambda: self.ledger.aside(clip, now))
            self.counts.failed += 1
            self._tell(Told("failed", clip, text=outcome.text))

    def _decided(self, worker: str, verdict: str, unit: Unit) -> None:
        if verdict == ASIDE:
            now = self._clock()
            self._writes.append(lambda: self.ledger.aside(unit, now))
            self.counts.failed += 1
        else:
            self._writes.append(lambda: self.ledger.handed_again(unit))
        self._tell(Told("failed" if verdict == ASIDE else "again", unit, worker, unit.fault or ""))

    def leave(self, worker: str) -> None:
        """A worker is gone; what it had goes back."""
        self.scheduler.leave(worker)

    # The ledger and the disk

    def flush(self) -> None:
        """Write what has happened, and rename what is staged.

        Raises:
            Problem: the ledger or a result cannot be written; no unit is then done wrongly.
        """
        self._write_all()
        staged, self._staged = self._staged, []
        if staged:
            with self.ledger.transaction():
                self._renamed += self.store.publish(staged)

    def _write_all(self) -> None:
        if not self._writes and not self._renamed:
            return
        with self.ledger.transaction():
            self.ledger.done(self._renamed)
            for write in self._writes:
                write()
        self._writes.clear()
        self._renamed.clear()

    def settle(self) -> None:
        """Flush until the ledger says of every finished unit that it is done."""
        self.flush()
        self._write_all()


def _missing(saved: tuple[Saved, ...]) -> Path | None:
    for one in saved:
        if one.path is not None:
            with suppress(OSError):
                if one.path.stat().st_size == one.size:
                    continue
            return one.path
    return None
