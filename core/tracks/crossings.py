"""Which thing is which after things have met: decided once, by what came before and after.

Frame by frame, two boxes that lie over one another are easily mistaken. Here each meeting of chains
is looked at as a whole. Their finds before and after it are compared by motion (straight lines are
fitted to both and compared in the middle) and by looks (means over many finds), and the parts after
the meeting are given to those before it one to one, with the least sum of costs. Then the finds
within the meeting are given to the paths that lead through it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .association import BOX_NOISE, START, assigned
from .finds import Chain, Find

MEETING = 0.15  # share of the smaller box that is covered from which on two things meet
CONTEXT = 12  # finds before and after a meeting that are compared
APART = 2  # frames that two meetings are apart at least
BEND = 0.008  # spread of a thing's acceleration within a meeting, as a share of its size
MOST_MOTION, MOST_LOOKS = 30.0, 60.0  # what motion and looks add to a cost at most
STAY = 3.0  # by how much another way has to be better
LOOKS_FLOOR = 0.03  # spread of the looks of one thing at least


@dataclass(frozen=True)
class _Meeting:
    """Some chains that lie over one another, from one frame to another."""

    first: int
    last: int
    chains: frozenset[int]


def untangled(chains: Sequence[Chain]) -> list[Chain]:
    """The chains, with those that were mistaken for one another while they met put right.

    Every find stays in exactly one chain. Chains with an object id are left as they are.
    """
    result = [list(chain) for chain in chains]
    meetings = _Meetings(result)
    done: tuple[int, int, list[int]] = (-1, -1, [])
    waiting = deque(meetings.merged())
    while waiting:
        meeting = waiting.popleft()
        if _order(meeting) <= done:
            continue
        done = _order(meeting)
        if _put_right(result, meeting):
            meetings.look_again(meeting.chains)
            waiting = deque(meetings.merged())  # later ones are those of other chains
    return [chain for chain in result if chain]


def _order(meeting: _Meeting) -> tuple[int, int, list[int]]:
    return meeting.first, meeting.last, sorted(meeting.chains)


@dataclass(frozen=True)
class _Course:
    """Where a chain is: its frames [n], increasing, and x, y, width and height there [4,n]."""

    frames: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, chain: Chain) -> _Course:
        boxes = [(f.box.x, f.box.y, f.box.width, f.box.height) for f in chain]
        return cls(np.array([find.frame for find in chain]), np.array(boxes).reshape(-1, 4).T)

    def at(self, frames: np.ndarray) -> np.ndarray:
        """[4,n]: x, y, width and height in some frames."""
        return np.stack([np.interp(frames, self.frames, values) for values in self.boxes])


class _Meetings:
    """The meetings of chains of one label, which are known again after some chains were changed.

    Args:
        chains: all of them; those with an object id meet nothing.
    """

    def __init__(self, chains: Sequence[Chain]) -> None:
        self._chains = chains
        self._courses: dict[int, _Course] = {}
        self._spans: dict[tuple[int, int], list[tuple[int, int]]] = {}  # by two chains
        self.look_again(range(len(chains)))

    def look_again(self, changed: Collection[int]) -> None:
        """Find the meetings of chains that were changed."""
        for place in changed:
            self._courses[place] = _Course.of(self._chains[place])
        kept = {pair: own for pair, own in self._spans.items() if not set(pair) & set(changed)}
        self._spans = kept | {
            (one, other): _spans_of(self._courses[one], self._courses[other])
            for one, other in self._at_one_time()
            if one in changed or other in changed
        }

    def _at_one_time(self) -> Iterator[tuple[int, int]]:
        """The pairs of chains that may meet, since they are in the same frames."""
        free = [
            place for place, chain in enumerate(self._chains)
            if chain and chain[0].object_id is None
        ]  # fmt: skip
        there: list[int] = []
        for place in sorted(free, key=lambda place: self._chains[place][0].frame):
            first = self._chains[place][0]
            there = [other for other in there if self._chains[other][-1].frame >= first.frame]
            for other in there:
                if self._chains[other][0].label == first.label:
                    yield place, other
            there.append(place)

    def merged(self) -> list[_Meeting]:
        """All meetings in order; those that share chains and touch in time are one."""
        found = [
            _Meeting(first, last, frozenset(pair))
            for pair, spans in self._spans.items()
            for first, last in spans
        ]
        merged: list[_Meeting] = []
        for one in sorted(found, key=_order):
            for other in [
                m for m in merged if m.last + APART >= one.first and m.chains & one.chains
            ]:
                merged.remove(other)
                one = _Meeting(
                    min(one.first, other.first), max(one.last, other.last),
                    one.chains | other.chains,
                )  # fmt: skip
            merged.append(one)
        return sorted(merged, key=_order)


def _spans_of(one: _Course, other: _Course) -> list[tuple[int, int]]:
    """The first and the last frame of each time that two chains lie over one another."""
    first = max(one.frames[0], other.frames[0])
    last = min(one.frames[-1], other.frames[-1])
    frames = np.arange(first, last + 1)
    close = _covered(one.at(frames), other.at(frames)) >= MEETING
    spans: list[tuple[int, int]] = []
    for frame in frames[close].tolist():
        if spans and frame - spans[-1][1] <= APART:
            spans[-1] = (spans[-1][0], frame)
        else:
            spans.append((frame, frame))
    return spans


def _covered(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[n]: share of the smaller of two boxes [4,n] that the other covers."""
    common = np.ones(one.shape[1])
    for centre, side in ((0, 2), (1, 3)):
        ends = [(box[centre] - box[side] / 2, box[centre] + box[side] / 2) for box in (one, other)]
        common *= np.maximum(
            0, np.minimum(ends[0][1], ends[1][1]) - np.maximum(ends[0][0], ends[1][0])
        )
    return common / np.maximum(np.minimum(one[2] * one[3], other[2] * other[3]), 1e-6)


