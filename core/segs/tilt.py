"""The angle by which a segment leans, and the rotated crop that turns it upright."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ...utils.notes import note
from ..geometry import Box, Size
from ..pixels.mask import union
from ..pixels.rotated_crop import RotatedCrop, enclosing_box, rotated_rectangle
from ..settings import ANGLE, LANDMARKS, MASK, OFF, Upright
from .face_landmarks import eyes_in_box
from .seg import SEG, moved_mask, seg_mask

LEAST = math.radians(3)  # a segment that leans by less counts as upright
LONG = 1.15  # a shape has a long axis if it is at least this many times as long as wide


def with_rotated_crop(
    seg: SEG, upright: Upright, image: Size, row: int = 0, margin: int = 0
) -> tuple[SEG, RotatedCrop, Size] | None:
    """A segment with a crop region that contains the rotated crop around it.

    Args:
        seg: from `seg.normalise`. A SEG with its own picture keeps its crop region.
        upright: where the angle comes from.
        row: index of the segment's image in the node's batch.
        margin: the least number of pixels between the mask and the sides of the rotated crop.

    Returns:
        The segment, its rotated crop, and the size of the segment itself along the sides of the
        rotated crop, in pixels; None for a segment that is upright already.

    Raises:
        ValueError: as of `rotation_of`.
    """
    angle = rotation_of(seg, upright, image, row)
    if abs(angle) < LEAST:
        return None
    bbox, region = Box.of(seg.bbox), Box.of(seg.crop_region)
    covered = torch.nonzero(union(seg_mask(seg))[0])
    points = covered.flip(-1) + torch.tensor([region.x1, region.y1])
    factor = (region.width / bbox.width, region.height / bbox.height)
    centre, size, tight = rotated_rectangle(points, angle, factor, margin)
    wider = enclosing_box(centre, size, angle).union(bbox).clipped(image)
    if seg.cropped_image is not None:
        wider = region
    rotated = RotatedCrop(wider.size, (centre[0] - wider.x1, centre[1] - wider.y1), size, angle)
    seg = seg._replace(
        crop_region=wider.as_tuple(), cropped_mask=moved_mask(seg.cropped_mask, region, wider)
    )
    return seg, rotated, Size(*(max(1, round(side)) for side in tight))


def rotation_of(seg: SEG, upright: Upright, image: Size, row: int = 0) -> float:
    """The angle in radians by which a segment leans clockwise; 0 if it is not known.

    Raises:
        ValueError: `upright.source` is unknown, or asks for landmarks that are missing.
    """
    if upright.source == OFF:
        return 0.0
    if upright.source == ANGLE:
        return math.radians(upright.angle)
    if upright.source == MASK:
        return _long_axis(union(seg_mask(seg))[0])
    if upright.source == LANDMARKS:
        return _by_eyes(seg, upright.landmarks, image, row)
    raise ValueError(
        f"'upright' is {upright.source!r}, which does not exist. Choose one of: "
        f"{', '.join((OFF, MASK, LANDMARKS, ANGLE))}."
    )


def _long_axis(shape: torch.Tensor) -> float:
    """The angle between the vertical and the long axis of a shape [h,w], by second moments."""
    points = torch.nonzero(shape >= 0.5).double()  # y, x
    if len(points) < 3:
        return 0.0
    spread = torch.cov(points.T)
    lengths, axes = torch.linalg.eigh(spread)
    if lengths[1] < lengths[0] * LONG**2:
        return 0.0
    down, across = axes[:, 1].tolist()
    return math.remainder(math.atan2(-across, down), math.pi)


def _by_eyes(seg: SEG, landmarks: Any, image: Size, row: int) -> float:
    """The angle of the line through the eyes of the face in a segment's box."""
    if landmarks is None:
        raise ValueError(
            "'face_landmarks' is missing, which 'upright' landmarks goes by. Connect 'Face "
            "Landmarks (MTCNN)' or ComfyUI's 'Detect Face Landmarks (MediaPipe)', or choose "
            "another 'upright'."
        )
    bbox = Box.of(seg.bbox)
    middle = np.array([(bbox.x1 + bbox.x2) / 2, (bbox.y1 + bbox.y2) / 2])
    faces = [
        (float(np.abs((right + left) / 2 - middle).sum()), right, left)
        for right, left in eyes_in_box(landmarks, image, row, bbox)
    ]
    if not faces:
        note(
            "upright",
            f"The crop of the box {bbox.as_tuple()} is not turned: no landmarks are in it.",
        )
        return 0.0
    _, right, left = min(faces, key=lambda face: face[0])
    across, down = (left - right).tolist()
    return math.atan2(down, across)
