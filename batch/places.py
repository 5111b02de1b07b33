"""Where workers are: threads of this process, which talk to children or to servers elsewhere."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .dispatch import Outcome, Task
from .faults import ServerFault
from .worker import Worker


@dataclass(frozen=True)
class Event:
    """What a place tells the driver.

    Attributes:
        kind: "joined", "left" or "outcome".
        place: of which place.
        text: why it left.
    """

    kind: str
    place: Place
    task: Task | None = None
    outcome: Outcome | None = None
    text: str = ""


class Place(Protocol):
    """A worker as the driver sees it. Its calls return at once; what happens comes as events."""

    name: str
    lanes: int

    def start(self, tell: Callable[[Event], object]) -> None:
        """Get ready; "joined" or "left" tells how that went."""

    def submit(self, task: Task) -> None:
        """Run a unit; "outcome" tells what became of it, or "left" that all goes back."""

    def stop(self) -> None:
        """End it, whatever it does."""


class LocalPlace:
    """A worker in threads of this process.

    Args:
        make: makes the worker; called once, in a thread.
    """

    def __init__(self, name: str, make: Callable[[], Worker], lanes: int = 2):
        self.name, self.lanes = name, lanes
        self._make = make
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._worker: Worker | None = None
        self._lock = threading.Lock()
        self._has_left = False
        self._tell: Callable[[Event], object] = lambda event: None

    def start(self, tell: Callable[[Event], object]) -> None:
        self._tell = tell
        self._spawn(self._begin)

    def _spawn(self, run: Callable[[], Any]) -> None:
        threading.Thread(target=run, name=self.name, daemon=True).start()

    def _begin(self) -> None:
        try:
            self._worker = self._make()
            self._worker.start()
        except Exception as error:
            self._leave(str(error))
            return
        self._tell(Event("joined", self))
        for _ in range(self.lanes):
            self._spawn(self._lane)

    def _lane(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                outcome = self._worker.run(task)
            except ServerFault as fault:
                self._leave(str(fault))
                return
            self._tell(Event("outcome", self, task, outcome))

    def _leave(self, why: str) -> None:
        with self._lock:
            has_left, self._has_left = self._has_left, True
        if not has_left:
            self._tell(Event("left", self, text=why))

    def submit(self, task: Task) -> None:
        self._tasks.put(task)

    def stop(self) -> None:
        for _ in range(self.lanes):
            self._tasks.put(None)
        if self._worker is not None:
            self._worker.stop()
