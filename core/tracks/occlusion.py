"""Which of two tracks is nearer to the camera where they meet, and how much it hides of the other.

Nothing measures the depth. But a thing that is hidden shows it: its detector misses it, or is less
sure of it, and what was found is smaller than usual, or looks like something else. For each meeting
of two tracks all of its frames together are asked by how much these signs are likelier if the one
is behind than if the other is (a sum of logarithms of likelihood ratios). So the order is the same
throughout a meeting. A meeting that tells nothing has the order of the nearest one of the same two
tracks that does; if there is none, nothing is said of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..geometry import Rect
from .finds import overlap
from .masks import ALONE, Met, seen_share
from .track import Sighting, Track, Tracks

TOUCHED = 0.05  # share of a box that another one covers from which on two things meet
APART = 4  # frames that two meetings are apart at least
CONTEXT = 24  # frames before and after a meeting that tell what is usual of a thing
BEYOND = 3  # frames after the end of a track in which it counts as missed
SHOWS = 0.85  # how likely a thing that is hidden as a whole is missed
HALF_SHOWS = 0.5  # of that, how likely a sign is in a frame in which it is found
COVERED = (0.3, 0.9)  # from no to all of a thing hidden, as shares of its box that are covered
TOLD = 1.5  # logarithm of the likelihood ratio from which on an order is known
MOST_TOLD = 3.0  # what one sign in one frame adds at most
FEWEST = 3  # frames from which on it is known what is usual
VISIBLE = (0.2, 0.5)  # shares of a thing that are seen, from which to which its result fades in


@dataclass(frozen=True)
class Hiding:
    """One track is behind another one, from one frame to another."""

    hidden: int  # positions in `Tracks.tracks`
    nearer: int
    first: int
    last: int
    fill: float = 0.0  # share of its box that the mask of the hidden one fills where all is seen

    def holds(self, frame: int) -> bool:
        """Whether it is so in a frame."""
        return self.first <= frame <= self.last


class Occlusions:
    """Which tracks are behind which others, in each frame.

    Tracks are named by their positions in `Tracks.tracks`.
    """

    def __init__(self, tracks: Tracks, hidings: Sequence[Hiding]) -> None:
        self._tracks = tracks.tracks
        self._behind: dict[int, list[Hiding]] = {}  # by the hidden track
        self._before: dict[int, list[Hiding]] = {}  # by the nearer one
        for own in hidings:
            self._behind.setdefault(own.hidden, []).append(own)
            self._before.setdefault(own.nearer, []).append(own)

    @classmethod
    def of(cls, tracks: Tracks) -> Occlusions:
        """What can be told of tracks."""
        return cls(tracks, list(_hidings(tracks)))

    def met(self, position: int, frame: int) -> Met:
        """The tracks that reach into the window of one in a frame, as far as the order is known."""
        nearer, behind = self._behind.get(position, ()), self._before.get(position, ())
        if not (nearer or behind):
            return ALONE
        window = self._tracks[position].at(frame).window
        return Met(
            self._there([own.nearer for own in nearer if own.holds(frame)], frame, window),
            self._there([own.hidden for own in behind if own.holds(frame)], frame, window),
        )

    def _there(self, positions: Sequence[int], frame: int, window: Rect) -> dict[int, Sighting]:
        found = ((position, self._tracks[position].at(frame)) for position in sorted(positions))
        return {at: own for at, own in found if own is not None and _reaches(own, window)}

    def parted(self, position: int, frame: int) -> Met:
        """As `met`; those behind are shown fully or, if little of them is seen, not at all."""
        met = self.met(position, frame)
        if not met.behind:
            return met
        shown = {at: float(mostly_seen(self.seen(at, frame))) for at in met.behind}
        return replace(met, shown=shown)

    def hiders(self, position: int, frame: int) -> dict[int, Sighting]:
        """The nearer tracks that reach into the box of one in a frame."""
        there = [own.nearer for own in self._behind.get(position, ()) if own.holds(frame)]
        if not there:
            return {}
        return self._there(there, frame, self._tracks[position].at(frame).box)

    def seen(self, position: int, frame: int) -> float:
        """The share of a track's thing that nearer ones leave in a frame, 0..1."""
        hiders = self.hiders(position, frame)
        if not hiders:
            return 1.0
        fill = max(own.fill for own in self._behind[position] if own.holds(frame))
        return seen_share(self._tracks[position].at(frame), Met(hiders), fill)

    def partly_seen(self, position: int) -> dict[int, float]:
        """The frames of a track in which nearer ones cover it, with the share that is seen."""
        if position not in self._behind:
            return {}
        shares = {frame: self.seen(position, frame) for frame in self._tracks[position].frames}
        return {frame: share for frame, share in shares.items() if share < 1}


def visibility(share: float) -> float:
    """How much of the result a frame takes of whose thing this share is seen, 0..1."""
    low, high = VISIBLE
    return min(1.0, max(0.0, (share - low) / (high - low)))


