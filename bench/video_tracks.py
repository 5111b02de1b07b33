"""How well tracks follow the heads of clips: their windows against the true paths, and who is who.

What is compared is the middle of a window with the middle of the true head, in frames in which all
of the head is seen. A window may be off by the same in all frames; only its unrest counts. The
middle of the head's bounds is one truth, and the middle that moves with the head another one: the
bounds of a head that leans move over it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dev.metrics import wander
from dev.miniature.clips import Box, Clip, Detection

from .quality_tables import markdown

WHOLE = 0.995  # share of a head that is seen, where a path is compared
LOST = -1  # the person of a track in which nothing was detected
Point = tuple[float, float]
Tracks = Any  # of core/tracks/track.py in the pack that is measured


@dataclass(frozen=True)
class Followed:
    """How the tracks of a clip were.

    Attributes:
        wander: unrest of the windows' middles in pixels (RMS).
        step: how unlike the unrest of two frames in a row is, in pixels (RMS): what the eye sees.
        raw: unrest of the detected boxes.
        raw_step: how unlike that of two frames in a row is.
        size_wander: unrest of the windows' widths over their own size, in per cent (RMS).
        head: mean width of the heads in pixels.
        switches: how often a track goes on with another person.
        tracks: how many there are.
        appearances: how often somebody comes into the picture, or is there at its beginning.
        gaps: frames of the tracks in which nothing was detected.
        frames: frames of all tracks.
        off_path: unrest against the middles that move with the heads, in pixels (RMS).
        bounds: unrest of those middles themselves against the bounds: what a window has that moves
            with the head exactly.
    """

    name: str
    wander: float
    step: float
    raw: float
    raw_step: float
    size_wander: float
    head: float
    switches: int
    tracks: int
    appearances: int
    gaps: int
    frames: int
    off_path: float
    bounds: float


@dataclass
class _Paths:
    """Places of windows or boxes that are compared with the true ones, added up over tracks."""

    squares: float = 0.0
    count: int = 0
    step_squares: float = 0.0
    steps: int = 0

    def add(self, places: Sequence[tuple[int, Point, Point]]) -> None:
        """Frame, place and true place for all frames of a track that are compared."""
        if not places:
            return
        frames = np.array([frame for frame, _, _ in places])
        found = np.array([place for _, place, _ in places])
        true = np.array([place for _, _, place in places])
        self.squares += wander(found, true) ** 2 * len(found)
        self.count += len(found)
        steps = np.diff(found - true, axis=0)[np.diff(frames) == 1]
        self.step_squares += float(np.square(steps).sum())
        self.steps += len(steps)

    @property
    def unrest(self) -> float:
        return (self.squares / max(self.count, 1)) ** 0.5

    @property
    def step(self) -> float:
        return (self.step_squares / max(self.steps, 1)) ** 0.5


def measure_tracks(clip: Clip, found: Sequence[Sequence[Detection]], tracks: Tracks) -> Followed:
    """Compare tracks, and what they were made of, with the truth of their clip."""
    heads = [[_whole_head(clip, p, f) for f in range(len(clip))] for p in clip.persons]
    windows, boxes, off_path, bounds = (_Paths() for _ in range(4))
    sizes: list[np.ndarray] = []
    for track in tracks.tracks:
        person = person_of(track, found)
        true_of = [None] * len(clip) if person == LOST else heads[person]
        compared = [own for own in track.sightings if true_of[own.frame]]
        rows = [
            (own.frame, (own.window.x, own.window.y), _middle(true_of[own.frame]),
             clip.middle(person, own.frame))
            for own in compared
        ]  # fmt: skip
        windows.add([(frame, window, box) for frame, window, box, _ in rows])
        off_path.add([(frame, window, middle) for frame, window, _, middle in rows])
        bounds.add([(frame, middle, box) for frame, _, box, middle in rows])
        if compared:
            true = np.array([true_of[own.frame] for own in compared])
            ratios = np.array([own.window.width for own in compared]) / (true[:, 2] - true[:, 0])
            sizes.append(ratios / ratios.mean())
    for person in clip.persons:
        boxes.add([(frame, _middle(one.box), _middle(heads[person][frame]))
                   for frame, here in enumerate(found) for one in here
                   if one.person == person and heads[person][frame]])  # fmt: skip
    widths = [head[2] - head[0] for own in heads for head in own if head]
    persons = [persons_of(track, found) for track in tracks.tracks]
    return Followed(
        clip.name, windows.unrest, windows.step, boxes.unrest, boxes.step,
        100 * float(np.sqrt(np.square(np.concatenate([np.ones(1), *sizes]) - 1).mean())),
        float(np.mean(widths)), sum(map(switches, persons)), len(tracks.tracks),
        appearances(clip), sum(own.gap for track in tracks.tracks for own in track.sightings),
        sum(len(track.sightings) for track in tracks.tracks), off_path.unrest, bounds.unrest,
    )  # fmt: skip


def _whole_head(clip: Clip, person: int, frame: int) -> Box | None:
    """The head's box where all of the head is seen."""
    return clip.head(person, frame) if clip.seen(person, frame) >= WHOLE else None


