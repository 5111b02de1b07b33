"""The time that each stage of a node's run takes. Every moment belongs to one stage.

`measured` opens a stopwatch for the code inside it, and `stage` names the stage of the code inside
it. Where stages are nested, only the innermost one counts, so the sum of all stages is the whole
time.

Times are wall times. The stopwatch never waits for a device that works in the background, because
that would slow the run. The time of such work belongs to the stage that first needs the result.
ComfyUI's samplers and VAEs return their results in CPU memory, so this is normally the stage that
asked for the work; it is not with `--gpu-only`, which keeps all results on the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

DETECT, TEXT, RESIZE, ENCODE = "detect", "text", "resize", "encode"
SAMPLE, DECODE, PASTE = "sample", "decode", "paste"
REPORT, OTHER = "report", "other"  # pictures and messages about the run; everything else
STAGES = (DETECT, TEXT, RESIZE, ENCODE, SAMPLE, DECODE, PASTE, REPORT, OTHER)

Clock = Callable[[], float]  # seconds since any moment


class Stopwatch:
    """Adds up the time of each stage.

    Attributes:
        claimed: whether the run of a detailer uses it already.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self.begun = clock()
        self.claimed = False
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._stage, self._since = OTHER, self.begun

    def switch(self, stage: str) -> str:
        """Start a stage, one of STAGES, and return the one that was running before."""
        now, before = self.clock(), self._stage
        self._seconds[before] += now - self._since
        self._stage, self._since = stage, now
        return before

    def read(self) -> tuple[float, dict[str, float]]:
        """Seconds since the stopwatch was made, and the seconds of each stage."""
        self.switch(self._stage)
        return self.clock() - self.begun, dict(self._seconds)


_watch: ContextVar[Stopwatch | None] = ContextVar("detailers_stopwatch", default=None)


@contextmanager
def measured(clock: Clock = time.perf_counter) -> Iterator[Stopwatch]:
    """Open a new stopwatch for the code inside."""
    watch = Stopwatch(clock)
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


@contextmanager
def measured_once() -> Iterator[Stopwatch]:
    """As `measured`, but keep the stopwatch that is open if no run has claimed it."""
    watch = _watch.get()
    if watch is not None and not watch.claimed:
        yield watch
        return
    with measured() as own:
        yield own


@contextmanager
def claimed() -> Iterator[Stopwatch]:
    """A stopwatch for the run of a detailer inside, which no other run uses."""
    with measured_once() as watch:
        watch.claimed = True
        yield watch


def current() -> Stopwatch | None:
    """The stopwatch that is open, or None."""
    return _watch.get()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """The code inside belongs to a stage, one of STAGES."""
    watch = _watch.get()
    if watch is None:
        yield
        return
    before = watch.switch(name)
    try:
        yield
    finally:
        watch.switch(before)