def mostly_seen(share: float) -> bool:
    """Whether results are shown rather than not of a thing of which this share is seen."""
    return visibility(share) >= 0.5


def _reaches(own: Sighting, into: Rect) -> bool:
    """Whether the box or the mask of a sighting reaches into a rectangle."""
    boxes = [own.box] if own.mask is None else [own.box, Rect.of_box(own.mask.box.as_tuple())]
    return any(overlap(box, into) > 0 for box in boxes)


# Who is nearer


def _hidings(tracks: Tracks) -> Iterator[Hiding]:
    traces = [_Trace.of(track, tracks) for track in tracks.tracks]
    pairs = list(_pairs(traces))
    for one, other in pairs:
        first, last, covers = _covers(traces[one], traces[other])
        for trace, own in zip((traces[one], traces[other]), covers, strict=True):
            there = trace.covered[first - trace.first : last + 1 - trace.first]
            np.maximum(there, own, out=there)
    for one, other in pairs:
        first, last, covers = _covers(traces[one], traces[other])
        meetings = _meetings(np.minimum(1.0, covers[0] + covers[1]))
        orders = [
            _order([
                traces[place].sign(range(first + start, first + stop), cover[start:stop])
                for place, cover in zip((one, other), covers, strict=True)
            ])
            for start, stop in meetings
        ]  # fmt: skip
        for order, meeting, held in _spread(orders, meetings, last + 1 - first):
            hidden, nearer = (one, other) if order == 0 else (other, one)
            fill = traces[hidden].fill(range(first + meeting[0], first + meeting[1]))
            yield Hiding(hidden, nearer, first + held[0], first + held[1] - 1, fill)


def _pairs(traces: Sequence[_Trace]) -> Iterator[tuple[int, int]]:
    """Pairs of tracks that share frames, by their places."""
    there: list[int] = []
    for place in sorted(range(len(traces)), key=lambda place: traces[place].first):
        own = traces[place]
        there = [other for other in there if traces[other].last >= own.first]
        yield from ((other, place) for other in there if traces[other].reaches(own))
        there.append(place)


def _order(signs: Sequence[float]) -> int | None:
    """Which of two is behind, by what speaks for each; None if that cannot be told."""
    behind = int(signs[1] > signs[0])
    told = min(signs[behind], signs[behind] - signs[1 - behind]) >= TOLD
    return behind if told else None


_Span = tuple[int, int]  # first place, and the one after the last