def _put_right(chains: list[Chain], meeting: _Meeting) -> bool:
    """Give the parts of the chains after a meeting to those before it, in place.

    Returns:
        Whether any was given to another one.
    """
    places = sorted(meeting.chains)
    heads = [[f for f in chains[i] if f.frame < meeting.first] for i in places]
    tails = [[f for f in chains[i] if f.frame > meeting.last] for i in places]
    if sum(map(bool, heads)) < 2 or sum(map(bool, tails)) < 2:
        return False
    inner = [f for i in places for f in chains[i] if meeting.first <= f.frame <= meeting.last]
    order = _pairs(heads, tails)
    if order == list(range(len(places))):
        return False
    paths = [(heads[row], tails[column]) for row, column in enumerate(order)]
    shares = _dealt(inner, paths)
    for place, (head, tail), share in zip(places, paths, shares, strict=True):
        chains[place] = [*head, *share, *tail]
    return True


def _pairs(heads: Sequence[Chain], tails: Sequence[Chain]) -> list[int]:
    """For each part before a meeting, the number of the part after it."""
    costs = np.array([[_difference(head, tail) for tail in tails] for head in heads])
    costs -= STAY * np.eye(len(heads))
    return [int(column) for _, column in assigned(costs, 1e9)]


def _difference(head: Chain, tail: Chain) -> float:
    """What speaks against two parts being one thing."""
    if not head or not tail:
        return MOST_MOTION / 2
    before, after = head[-CONTEXT:], tail[:CONTEXT]
    return _motion_cost(before, after) + _looks_cost(before, after)


