"""Tracks as SEGS, for nodes that know no tracks. `sources.by_segs` is the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..bounds import check_total, check_values
from ..geometry import Box, Rect, Size
from ..segs.seg import SEG, SEGS, BatchImage, moved_mask, of_image
from .track import Sighting, Track, Tracks
from .windows import covered

CLIPS, FRAMES = "video segments", "segments of each frame"
FORMS = (CLIPS, FRAMES)
ROUNDING = 1e-3  # pixels
_ALL_MASKS, _FEWER = "The masks of all tracks", "give fewer frames or tracks."


def to_segs(tracks: Tracks, form: str, gaps: bool = True) -> SEGS:
    """The tracks as SEGS; frames that are not used are left out.

    Args:
        form: CLIPS makes a segment of each track, with the box around all its windows as region
            and a mask for each frame, 0 where the track is not. FRAMES makes a segment for each
            frame of a track, which knows its frame.
        gaps: whether frames in which a track was not found are taken too.

    Raises:
        ValueError: the masks of a track, or of all together, would be too large.
    """
    header = tracks.size.height, tracks.size.width
    shown = [(track, _shown(track, tracks.size, gaps)) for track in tracks.tracks]
    if form == CLIPS:
        shown = [(track, own) for track, own in shown if own]
        _check_clips(shown, tracks)
        return header, [_clip(track, own, tracks) for track, own in shown]
    singles = [(track, one) for track, own in shown for one in own]
    singles.sort(key=lambda pair: (pair[1].frame, pair[0].number))
    areas = [_region([one], tracks.size).area for _, one in singles]
    check_total(sum(areas), _ALL_MASKS, _FEWER.capitalize())
    return header, [_single(track, one, tracks) for track, one in singles]


def _shown(track: Track, size: Size, gaps: bool) -> list[Sighting]:
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


def mask_in(sighting: Sighting, region: Box) -> np.ndarray:
    """The mask of a sighting in a region of the frame: [h,w] float32, 0..1."""
    packed = sighting.mask or covered(sighting.box, 0)
    if packed is None:
        return np.zeros((region.height, region.width), np.float32)
    return moved_mask(packed.unpacked().astype(np.float32), packed.box, region)


def _clip(track: Track, sightings: Sequence[Sighting], tracks: Tracks) -> SEG:
    """A segment of a video for a whole track."""
    size = tracks.size
    region = _region(sightings, size)
    bbox = _around([outer_box(one.box) for one in sightings]).clipped(size)
    mask = np.zeros((tracks.frames, region.height, region.width), np.float32)
    for one in sightings:
        mask[one.frame] = mask_in(one, region)
    sure = float(np.mean([one.confidence for one in sightings]))
    return SEG(None, mask, sure, region.as_tuple(), bbox.as_tuple(), track.label)


def _check_clips(shown: Sequence[tuple[Track, list[Sighting]]], tracks: Tracks) -> None:
    """Raise unless the masks of all tracks may be made."""
    remedy, values = f"Choose '{FRAMES}', or {_FEWER}", 0
    for track, own in shown:
        size = _region(own, tracks.size).size
        check_values(tracks.frames, size, f"The masks of track {track.number + 1}", remedy)
        values += tracks.frames * size.width * size.height
    check_total(values, _ALL_MASKS, remedy)


def _single(track: Track, one: Sighting, tracks: Tracks) -> SEG:
    """A segment of one frame."""
    region, bbox = (outer_box(rect).clipped(tracks.size) for rect in (one.window, one.box))
    seg = SEG(
        None, mask_in(one, region), one.confidence, region.as_tuple(), bbox.as_tuple(), track.label
    )
    return of_image(seg, BatchImage(one.frame, tracks.frames) if tracks.frames > 1 else None)


def _region(sightings: Sequence[Sighting], size: Size) -> Box:
    """The pixels of the frame around all windows."""
    return _around([outer_box(one.window) for one in sightings]).clipped(size)


def _around(boxes: Sequence[Box]) -> Box:
    result = boxes[0]
    for box in boxes[1:]:
        result = result.union(box)
    return result
