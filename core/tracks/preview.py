"""Tracks to look at: drawn into the frames, and as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from ...utils.indices import shown_indices
from ...utils.notes import note
from ..bounds import check_values
from ..clips import FrameSource, Watch, composed, frame_of
from ..geometry import Box, Rect, Size, within
from ..pixels.image import to_rgb
from ..pixels.marks import Pen, cover, distinct_colour, frame, made_tag, place_for_tag, put_tag
from ..pixels.resample import resize
from ..segs.image_batch import counted
from .occlusion import Occlusions
from .track import Sighting, Track, Tracks

MOST_SHOWN = 60  # frames of the preview in the node
SHOWN_SIDE = 512  # pixels of their longer side at most
_WINDOW, _BOX = 2, 1  # pixels of lines
_DASH = 6
_LINE = 13  # pixels of a tag's text in a picture of 512 pixels
_UNUSED = 0.45  # how much windows of frames that are left out are darkened
_BLACK = (0.0, 0.0, 0.0)
_CUT = (1.0, 1.0, 1.0)


def drawn(
    tracks: Tracks,
    source: FrameSource | None,
    longest: int,
    every: int = 1,
    occlusions: Occlusions | None = None,
) -> Iterator[torch.Tensor]:
    """The frames with windows, boxes, numbers and gaps, one after another: [1,h,w,3] 0..1.

    A window has a thick line and the number and label of its track, the box inside it a thin one.
    Lines are dashed in gaps. A window that is left out is dark, and tells why.

    Args:
        source: None draws on black.
        longest: pixels of the longer side of the pictures at most; 0 is no bound.
        every: only every so many frames are drawn.
        occlusions: of the tracks, where they are known already.
    """
    shown = shown_size(tracks.size, longest)
    count = tracks.frames if source is None else source.count
    occlusions = occlusions or Occlusions.of(tracks)
    for number in range(0, count, every):
        if source is None:
            picture = torch.zeros(1, shown.height, shown.width, 3)
        else:
            rgb, _ = to_rgb(composed(frame_of(source, number)))
            picture = resize(rgb.float(), shown).clone()
        draw(picture[0].clamp_(0, 1), tracks, number, occlusions)
        yield picture


def drawn_frames(
    tracks: Tracks,
    source: FrameSource | None,
    longest: int,
    every: int = 1,
    watch: Watch | None = None,
    occlusions: Occlusions | None = None,
) -> torch.Tensor:
    """The frames as of `drawn` in one batch [n,h,w,3], only every so many of them.

    Args:
        occlusions: as for `drawn`.
        watch: counts the frames that are drawn, and may stop between them.

    Raises:
        ValueError: they would be too large.
    """
    count = tracks.frames if source is None else source.count
    if count != tracks.frames:
        note(
            "tracks",
            f"The tracks were made for a clip of {counted(tracks.frames, 'frame')}, but are drawn "
            f"into {counted(count, 'frame')}: number i into frame i. Connect the clip that the "
            "tracks were made from.",
        )
    numbers = range(0, count, every)
    size = shown_size(tracks.size, longest)
    check_values(
        3 * len(numbers), size, "The pictures of the tracks",
        "Raise 'every', or lower 'longest_side'.",
    )  # fmt: skip
    result = torch.empty(len(numbers), size.height, size.width, 3)
    watch = watch or Watch()
    watch.begin(len(numbers))
    for place, picture in enumerate(drawn(tracks, source, longest, every, occlusions)):
        result[place] = picture[0]
        watch.done()
        watch.check()
    return result


def drawn_preview(pictures: torch.Tensor) -> list[torch.Tensor]:
    """Some of the pictures [n,h,w,3], small, for the preview in the node: each [1,h,w,3]."""
    step = max(1.0, len(pictures) / MOST_SHOWN)
    places = [int(place * step) for place in range(min(len(pictures), MOST_SHOWN))]
    size = shown_size(Size(pictures.shape[2], pictures.shape[1]), SHOWN_SIDE)
    return [resize(pictures[place : place + 1], size).clamp(0, 1) for place in places]


def shown_size(size: Size, longest: int) -> Size:
    """The size of the pictures of frames of a size."""
    return within(size, longest or max(size))


def draw(picture: torch.Tensor, tracks: Tracks, number: int, occlusions: Occlusions) -> None:
    """Draw what is known of a frame into a picture [h,w,3] of it, in place."""
    size = Size(picture.shape[1], picture.shape[0])
    line = max(9, round(_LINE * max(size) / 512))
    seen = [
        (position, track, one) for position, track in enumerate(tracks.tracks)
        if (one := track.at(number)) is not None
    ]  # fmt: skip
    for _, track, one in seen:
        _draw_window(picture, tracks, track, one)
    taken: list[Box] = []
    for position, track, one in seen:
        nearer = [tracks.tracks[at].number for at in occlusions.hiders(position, number)]
        tag = made_tag([(_title(track, one, nearer), line)])
        at = place_for_tag(tag.size, _scaled(one.window, tracks.size, size), size, taken)
        put_tag(picture, tag, at, distinct_colour(track.number))
        taken.append(at)
    if number in tracks.cuts:
        tag = made_tag([(f"cut at frame {number}", line)])
        place = Box(0, 0, *tag.size).shifted(size.width - tag.size.width, 0)
        put_tag(picture, tag, place, _CUT)


def _draw_window(picture: torch.Tensor, tracks: Tracks, track: Track, one: Sighting) -> None:
    size = Size(picture.shape[1], picture.shape[0])
    colour, dash = distinct_colour(track.number), _DASH if one.gap else 0
    window, box = (_scaled(rect, tracks.size, size) for rect in (one.window, one.box))
    if not one.used:
        cover(picture, window, _BLACK, _UNUSED)
    frame(picture, window, Pen(colour, _WINDOW, dash=dash))
    frame(picture, box, Pen(colour, _BOX, seam=0, dash=dash))


def _title(track: Track, one: Sighting, nearer: Sequence[int]) -> str:
    title = f"{track.number + 1} {track.label}"
    if one.gap:
        title += " (gap)"
    if nearer:
        title += f" (behind {', '.join(str(number + 1) for number in nearer)})"
    return title if one.used else f"{title} (left out)"


def _scaled(rect: Rect, old: Size, new: Size) -> Box:
    across, down = new.width / old.width, new.height / old.height
    left, top, right, bottom = rect.sides
    return Box(
        math.floor(left * across), math.floor(top * down), math.ceil(right * across),
        math.ceil(bottom * down),
    )  # fmt: skip


# As text


def tracks_text(tracks: Tracks, occlusions: Occlusions | None = None) -> str:
    """The tracks with their lengths, and why others were dropped, a line each.

    Args:
        occlusions: of the tracks, where they are known already.
    """
    size = tracks.size
    lines = [
        f"{counted(len(tracks.tracks), 'track')} in {counted(tracks.frames, 'frame')} of "
        f"{size.width}x{size.height}"
    ]
    if tracks.cuts:
        lines.append(
            f"{counted(len(tracks.cuts), 'cut')}: at frame {shown_indices(tracks.cuts, 20)}"
        )
    occlusions = occlusions or Occlusions.of(tracks)
    lines += [
        _line(track) + _hidden(tracks, position, occlusions)
        for position, track in enumerate(tracks.tracks)
    ]
    lines += [
        f"dropped: {one.label}, frames {one.first}-{one.last}: {one.reason}"
        for one in tracks.dropped
    ]
    return "\n".join(lines)


def _line(track: Track) -> str:
    frames = track.sightings
    sides = [min(one.box.width, one.box.height) for one in frames]
    gaps, left_out = sum(one.gap for one in frames), sum(not one.used for one in frames)
    text = (
        f"{track.number + 1} {track.label}: frames {track.first}-{track.last} ({len(frames)}), "
        f"{min(sides):.0f}-{max(sides):.0f} px"
    )
    if track.object_id is not None:
        text += f", object {track.object_id}"
    if gaps:
        text += f", {gaps} bridged"
    return f"{text}, {left_out} left out" if left_out else text


def _hidden(tracks: Tracks, position: int, occlusions: Occlusions) -> str:
    """In how many frames a track is partly hidden, and by which others."""
    frames = occlusions.partly_seen(position)
    if not frames:
        return ""
    hiders = {at for frame in frames for at in occlusions.hiders(position, frame)}
    numbers = sorted(tracks.tracks[at].number + 1 for at in hiders)
    return f", {len(frames)} behind {', '.join(map(str, numbers))}"
