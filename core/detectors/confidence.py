"""How sure a detector is of what a segment's picture shows."""

from __future__ import annotations

from typing import Any

from ..geometry import Box, Size
from ..pixels.image import to_rgb
from ..segs.seg import SEG, box_in_picture, confidence, own_picture
from .given import found_by

_LEAST = 0.05  # finds that the detector is less sure of are not asked for
_INSIDE = 0.5  # how much of a find has to lie in the segment's box


def confidence_in(seg: SEG, detector: Any, name: str = "bbox_detector") -> float | None:
    """The highest confidence, 0..1, of what a BBOX_DETECTOR finds in a segment's box.

    Of several pictures, such as the frames of a clip, it is the mean. What it finds elsewhere in
    the crop, such as the face of a neighbour, does not count.

    Args:
        name: the input's name, for errors.

    Returns:
        0.0 where it finds nothing there; None for a segment without a picture.

    Raises:
        ValueError, RuntimeError: the detector gave no SEGS, or raised.
    """
    picture = own_picture(seg)
    if picture is None:
        return None
    rgb, _ = to_rgb(picture)
    if Box.of(seg.crop_region).empty:
        return None
    box = box_in_picture(seg, Size(rgb.shape[2], rgb.shape[1]))
    best = []
    for image in rgb.split(1):
        _, found = found_by(detector, name, image, _LEAST, 0, 1.0, 1)
        best.append(max((confidence(find) for find in found if _is_in(find, box)), default=0.0))
    return sum(best) / len(best)


def _is_in(find: SEG, box: Box) -> bool:
    own = Box.of(find.bbox)
    if own.empty or box.empty:
        return False
    return own.intersection(box).area >= _INSIDE * own.area
