"""The line that tells how far the run is."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from .dispatch import Counts, Told
from .scheduler import Scheduler

EVERY = 0.5  # seconds between two lines on a terminal
EVERY_ELSEWHERE = 15.0
WINDOW = 120.0  # seconds over which the rate is taken


class Rate:
    """Units per second of late, by a clock that is never set back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def seen(self, done: int) -> None:
        now = self._clock()
        if done != self._seen[-1][1]:
            self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > WINDOW:
            self._seen.popleft()

    def per_second(self) -> float:
        (first, before), (_, after) = self._seen[0], self._seen[-1]
        elapsed = self._clock() - first
        return (after - before) / elapsed if elapsed > 0 else 0.0


class Progress:
    """Tells of a run while it goes on: a line for people, JSON lines for machines."""

    def __init__(
        self,
        scheduler: Scheduler,
        counts: Counts,
        as_json: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.scheduler, self.counts = scheduler, counts
        self.as_json = as_json
        self.stream = stream or sys.stdout
        self.is_scanned = False
        self._clock = clock
        self._rate = Rate(clock)
        self._last = float("-inf")
        self._line = ""

    # What happens

    def told(self, told: Told) -> None:
        """A unit has ended, or goes back."""
        if self.as_json:
            content = {"event": told.kind, "input": told.unit.input, "worker": told.worker}
            if told.unit.part >= 0:
                content["part"] = told.unit.part
            if told.text:
                content["fault"] = told.text
            self._write(json.dumps(content))
        elif told.kind == "failed":
            self.say(f"set aside: {told.unit.input}: {told.text}")

    def say(self, text: str, **content: object) -> None:
        """A line of its own."""
        if self.as_json:
            self._write(json.dumps({"event": "told", "text": text, **content}))
        else:
            self._clear()
            self._write(text)
            self._last = float("-inf")

    # How far it is

    @property
    def left(self) -> int:
        return max(self.scheduler.waiting, 0) + self.scheduler.in_work

    def figures(self) -> dict:
        rate = self._rate.per_second()
        counts = self.counts
        return {
            "done": counts.done + counts.before,
            "done_before": counts.before,
            "left": self.left,
            "failed": counts.failed,
            "scanned": self.is_scanned,
            "units_per_minute": round(rate * 60, 2),
            "seconds_left": round(self.left / rate, 1) if rate and self.is_scanned else None,
            "workers": {
                name: {"done": worker.done, "failed": worker.failed, "at_work": len(worker.units)}
                for name, worker in self.scheduler.workers.items()
            },
        }

    def tick(self, force: bool = False) -> None:
        """Show how far it is, if it is time to."""
        self._rate.seen(self.counts.done)
        now = self._clock()
        pause = EVERY if self.stream.isatty() or self.as_json else EVERY_ELSEWHERE
        if not force and now - self._last < pause:
            return
        self._last = now
        figures = self.figures()
        if self.as_json:
            self._write(json.dumps({"event": "progress", **figures}))
            return
        line = as_line(figures)
        if self.stream.isatty():
            self._clear()
            self.stream.write(line)
            self.stream.flush()
            self._line = line
        elif line != self._line:
            self._write(line)
            self._line = line

    def end(self) -> None:
        if self.stream.isatty() and not self.as_json:
            self._clear()

    def _clear(self) -> None:
        if self.stream.isatty():
            self.stream.write("\r\033[K")

    def _write(self, text: str) -> None:
        self.stream.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
        self.stream.flush()


def as_line(figures: dict, most_workers: int = 8) -> str:
    """The figures in a line."""
    total = figures["done"] + figures["left"] + figures["failed"]
    parts = [
        f"{figures['done']}/{total}{'' if figures['scanned'] else '+'} done",
        f"{figures['left']} left",
        f"{figures['failed']} failed",
        f"{figures['units_per_minute']:.1f} units/min",
    ]
    if figures["seconds_left"] is not None:
        parts.append(f"{duration(figures['seconds_left'])} left")
    workers = figures["workers"]
    if len(workers) <= most_workers:
        parts += [f"{name} {worker['done']}" for name, worker in workers.items()]
    else:
        done = [worker["done"] for worker in workers.values()]
        parts.append(f"{len(workers)} workers, {min(done)} to {max(done)} each")
    return " | ".join(parts)


def duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"
