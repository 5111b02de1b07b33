"""Where the time of a node's run goes: every moment belongs to one stage.

`measured` opens a watch for what runs inside, and `stage` says what is worked on there. Stages may
lie in one another: the inner one counts, so that all of them together are the whole time.

Time is that of the clock on the wall. A device that is given work and answers later is not waited
for, as that would slow the run: its time counts for the stage that first needs what it makes.
ComfyUI's samplers and VAEs hand their results over in the CPU's memory, so that is the stage
itself, unless ComfyUI keeps everything on the device (`--gpu-only`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

DETECT, TEXT, RESIZE, ENCODE = "detect", "text", "resize", "encode"
SAMPLE, DECODE, PASTE = "sample", "decode", "paste"
REPORT, OTHER = "report", "other"  # to tell of the run; all that is none of these
STAGES = (DETECT, TEXT, RESIZE, ENCODE, SAMPLE, DECODE, PASTE, REPORT, OTHER)

Clock = Callable[[], float]  # seconds, from any beginning


class Stopwatch:
    """How long each stage has taken."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self.begun = clock()
        self.claimed = False  # by the run of a detailer
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._stage, self._since = OTHER, self.begun

    def switch(self, stage: str) -> str:
        """Go on with another stage; which it was before."""
        now, before = self.clock(), self._stage
        self._seconds[before] += now - self._since
        self._stage, self._since = stage, now
        return before

    def read(self) -> tuple[float, dict[str, float]]:
        """Seconds since the watch was opened, and those of each stage."""
        self.switch(self._stage)
        return self.clock() - self.begun, dict(self._seconds)


_watch: ContextVar[Stopwatch | None] = ContextVar("detailers_stopwatch", default=None)


@contextmanager
def measured(clock: Clock = time.perf_counter) -> Iterator[Stopwatch]:
    """Measure what runs inside, apart from what is measured outside."""
    watch = Stopwatch(clock)
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


@contextmanager
def measured_once() -> Iterator[Stopwatch]:
    """As `measured`, with the watch that is open already where no run has claimed it."""
    watch = _watch.get()
    if watch is not None and not watch.claimed:
        yield watch
        return
    with measured() as own:
        yield own


@contextmanager
def claimed() -> Iterator[Stopwatch]:
    """The watch of a run that goes on inside, which is no other run's."""
    with measured_once() as watch:
        watch.claimed = True
        yield watch


def current() -> Stopwatch | None:
    """The watch that is open."""
    return _watch.get()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """What runs inside belongs to a stage, one of STAGES."""
    watch = _watch.get()
    if watch is None:
        yield
        return
    before = watch.switch(name)
    try:
        yield
    finally:
        watch.switch(before)
