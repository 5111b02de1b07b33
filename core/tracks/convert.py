"""Tracks as SEGS, for nodes that know no tracks. `sources.by_segs` is the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..bounds import check_values
from ..geometry import Box, Rect, Size
from ..segs.seg import SEG, SEGS, BatchImage, moved_mask, of_image
from .track import Sighting, Track, Tracks
from .windows import covered

CLIPS, FRAMES = "video segments", "segments of each frame"
FORMS = (CLIPS, FRAMES)
ROUNDING = 1e-3  # pixels


def to_segs(tracks: Tracks, form: str, gaps: bool = True) -> SEGS:
    """The tracks as SEGS; frames that are not used are left out.

    Args:
        form: CLIPS makes a segment of each track, with the box around all its windows as region
            and a mask for each frame, 0 where the track is not. FRAMES makes a segment for each
            frame of a track, which knows its frame.
        gaps: whether frames in which a track was not found are taken too.

    Raises:
        ValueError: the masks of a track would be too large.
    """
    header = tracks.size.height, tracks.size.width
    shown = [(track, _shown(track, tracks.size, gaps)) for track in tracks.tracks]
    if form == CLIPS:
        return header, [_clip(track, own, tracks) for track, own in shown if own]
    singles = [(track, one) for track, own in shown for one in own]
    singles.sort(key=lambda pair: (pair[1].frame, pair[0].number))
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
    region = _around([outer_box(one.window) for one in sightings]).clipped(size)
    bbox = _around([outer_box(one.box) for one in sightings]).clipped(size)
    check_values(
        tracks.frames, region.size, f"The masks of track {track.number + 1}",
        f"Choose '{FRAMES}', or give fewer frames.",
    )  # fmt: skip
    mask = np.zeros((tracks.frames, region.height, region.width), np.float32)
    for one in sightings:
        mask[one.frame] = mask_in(one, region)
    sure = float(np.mean([one.confidence for one in sightings]))
    return SEG(None, mask, sure, region.as_tuple(), bbox.as_tuple(), track.label)


def _single(track: Track, one: Sighting, tracks: Tracks) -> SEG:
    """A segment of one frame."""
    region, bbox = (outer_box(rect).clipped(tracks.size) for rect in (one.window, one.box))
    seg = SEG(
        None, mask_in(one, region), one.confidence, region.as_tuple(), bbox.as_tuple(), track.label
    )
    return of_image(seg, BatchImage(one.frame, tracks.frames) if tracks.frames > 1 else None)


def _around(boxes: Sequence[Box]) -> Box:
    result = boxes[0]
    for box in boxes[1:]:
        result = result.union(box)
    return result