def persons_of(track: Any, found: Sequence[Sequence[Detection]]) -> list[int]:
    """Whom a track shows in each frame in which something was detected."""
    persons = []
    for own in track.sightings:
        here = found[own.frame]
        if not own.gap and here:
            sides = np.array([one.box for one in here]) - own.box.sides
            persons.append(here[int(np.abs(sides).sum(1).argmin())].person)
    return persons


def switches(persons: Sequence[int]) -> int:
    """How often a row of persons changes."""
    return sum(one != other for one, other in pairwise(persons))


def appearances(clip: Clip) -> int:
    """How often somebody comes into the picture, those at its beginning and after cuts too."""
    count = 0
    for person in clip.persons:
        there = False
        for frame in range(len(clip)):
            now = clip.seen(person, frame) > 0
            count += now and (not there or frame in clip.cuts)
            there = now
    return count


def across_cut(clip: Clip, whole: Tracks, parts: Sequence[Tracks]) -> tuple[float, int]:
    """What cuts do to the windows.

    Args:
        whole: the tracks of the clip.
        parts: those of each part between cuts, made of that part alone.

    Returns:
        The largest difference of a window's side, in pixels, between the whole and the parts; and
        the number of tracks that go on across a cut.
    """
    starts = (0, *clip.cuts)
    expected = {}
    for start, part in zip(starts, parts, strict=True):
        for track in part.tracks:
            for own in track.sightings:
                expected[start + own.frame, round(own.box.x), round(own.box.y)] = own.window.sides
    largest = 0.0
    for track in whole.tracks:
        for own in track.sightings:
            sides = expected.get((own.frame, round(own.box.x), round(own.box.y)))
            if sides is None:
                return float("inf"), sum(_crosses(clip, one) for one in whole.tracks)
            largest = max(largest, float(np.abs(np.subtract(sides, own.window.sides)).max()))
    return largest, sum(_crosses(clip, track) for track in whole.tracks)


def _crosses(clip: Clip, track: Any) -> bool:
    return any(track.first < cut <= track.last for cut in clip.cuts)


def person_of(track: Any, found: Sequence[Sequence[Detection]]) -> int:
    """Whom a track shows in most frames; LOST if nothing was detected."""
    persons = persons_of(track, found)
    return Counter(persons).most_common(1)[0][0] if persons else LOST


def _middle(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


HEAD = (
    "clip", "heads, px", "boxes: unrest, px", "from frame to frame", "windows: unrest, px",
    "against bounds", "bounds themselves", "from frame to frame", "size: unrest", "switches",
    "tracks", "appearances", "frames in gaps",
)  # fmt: skip


def tracks_table(all_followed: Sequence[Followed]) -> str:
    """A line for each clip."""
    return markdown(HEAD, [_cells(one) for one in all_followed])


def _cells(one: Followed) -> list[str]:
    return [
        one.name, f"{one.head:.0f}", f"{one.raw:.2f}", f"{one.raw_step:.2f}",
        f"{one.off_path:.2f}", f"{one.wander:.2f}", f"{one.bounds:.2f}", f"{one.step:.2f}",
        f"{one.size_wander:.2f}%", str(one.switches), str(one.tracks), str(one.appearances),
        f"{one.gaps} of {one.frames}",
    ]  # fmt: skip
