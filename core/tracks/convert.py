"""Tracks as SEGS, for nodes that know no tracks. `sources.by_segs` is the way back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..bounds import check_total, check_values
from ..geometry import Box, Rect, Size
from ..segs.seg import SEG, SEGS, BatchImage, of_image
from .masks import Met, parted_mask_in
from .occlusion import Occlusions, mostly_seen
from .track import Sighting, Track, Tracks

CLIPS, FRAMES = "video segments", "segments of each frame"
FORMS = (CLIPS, FRAMES)
ROUNDING = 1e-3  # pixels
_ALL_MASKS, _FEWER = "The masks of all tracks", "give fewer frames or tracks."


def to_segs(tracks: Tracks, form: str, gaps: bool = True) -> SEGS:
    """The tracks as SEGS; frames that are not used, or hide most of a track, are left out.

    Where tracks meet, and it is known which of them is nearer, their masks have no pixel in common.

    Args:
        form: CLIPS makes a segment of each track, with the box around all its windows as region
            and a mask for each frame, 0 where the track is not. FRAMES makes a segment for each
            frame of a track, which knows its frame.
        gaps: whether frames in which a track was not found are taken too.

    Raises:
        ValueError: the masks of a track, or of all together, would be too large.
    """
    header = tracks.size.height, tracks.size.width
    occlusions = Occlusions.of(tracks)
    shown = [
        _Shown.of(position, tracks, gaps, occlusions) for position in range(len(tracks.tracks))
    ]
    if form == CLIPS:
        shown = [own for own in shown if own.sightings]
        _check_clips(shown, tracks)
        return header, [_clip(own, tracks) for own in shown]
    singles = [(own, one) for own in shown for one in own.sightings]
    singles.sort(key=lambda pair: (pair[1].frame, pair[0].track.number))
    areas = [_region([one], tracks.size).area for _, one in singles]
    check_total(sum(areas), _ALL_MASKS, _FEWER.capitalize())
    return header, [_single(own, one, tracks) for own, one in singles]


@dataclass(frozen=True)
class _Shown:
    """A track, and what of it is taken over."""

    track: Track
    sightings: list[Sighting]
    met: Callable[[int], Met]  # what it meets in a frame

    @classmethod
    def of(cls, position: int, tracks: Tracks, gaps: bool, occlusions: Occlusions) -> _Shown:
        track, seen = tracks.tracks[position], occlusions.partly_seen(position)
        sightings = [
            one for one in _inside(track, tracks.size, gaps)
            if mostly_seen(seen.get(one.frame, 1.0))
        ]  # fmt: skip
        return cls(track, sightings, partial(occlusions.parted, position))

    def mask(self, one: Sighting, region: Box) -> np.ndarray:
        """The mask of a sighting in a region [h,w], without what nearer tracks cover."""
        return parted_mask_in(one, self.met(one.frame), region)


def _inside(track: Track, size: Size, gaps: bool) -> list[Sighting]:
    """The sightings of a track that show something of the frame."""
    return [
        one
        for one in track.sightings
        if one.used and (gaps or not one.gap)
        and not outer_box(one.window).clipped(size).empty
        and not outer_box(one.box).clipped(size).empty
    ]  # fmt: skip


def outer_box(rect: Rect) -> Box:
    """The smallest box of whole pixels around a rectangle, but for rounding errors."""
    left, top, right, bottom = rect.sides
    return Box(
        math.floor(left + ROUNDING), math.floor(top + ROUNDING), math.ceil(right - ROUNDING),
        math.ceil(bottom - ROUNDING),
    )  # fmt: skip


def _clip(own: _Shown, tracks: Tracks) -> SEG:
    """A segment of a video for a whole track."""
    size, sightings = tracks.size, own.sightings
    region = _region(sightings, size)
    bbox = _around([outer_box(one.box) for one in sightings]).clipped(size)
    mask = np.zeros((tracks.frames, region.height, region.width), np.float32)
    for one in sightings:
        mask[one.frame] = own.mask(one, region)
    sure = float(np.mean([one.confidence for one in sightings]))
    return SEG(None, mask, sure, region.as_tuple(), bbox.as_tuple(), own.track.label)


def _check_clips(shown: Sequence[_Shown], tracks: Tracks) -> None:
    """Raise unless the masks of all tracks may be made."""
    remedy, values = f"Choose '{FRAMES}', or {_FEWER}", 0
    for own in shown:
        size = _region(own.sightings, tracks.size).size
        check_values(tracks.frames, size, f"The masks of track {own.track.number + 1}", remedy)
        values += tracks.frames * size.width * size.height
    check_total(values, _ALL_MASKS, remedy)


def _single(own: _Shown, one: Sighting, tracks: Tracks) -> SEG:
    """A segment of one frame."""
    region, bbox = (outer_box(rect).clipped(tracks.size) for rect in (one.window, one.box))
    seg = SEG(
        None, own.mask(one, region), one.confidence, region.as_tuple(), bbox.as_tuple(),
        own.track.label,
    )  # fmt: skip
    return of_image(seg, BatchImage(one.frame, tracks.frames) if tracks.frames > 1 else None)


def _region(sightings: Sequence[Sighting], size: Size) -> Box:
    """The pixels of the frame around all windows."""
    return _around([outer_box(one.window) for one in sightings]).clipped(size)


def _around(boxes: Sequence[Box]) -> Box:
    result = boxes[0]
    for box in boxes[1:]:
        result = result.union(box)
    return result
