"""How well tracks follow the heads of clips: their windows against the true paths, and who is who.

What is compared is the middle of a window with the middle of the true head, in frames in which all
of the head is seen. A window may be off by the same in all frames; only its unrest counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from dev.metrics import wander
from dev.miniature.clips import Clip, Detection

from .quality_tables import markdown

WHOLE = 0.995  # share of a head that is seen, where a path is compared
Tracks = Any  # of core/tracks/track.py in the pack that is measured
Follow = Callable[[Clip, Sequence[Sequence[Detection]], range], Tracks]


@dataclass(frozen=True)
class Followed:
    """How the tracks of a clip were.

    Attributes:
        wander: unrest of the windows' middles in pixels (RMS).
        raw: that of the detected boxes.
        size_wander: unrest of the windows' widths over their own size, in per cent (RMS).
        head: mean width of the heads in pixels.
        switches: how often a track goes on with another person.
        tracks: how many there are.
        appearances: how often somebody comes into the picture, or is there at its beginning.
        gaps: frames of the tracks in which nothing was detected.
        frames: frames of all tracks.
    """

    name: str
    wander: float
    raw: float
    size_wander: float
    head: float
    switches: int
    tracks: int
    appearances: int
    gaps: int
    frames: int


@dataclass
class _Path:
    """Places that are compared: of windows and of the true heads."""

    found: list[tuple[float, ...]] = field(default_factory=list)
    true: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def unrest(self) -> float:
        return wander(np.array(self.found), np.array(self.true)) if self.found else 0.0


def measure_tracks(clip: Clip, found: Sequence[Sequence[Detection]], tracks: Tracks) -> Followed:
    """Compare tracks with the truth of their clip."""
    whole = [[clip.seen(p, f) >= WHOLE for f in range(len(clip))] for p in clip.persons]
    squares, raw_squares, size_squares, widths, count, raw_count = 0.0, 0.0, 0.0, [], 0, 0
    for track in tracks.tracks:
        person = _most(persons_of(track, found))
        path, raw, sizes = _Path(), _Path(), []
        for own in track.sightings:
            head = clip.head(person, own.frame) if person is not None else None
            if head is None or not whole[person][own.frame]:
                continue
            path.found.append((own.window.x, own.window.y))
            path.true.append(_middle(head))
            sizes.append(own.window.width / (head[2] - head[0]))
            widths.append(head[2] - head[0])
            if not own.gap:
                raw.found.append((own.box.x, own.box.y))
                raw.true.append(_middle(head))
        squares += path.unrest**2 * len(path.found)
        raw_squares += raw.unrest**2 * len(raw.found)
        if sizes:
            size_squares += np.var(np.array(sizes) / np.mean(sizes)) * len(sizes)
        count, raw_count = count + len(path.found), raw_count + len(raw.found)
    return Followed(
        clip.name,
        (squares / max(count, 1)) ** 0.5,
        (raw_squares / max(raw_count, 1)) ** 0.5,
        100 * (size_squares / max(count, 1)) ** 0.5,
        float(np.mean(widths)) if widths else 0.0,
        sum(switches(persons_of(track, found)) for track in tracks.tracks),
        len(tracks.tracks),
        appearances(clip),
        sum(own.gap for track in tracks.tracks for own in track.sightings),
        sum(len(track.sightings) for track in tracks.tracks),
    )  # fmt: skip


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


def _most(persons: Sequence[int]) -> int | None:
    return Counter(persons).most_common(1)[0][0] if persons else None


def _middle(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


HEAD = (
    "clip", "heads, px", "detected: unrest, px", "window: unrest, px", "of the head",
    "size: unrest", "switches", "tracks", "of people", "frames in gaps",
)  # fmt: skip


def tracks_table(all_followed: Sequence[Followed]) -> str:
    """A line for each clip."""
    return markdown(HEAD, [_cells(one) for one in all_followed])


def _cells(one: Followed) -> list[str]:
    return [
        one.name, f"{one.head:.0f}", f"{one.raw:.2f}", f"{one.wander:.2f}",
        f"{one.wander / max(one.head, 1e-9):.2%}", f"{one.size_wander:.2f}%", str(one.switches),
        str(one.tracks), str(one.appearances), f"{one.gaps} of {one.frames}",
    ]  # fmt: skip
