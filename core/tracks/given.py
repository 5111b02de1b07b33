"""What a user gives to follow: one kind of finds, with the frames or without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...utils.check import check_mask, check_segs
from ..clips import FrameSource
from ..detectors.detect import DetectionOptions
from ..geometry import Size
from ..segs.seg import image_size
from . import sources
from .follow import Clip, Finder

_SOURCES = "'bbox_detector', 'segm_detector', 'segs', 'masks', 'sam_tracks' or 'boxes'"
LABEL = "A"  # of things whose source has no labels


@dataclass(frozen=True)
class Found:
    """The inputs of which one says what is followed; the others are None."""

    bbox_detector: Any = None
    segm_detector: Any = None
    segs: Any = None
    masks: Any = None
    sam_tracks: Any = None
    boxes: Any = None

    @property
    def kind(self) -> str:
        """The name of the one that is given, "detector" for the first two.

        Raises:
            ValueError: none is given, or several.
        """
        named = {
            "detector": self.bbox_detector if self.segm_detector is None else self.segm_detector,
            "segs": self.segs, "masks": self.masks, "sam_tracks": self.sam_tracks,
            "boxes": self.boxes,
        }  # fmt: skip
        given = [name for name, value in named.items() if value is not None]
        if len(given) == 1:
            return given[0]
        if not given:
            raise ValueError(f"There is nothing to follow. Connect one of {_SOURCES}.")
        raise ValueError(
            f"Things to follow come from {' and '.join(given)}, which would follow each thing "
            f"several times. Connect only one of {_SOURCES}; the two detectors may go together."
        )

    @property
    def may_miss(self) -> bool:
        """Whether a thing may be there in a frame in which it was not found.

        Detectors miss things. What is given for single frames is taken as it is: where a user has
        cleared a mask, or left a segment out, nothing is to be followed.
        """
        return self.kind == "detector"


def clip_and_finder(
    source: FrameSource | None, found: Found, options: DetectionOptions
) -> tuple[Clip, Finder]:
    """The clip, and what is found in its frames.

    Args:
        source: the frames; None where there are none.
        options: of the detectors; the threshold is that of boxes too, the drop size that of boxes
            and masks.

    Raises:
        ValueError: not exactly one kind of finds is given, or one that needs what is not there.
    """
    kind = found.kind
    clip = None if source is None else Clip.of(source)
    if kind == "detector":
        if clip is None:
            raise ValueError(
                "A detector searches frames, but neither 'frames' nor 'video' is connected. "
                "Connect one of them."
            )
        return clip, sources.by_detectors(found.bbox_detector, found.segm_detector, options)
    if kind == "segs":
        check_segs(found.segs, "segs")
        clip = clip or Clip(sources.segs_frames(found.segs), image_size(found.segs))
        return clip, sources.by_segs(found.segs, clip.size, clip.count)
    if kind == "masks":
        masks = check_mask(found.masks, "masks")
        clip = clip or Clip(len(masks), Size(masks.shape[2], masks.shape[1]))
        return clip, sources.by_masks(masks, clip.size, clip.count, options.drop_size, LABEL)
    if kind == "sam_tracks":
        tracks = sources.SamTracks(found.sam_tracks)
        clip = clip or Clip(tracks.frames, tracks.size)
        return clip, tracks.finder(clip.size, clip.count, LABEL)
    if clip is None:
        raise ValueError(
            "'boxes' do not tell the size of the frames, and neither 'frames' nor 'video' is "
            "connected. Connect the frames in which the boxes were found."
        )
    least = options.bbox_threshold, options.drop_size
    return clip, sources.by_boxes(found.boxes, clip.count, *least)
