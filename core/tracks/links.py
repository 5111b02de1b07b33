"""The motion of things between many pairs of frames, measured while a clip is read once.

Of each thing only the patches of the last frames are held, as many as the longest lag, and none
after its last frame, so that the memory does not depend on the length of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

from ..clips import Frame
from ..geometry import Rect
from .motion import LAGS, Motion, Pair, Patch, expected, motions, patch_of

AT_ONCE = 16  # pairs that are compared side by side, so that a crowd needs no more memory


@dataclass(frozen=True, slots=True)
class Link:
    """How a thing moves between two frames of its course, which are counted from its first."""

    first: int
    second: int
    motion: Motion


@dataclass
class Links:
    """What is measured of one thing.

    Attributes:
        start: the first frame of its course, counted from the first of the clip.
        boxes: where it is about, in each frame of its course.
        hidden: frames of its course in which the pixels are those of something else.
        found: the links that were measured so far, and all between neighbouring frames.
    """

    start: int
    boxes: Sequence[Rect]
    hidden: Container[int] = ()
    found: list[Link] = field(default_factory=list)
    _patches: dict[int, Patch] = field(default_factory=dict)
    _known: dict[tuple[int, int], Motion] = field(default_factory=dict)  # by both frames

    def look(self, frames: Sequence[Frame], first: int) -> range:
        """Hold what some frames show of the thing, and forget what is too long ago.

        Args:
            frames: of the clip, the first of which has the number `first`.

        Returns:
            The frames of the course that these are.
        """
        low = max(0, first - self.start)
        high = min(len(self.boxes), first + len(frames) - self.start)
        self.forget(low - LAGS[-1])
        for place in range(low, high):
            if place in self.hidden:
                continue
            patch = patch_of(frames[place + self.start - first], self.boxes[place])
            if patch is not None:
                self._patches[place] = patch
        return range(low, high)

    def forget(self, before: float = math.inf) -> None:
        """Hold nothing of the frames of the course before this one, but what was found."""
        for old in [place for place in self._patches if place < before]:
            del self._patches[old]
        for old in [pair for pair in self._known if pair[1] < before]:
            del self._known[old]

    def pair(self, place: int, lag: int) -> tuple[Motion, Pair | None]:
        """What is expected to move from `lag` frames before to a frame, and what to compare."""
        first = place - lag
        start, near = expected(self.boxes[first], self.boxes[place]), False
        if lag > 1:
            middle = place - lag // 2
            halves = self._known[first, middle], self._known[middle, place]
            if all(own.measured for own in halves):
                start, near = halves[1].after(halves[0]), True
        before, after = self._patches.get(first), self._patches.get(place)
        if before is None or after is None:
            return start, None
        return start, Pair(before, after, start, near)

    def add(self, place: int, lag: int, motion: Motion) -> None:
        """Keep what moved from `lag` frames before to a frame."""
        self._known[place - lag, place] = motion
        if motion.measured or lag == 1:
            self.found.append(Link(place - lag, place, motion))


def measure(
    things: Sequence[Links],
    frames: Sequence[Frame],
    first: int,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Measure the motion of things to each of some frames, of all things side by side.

    Args:
        frames: those that follow the ones of the call before.
        first: the number of the first of them in the clip.
        check: called often; it may raise an error to stop.
    """
    check()
    places = [thing.look(frames, first) for thing in things]
    for lag in LAGS:
        open_pairs: list[tuple[Links, int, Pair]] = []
        for thing, own in zip(things, places, strict=True):
            for place in own:
                if place >= lag:
                    start, pair = thing.pair(place, lag)
                    if pair is None:
                        thing.add(place, lag, start)
                    else:
                        open_pairs.append((thing, place, pair))
        for start in range(0, len(open_pairs), AT_ONCE):
            check()
            part = open_pairs[start : start + AT_ONCE]
            moved = motions([pair for _, _, pair in part])
            for (thing, place, _), motion in zip(part, moved, strict=True):
                thing.add(place, lag, motion)
    for thing, own in zip(things, places, strict=True):
        if own.stop == len(thing.boxes):
            thing.forget()