def _spread(
    orders: Sequence[int | None], meetings: Sequence[_Span], count: int
) -> Iterator[tuple[int, _Span, _Span]]:
    """The order of each meeting, the meeting, and the places out of `count` that have this order.

    Without an order of its own a meeting has that of the nearest one.
    """
    told = [place for place, order in enumerate(orders) if order is not None]
    if not told:
        return
    ends = [0, *((own[1] + after[0]) // 2 for own, after in pairwise(meetings)), count]
    for place, meeting in enumerate(meetings):
        near = min(told, key=lambda other, place=place: abs(other - place))
        yield orders[near], meeting, (ends[place], ends[place + 1])


def _meetings(covered: np.ndarray) -> list[_Span]:
    """The runs of places that are covered."""
    found: list[_Span] = []
    for place in np.flatnonzero(covered >= TOUCHED).tolist():
        if found and place - found[-1][1] < APART:
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
    return found


def _covers(one: _Trace, other: _Trace) -> tuple[int, int, tuple[np.ndarray, np.ndarray]]:
    """First and last common frame, and for each of two the share [n] that the other covers."""
    first, last = max(one.first, other.first), min(one.last, other.last)
    parts = [own.boxes[:, first - own.first : last + 1 - own.first] for own in (one, other)]
    common = np.ones(last + 1 - first)
    for centre, side in ((0, 2), (1, 3)):
        low = np.maximum(*(own[centre] - own[side] / 2 for own in parts))
        high = np.minimum(*(own[centre] + own[side] / 2 for own in parts))
        common *= np.maximum(0.0, high - low)
    covers = tuple(common / np.maximum(own[2] * own[3], 1e-6) for own in parts)
    return first, last, covers


@dataclass
class _Trace:
    """A track as arrays over its frames, and over some frames beyond its ends in its shot.

    There it counts as missed, since a thing may have been hidden for longer than gaps are bridged.
    """

    first: int
    boxes: np.ndarray  # [4,n]: x, y, width, height
    sightings: list[Sighting | None]  # [n], None beyond the ends
    covered: np.ndarray  # [n], the largest share of the box that another track covers

    @classmethod
    def of(cls, track: Track, tracks: Tracks) -> _Trace:
        start = max([0, *(cut for cut in tracks.cuts if cut <= track.first)])
        stop = min([tracks.frames, *(cut for cut in tracks.cuts if cut > track.last)])
        before = min(BEYOND, track.first - start)
        after = max(0, min(BEYOND, stop - 1 - track.last))
        boxes = np.array([(s.box.x, s.box.y, s.box.width, s.box.height) for s in track.sightings])
        boxes = np.pad(boxes.T, ((0, 0), (before, after)), mode="edge")
        sightings = [None] * before + list(track.sightings) + [None] * after
        return cls(track.first - before, boxes, sightings, np.zeros(len(sightings)))

    @property
    def last(self) -> int:
        return self.first + len(self.sightings) - 1

    def reaches(self, other: _Trace) -> bool:
        """Whether the ways of two things come near each other at all."""
        return all(
            (own[centre] - own[side] / 2).min() <= (far[centre] + far[side] / 2).max()
            for centre, side in ((0, 2), (1, 3))
            for own, far in ((self.boxes, other.boxes), (other.boxes, self.boxes))
        )

    def sign(self, frames: range, covers: np.ndarray) -> float:
        """What speaks for the thing being behind: a logarithm of a likelihood ratio.

        Args:
            frames: of a meeting.
            covers: [len(frames)], the share of the box that the other thing covers.
        """
        usual = self._usual(frames)
        if not any(self.found(place) for place in usual):
            return 0.0  # it is never seen alone
        misses = sum(not self.found(place) for place in usual)
        by_chance = (misses + 1) / (len(usual) + 10)
        places = range(frames.start - self.first, frames.stop - self.first)
        shown = SHOWS * _smooth((covers - COVERED[0]) / (COVERED[1] - COVERED[0]))
        here = np.array([self.found(place) for place in places])
        missed = np.log((by_chance + (1 - by_chance) * shown) / by_chance)
        total = float(np.where(here, np.log(1 - shown), missed).sum())
        for measure, floor in _SIGNS:
            known = _values(measure, [self.sightings[p] for p in usual if self.found(p)])
            known = known[np.isfinite(known)]
            if len(known) < FEWEST:
                continue
            middle = np.median(known)
            spread = max(floor, 1.5 * float(np.median(np.abs(known - middle))))
            values = _values(
                measure, [self.sightings[p] if self.found(p) else None for p in places]
            )
            total += float(_told(HALF_SHOWS * shown, (values - middle) / spread).sum())
        return total

    def fill(self, frames: range) -> float:
        """The share of its box that the mask fills next to some frames; 0 without masks."""
        known = [self.sightings[place] for place in self._usual(frames) if self.found(place)]
        shares = [
            np.exp(_mask_size(own)) / max(own.box.width * own.box.height, 1e-6)
            for own in known if own.mask is not None
        ]  # fmt: skip
        return float(np.median(shares)) if shares else 0.0

    def found(self, place: int) -> bool:
        """Whether the thing was found there."""
        own = self.sightings[place]
        return own is not None and not own.gap

    def _usual(self, frames: range) -> list[int]:
        """The places next to a meeting in which nothing covers the thing."""
        start, stop = frames.start - self.first, frames.stop - self.first
        free = [
            place for place in np.flatnonzero(self.covered < TOUCHED).tolist()
            if self.sightings[place] is not None
        ]  # fmt: skip
        before = [place for place in free if place < start]
        after = [place for place in free if place >= stop]
        return before[-CONTEXT:] + after[:CONTEXT]


def _smooth(share: np.ndarray) -> np.ndarray:
    """A step from 0 to 1 over shares 0..1."""
    share = share.clip(0, 1)
    return share * share * (3 - 2 * share)


def _told(shown: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """How much likelier values are if something shows in them, as logarithms; 0 for unknown ones.

    Usual values are normally distributed. Something that shows lowers a value by any amount up to
    ten spreads.

    Args:
        shown: [n], how likely something shows.
        spreads: [n], values in spreads from the usual one.
    """
    lower = np.where(np.isfinite(spreads), -spreads, 0.0).clip(0, 10)
    ratio = 0.1 * np.sqrt(2 * np.pi) * np.exp(lower**2 / 2)
    ratio = np.where(spreads > 0, 0.0, ratio)
    logarithms = np.log(1 - shown + shown * ratio).clip(-MOST_TOLD, MOST_TOLD)
    return np.where(np.isfinite(spreads), logarithms, 0.0)


# What shows that a thing is hidden: it is then lower than usual.


def _values(measure, sightings: Sequence[Sighting | None]) -> np.ndarray:
    return np.array([np.nan if own is None else measure(own) for own in sightings], float)


def _found_size(own: Sighting) -> float:
    """The size of what was found, as a logarithm, against the smooth course of the track."""
    if own.found is None:
        return np.nan
    areas = [max(box.width * box.height, 1e-6) for box in (own.found, own.box)]
    return float(np.log(areas[0] / areas[1]))


def _mask_size(own: Sighting) -> float:
    """The area of the mask as a logarithm."""
    if own.mask is None:
        return np.nan
    return float(np.log(max(float(own.mask.unpacked().sum(dtype=np.float64)), 1.0)))


def _likeness(own: Sighting) -> float:
    return np.nan if own.unlike is None else -own.unlike


# A measure, and its spread at least.
_SIGNS = (
    (lambda own: own.confidence, 0.05), (_found_size, 0.05), (_mask_size, 0.1), (_likeness, 0.03),
)  # fmt: skip
