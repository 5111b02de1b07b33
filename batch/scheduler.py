"""Who gets which unit, and what becomes of a fault.

Nothing here has threads, a clock or a server: it is told what happens and says what to do, so it
runs the same in a test with a simulated clock and in a run of a thousand workers. Workers pull:
each has one unit that is run and, while there is plenty, one that waits behind it, so that fast
ones get more and none sits on work at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .ledger import Unit
from .settings import Limits

AGAIN, ASIDE = "again", "aside"
BUFFER = 512


@dataclass
class Worker:
    """A worker as the scheduler knows it."""

    name: str
    lanes: int
    units: dict[int, Unit] = field(default_factory=dict)
    done: int = 0
    failed: int = 0
    seconds: float = 0.0


class Scheduler:
    """Hands out units and decides about faults.

    Args:
        more: gives up to so many further units, none when there are none for now.
        left: how many units wait beyond those handed over by `more`.
    """

    def __init__(
        self,
        more: Callable[[int], list[Unit]],
        left: Callable[[], int],
        limits: Limits | None = None,
    ):
        self._more, self._left = more, left
        self.limits = limits or Limits()
        self.workers: dict[str, Worker] = {}
        self._buffer: deque[Unit] = deque()
        self._back: deque[Unit] = deque()  # units that were tried and wait again
        self._keys: dict[bytes, int] = {}  # how often a key is in work
        self.stopped = False

    # Workers

    def join(self, name: str, lanes: int) -> None:
        self.workers[name] = Worker(name, lanes)

    def leave(self, name: str) -> list[Unit]:
        """Forget a worker; the units that it had go back."""
        worker = self.workers.pop(name, None)
        units = list(worker.units.values()) if worker else []
        for unit in units:
            self._forget(unit)
            self._back.append(unit)
        return units

    # Units

    @property
    def in_work(self) -> int:
        return sum(len(worker.units) for worker in self.workers.values())

    @property
    def waiting(self) -> int:
        return len(self._buffer) + len(self._back) + self._left()

    def take(self, name: str) -> Unit | None:
        """The next unit for a worker; None where it should have no more for now."""
        worker = self.workers.get(name)
        if worker is None or self.stopped or len(worker.units) >= worker.lanes:
            return None
        if worker.units and self.waiting <= len(self.workers):
            return None  # a second one would wait here while others are idle
        unit = self._next(name)
        if unit is not None:
            worker.units[unit.id] = unit
            self._keys[unit.key] = self._keys.get(unit.key, 0) + 1
        return unit

    def _next(self, name: str) -> Unit | None:
        unit = self._pick(self._back, lambda unit: unit.worker != name)
        if unit is None:
            if not self._buffer:
                self._buffer.extend(self._more(BUFFER))
            unit = self._pick(self._buffer, lambda unit: True)
        if unit is None:  # only what this worker had before
            unit = self._pick(self._back, lambda unit: True)
        return unit

    def _pick(self, queue: deque[Unit], fits: Callable[[Unit], bool]) -> Unit | None:
        """Take the first that fits and whose twin, of the same key, is not in work."""
        for index, unit in enumerate(queue):
            if unit.key not in self._keys and fits(unit):
                del queue[index]
                return unit
            if index > 64:
                break
        return None

    def _forget(self, unit: Unit) -> None:
        count = self._keys.pop(unit.key, 0) - 1
        if count > 0:
            self._keys[unit.key] = count

    def _end(self, name: str, unit: Unit) -> Worker | None:
        worker = self.workers.get(name)
        if worker is None or worker.units.pop(unit.id, None) is None:
            return None  # it has left, and its units went back
        self._forget(unit)
        return worker

    def has(self, name: str, unit: Unit) -> bool:
        """Whether a worker still has a unit in hand."""
        return name in self.workers and unit.id in self.workers[name].units

    def done(self, name: str, unit: Unit, seconds: float = 0.0) -> None:
        worker = self._end(name, unit)
        if worker:
            worker.done += 1
            worker.seconds += seconds

    def drop(self, name: str, unit: Unit) -> None:
        """A unit is no longer to be done."""
        self._end(name, unit)

    def unit_failed(self, name: str, unit: Unit, text: str) -> tuple[str, Unit]:
        """A unit failed by itself: (AGAIN or ASIDE, the unit with what it has tried)."""
        unit = replace(unit, tries=unit.tries + 1, worker=name, fault=text)
        return self._decide(name, unit, unit.tries >= self.limits.tries)

    def server_failed(self, name: str, unit: Unit, text: str, running: bool) -> tuple[str, Unit]:
        """A server failed under a unit: it goes back, unless it has brought down many."""
        deaths = unit.deaths + running
        unit = replace(unit, deaths=deaths, worker=name, fault=text)
        return self._decide(name, unit, deaths >= self.limits.deaths)

    def _decide(self, name: str, unit: Unit, is_last: bool) -> tuple[str, Unit]:
        worker = self._end(name, unit)
        if worker and is_last:
            worker.failed += 1
        if is_last:
            return ASIDE, unit
        self._back.append(unit)
        return AGAIN, unit
