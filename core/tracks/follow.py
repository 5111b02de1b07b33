"""Follow things through the frames of a clip: find, link, smooth, choose.

The clip is read in slices, twice: to find things and cuts, and to measure how the things move. Of
the frames only numbers are kept, so that the memory does not depend on the length of the clip but
for the tracks themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ...utils.notes import note
from ..clips import FrameSource, Watch, at_once, frames_of
from ..geometry import Size
from ..segs.image_batch import counted
from ..segs.seg import labels_meant
from .appearance import KeptLooks, looks_of, unlike_mean
from .association import Linking, linked, without_long_gaps
from .crossings import untangled
from .cuts import Cuts, frame_looks
from .finds import Chain, Find
from .links import Link, Links, measure
from .track import Dropped, Track, Tracks
from .windows import (
    Course,
    Shaping,
    course_of,
    doubted,
    frames_at_ends,
    hidden_frames,
    meetings,
    seen_only,
    sightings_of,
    with_motion,
)

SLICE = 8  # frames that are read at once
SLICE_VALUES = 2**25  # values of them at most (128 MB in float32)
NOTE = "tracks"  # kind of the notes of this module
_MOST_TOLD = 8  # dropped tracks that a note names

LEFT_TO_RIGHT, LONGEST_FIRST, FIRST_SEEN = "left to right", "longest first", "first seen"
_Key = Callable[[Track], object]


def _middle(track: Track) -> tuple[float, float]:
    boxes = [one.box for one in track.sightings]
    return float(np.median([box.x for box in boxes])), float(np.median([box.y for box in boxes]))


def _area(track: Track) -> float:
    return float(np.median([one.box.width * one.box.height for one in track.sightings]))


def _confidence(track: Track) -> float:
    return float(np.mean([one.confidence for one in track.sightings if not one.gap]))


# Name -> key of an ascending order. Of equals the one that was seen first comes first.
ORDERS: dict[str, _Key] = {
    LEFT_TO_RIGHT: lambda track: _middle(track)[0],
    "right to left": lambda track: -_middle(track)[0],
    "top to bottom": lambda track: _middle(track)[1],
    "bottom to top": lambda track: -_middle(track)[1],
    "largest first": lambda track: -_area(track),
    "smallest first": _area,
    LONGEST_FIRST: lambda track: -track.seen,
    FIRST_SEEN: lambda track: track.first,
    "most confident first": lambda track: -_confidence(track),
}


@dataclass(frozen=True)
class Choosing:
    """Which tracks are kept.

    Attributes:
        min_frames: in how many frames a thing has to be found at least; where a shot is shorter, in
            all of its frames.
        order: one of ORDERS.
        limit: how many tracks are kept at most, the first in the order; 0 is all.
    """

    min_frames: int = 5
    order: str = LEFT_TO_RIGHT
    limit: int = 0


@dataclass(frozen=True)
class Following:
    """How things are followed.

    Attributes:
        labels: of the things that are followed, as `seg.filter_by_labels` reads them.
        cut_threshold: the least change of the whole frame at a cut, 0..1; 1 finds none.
        may_miss: things may be there in frames in which they were not found. Then tracks go on to
            the ends of a shot as long as the pixels show the thing.
    """

    linking: Linking = field(default_factory=Linking)
    shaping: Shaping = field(default_factory=Shaping)
    choosing: Choosing = field(default_factory=Choosing)
    labels: str = "all"
    cut_threshold: float = 0.2
    may_miss: bool = True


@dataclass(frozen=True)
class Clip:
    """The frames in which things are followed.

    Attributes:
        source: None where only what was found is known, and no pixel.
    """

    count: int
    size: Size
    source: FrameSource | None = None

    @classmethod
    def of(cls, source: FrameSource) -> Clip:
        """The clip of a source."""
        return cls(source.count, source.size, source)


# The finds in a frame, by its number and pixels [1,H,W,C], which are None without a source.
Finder = Callable[[int, torch.Tensor | None], Sequence[Find]]


def follow(clip: Clip, finder: Finder, how: Following, watch: Watch | None = None) -> Tracks:
    """The tracks of what is found in the frames of a clip.

    The user is told if nothing is found, and of tracks that were dropped.

    Args:
        watch: its bar counts the frames that were searched, and those in which motion was measured.
            It is asked between frames whether to stop.
    """
    watch = watch or Watch()
    measured = clip.source is not None and how.shaping.follows_pixels
    watch.begin(clip.count * (2 if measured else 1))
    finds, cuts = _searched(clip, finder, how, watch)
    finds = _labelled(finds, how.labels)
    chains = _chains(finds, cuts, how.linking)
    shots = _shots(clip.count, cuts)
    kept, dropped = _long_enough(chains, shots, how.choosing.min_frames)
    if measured:
        most = how.linking.max_gap if how.may_miss else 0
        courses = [
            course_of(chain, how.shaping, frames_at_ends(chain, _shot_of(chain, shots), most))
            for chain in kept
        ]
        courses = [
            with_motion(course, own, how.shaping)
            for course, own in _measured(clip.source, courses, watch)
        ]
    else:
        courses = [course_of(chain, how.shaping) for chain in kept]
    tracks = [_track(course, how.shaping, clip.size) for course in courses]
    tracks, beyond = _chosen(tracks, how.choosing)
    result = Tracks(clip.size, clip.count, tuple(tracks), cuts, tuple(dropped + beyond))
    _tell(result, sum(map(len, finds)))
    watch.end()
    return result


# Reading the clip


def _searched(
    clip: Clip, finder: Finder, how: Following, watch: Watch
) -> tuple[list[list[Find]], tuple[int, ...]]:
    """The finds of each frame, and the cuts."""
    finds: list[list[Find]] = []
    cuts, looks = Cuts(how.cut_threshold), KeptLooks()

    def search(slice_: range) -> None:  # so that its frames are free before the next ones are read
        frames = None if clip.source is None else clip.source.read(slice_.start, slice_.stop)
        if frames is not None and cuts.wanted:
            cuts.add(frame_looks(frames))
        for place, number in enumerate(slice_):
            watch.check()
            frame = None if frames is None else frames[place : place + 1]
            finds.append(_with_looks(finder(number, frame), frame, looks))
            watch.done()

    for each in _slices(clip.count, clip.size):
        search(each)
    return finds, cuts.first_frames()


def _slices(count: int, size: Size) -> Iterator[range]:
    """The numbers of the frames that are read at once."""
    step = at_once(size, SLICE, SLICE_VALUES)
    for start in range(0, count, step):
        yield range(start, min(start + step, count))


def _labelled(finds: Sequence[Sequence[Find]], labels: str) -> list[list[Find]]:
    """The finds with one of the labels."""
    wanted = labels_meant(labels, {find.label for own in finds for find in own})
    return [[find for find in own if wanted is None or find.label in wanted] for own in finds]


def _with_looks(finds: Sequence[Find], frame: torch.Tensor | None, kept: KeptLooks) -> list[Find]:
    if frame is None or not finds:
        return list(finds)
    looks = looks_of(frame, [find.box for find in finds])
    return [
        replace(find, looks=None if own is None else kept.keep(own))
        for find, own in zip(finds, looks, strict=True)
    ]


def _measured(
    source: FrameSource, courses: Sequence[Course], watch: Watch
) -> list[tuple[Course, list[Link]]]:
    """Each course as far as the thing is seen, and what moved between pairs of its frames."""
    met = _meetings(courses)
    things = [
        Links(course.first, course.boxes, hidden_frames(course, own))
        for course, own in zip(courses, met, strict=True)
    ]
    for each in _slices(source.count, source.size):
        here = [
            thing for thing, course in zip(things, courses, strict=True)
            if course.first < each.stop and each.start <= course.last
        ]  # fmt: skip
        if here:
            measure(here, frames_of(source, each.start, each.stop), each.start, watch.check)
        watch.done(len(each))
    seen = [
        seen_only(course, thing.found, own)
        for course, thing, own in zip(courses, things, met, strict=True)
    ]
    met = _meetings([course for course, _ in seen])
    return [(course, doubted(links, own)) for (course, links), own in zip(seen, met, strict=True)]


def _meetings(courses: Sequence[Course]) -> list[list[bool]]:
    """For the frames of each course whether it meets another one there."""
    return [meetings(course, _sharing(course, courses)) for course in courses]


def _sharing(course: Course, courses: Sequence[Course]) -> list[Course]:
    """The other courses that share frames with one."""
    return [
        other for other in courses
        if other is not course and other.first <= course.last and course.first <= other.last
    ]  # fmt: skip


# From finds to tracks


def _shots(count: int, cuts: Sequence[int]) -> list[range]:
    """The frames of each shot; a cut is the first frame of one."""
    ends = [*cuts, count]
    return [range(*pair) for pair in zip([0, *cuts], ends, strict=True)]


def _chains(finds: Sequence[Sequence[Find]], cuts: Sequence[int], how: Linking) -> list[Chain]:
    chains = []
    for shot in _shots(len(finds), cuts):
        for chain in untangled(linked([finds[frame] for frame in shot], how)):
            chains += without_long_gaps(chain, how)
    return chains


def _shot_of(chain: Chain, shots: Sequence[range]) -> range:
    return next(shot for shot in shots if chain[0].frame in shot)


def _long_enough(
    chains: Sequence[Chain], shots: Sequence[range], least: int
) -> tuple[list[Chain], list[Dropped]]:
    kept, dropped = [], []
    for chain in chains:
        shot = _shot_of(chain, shots)
        needed = min(least, len(shot))
        if len(chain) >= needed:
            kept.append(chain)
            continue
        reason = f"found in {len(chain)} of at least {needed} frames (min_frames)"
        dropped.append(Dropped(_label(chain), chain[0].frame, chain[-1].frame, reason))
    return kept, dropped


def _label(chain: Chain) -> str:
    """The most frequent label, of equally frequent ones the first."""
    labels = [find.label for find in chain]
    return max(dict.fromkeys(labels), key=labels.count)


def _track(course: Course, shaping: Shaping, size: Size) -> Track:
    finds = [find for find in course.finds if find is not None]
    looks = unlike_mean([None if find is None else find.looks for find in course.finds])
    sightings = tuple(
        replace(own, unlike=value)
        for own, value in zip(sightings_of(course, shaping, size), looks, strict=True)
    )
    return Track(0, _label(finds), sightings, finds[0].object_id)


def _chosen(tracks: Sequence[Track], how: Choosing) -> tuple[list[Track], list[Dropped]]:
    """The tracks that are kept, in their order and numbered."""
    ordered = sorted(sorted(tracks, key=lambda track: track.first), key=ORDERS[how.order])
    most = how.limit or len(ordered)
    kept = [replace(track, number=number) for number, track in enumerate(ordered[:most])]
    reason = f"beyond the limit of {how.limit} (limit, in the order '{how.order}')"
    return kept, [Dropped(track.label, track.first, track.last, reason) for track in ordered[most:]]


def _tell(tracks: Tracks, finds: int) -> None:
    if not finds:
        note(
            NOTE,
            f"Nothing was found in {counted(tracks.frames, 'frame')}, so there is no track. Lower "
            "the threshold, or check the labels, the detector and the masks.",
        )
    if tracks.dropped:
        told = [
            f"{one.label} in frames {one.first}-{one.last}: {one.reason}"
            for one in tracks.dropped[:_MOST_TOLD]
        ]
        more = len(tracks.dropped) - len(told)
        note(
            NOTE,
            f"Dropped: {counted(len(tracks.dropped), 'track')}. " + "; ".join(told)
            + (f"; and {more} more" if more else "") + ".",
        )  # fmt: skip
    unused = [t.number + 1 for t in tracks.tracks if not any(s.used for s in t.sightings)]
    if unused:
        note(
            NOTE,
            f"No frame of {counted(len(unused), 'track')} is used, because what is followed is "
            "smaller than min_size or larger than max_size throughout: "
            f"{', '.join(map(str, unused[:20]))}.",
        )