def _motion_cost(before: Chain, after: Chain) -> float:
    middle = (before[-1].frame + after[0].frame) / 2
    size = float(np.median([find.size for find in (*before, *after)]))
    one, other = _line(before, middle, size), _line(after, middle, size)
    square = sum(
        (one[0][axis] - other[0][axis]) ** 2 / (one[1] + other[1])
        + (one[2][axis] - other[2][axis]) ** 2 / (one[3] + other[3])
        for axis in (0, 1)
    )
    sizes = [np.log([max(find.size, 1e-3) for find in part]) for part in (before, after)]
    spread = BOX_NOISE**2 * sum(1 / len(own) for own in sizes) + 0.05**2
    square += (sizes[0].mean() - sizes[1].mean()) ** 2 / spread
    return min(float(square) / 2, MOST_MOTION)


def _line(part: Chain, at: float, size: float) -> tuple[np.ndarray, float, np.ndarray, float]:
    """A line through the centres: place [2] at a time and its variance, velocity and its variance.

    The variances are those of least squares, and what an acceleration adds.
    """
    times = np.array([find.frame for find in part], dtype=float)
    centres = np.array([(find.box.x, find.box.y) for find in part])
    noise, bend = (BOX_NOISE * size) ** 2, (BEND * size) ** 2
    mean = times.mean()
    spread = ((times - mean) ** 2).sum()
    ahead = abs(at - times[-1 if at > mean else 0]) + len(part) / 2
    if spread == 0:
        return centres[0], noise + (0.1 * size * ahead) ** 2, np.zeros(2), (0.2 * size) ** 2
    velocity = ((times - mean)[:, None] * centres).sum(0) / spread
    place = centres.mean(0) + velocity * (at - mean)
    variance = noise * (1 / len(part) + (at - mean) ** 2 / spread) + bend * ahead**4 / 4
    return place, variance, velocity, noise / spread + bend * ahead**2


def _looks_cost(before: Chain, after: Chain) -> float:
    known = [
        np.array([find.looks for find in part if find.looks is not None])
        for part in (before, after)
    ]
    if not all(map(len, known)):
        return 0.0
    means = [own.mean(0) for own in known]
    spreads = [
        float(((own - mean) ** 2).sum(1).mean()) for own, mean in zip(known, means, strict=True)
    ]
    variance = LOOKS_FLOOR**2 + sum(
        spread / len(own) for own, spread in zip(known, spreads, strict=True)
    )
    return min(float(((means[0] - means[1]) ** 2).sum()) / variance / 2, MOST_LOOKS)


def _dealt(inner: Sequence[Find], paths: Sequence[tuple[Chain, Chain]]) -> list[Chain]:
    """The finds within a meeting, given to the paths through it frame by frame."""
    shares: list[Chain] = [[] for _ in paths]
    for frame in sorted({find.frame for find in inner}):
        finds = [find for find in inner if find.frame == frame]
        costs = np.array([[_distance(path, find) for path in paths] for find in finds])
        for row, column in assigned(costs, 1e9):
            shares[column].append(finds[row])
    return shares


def _distance(path: tuple[Chain, Chain], find: Find) -> float:
    """How far a find is from the straight way between the parts before and after a meeting.

    A path without both, of something that was found within the meeting only, may be anywhere.
    """
    ends = [part for part in (path[0][-3:], path[1][:3]) if part]
    if not ends:
        return START
    times = [float(np.mean([one.frame for one in part])) for part in ends]
    expected = [
        np.interp(find.frame, times, [np.mean([value(one) for one in part]) for part in ends])
        for value in (lambda one: one.box.x, lambda one: one.box.y, lambda one: one.size)
    ]
    away = np.hypot(find.box.x - expected[0], find.box.y - expected[1]) / max(expected[2], 1e-3)
    return float((away / (2 * BOX_NOISE)) ** 2 / 2) + _looks_distance(path, find)


def _looks_distance(path: tuple[Chain, Chain], find: Find) -> float:
    known = [one.looks for part in (path[0][-3:], path[1][:3]) for one in part]
    known = [looks for looks in known if looks is not None]
    if find.looks is None or not known:
        return 0.0
    square = float(((np.mean(known, axis=0) - find.looks) ** 2).sum())
    return min(square / (2 * (3 * LOOKS_FLOOR) ** 2), MOST_LOOKS)
